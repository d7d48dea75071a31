"""Images whose pixels have changed places: what is left of them to a network that looks at
neighbours, and to one that does not."""

import zlib
from dataclasses import replace

import numpy as np

from cnnjax.core.errors import Refused
from cnnjax.data.dataset import AnyDataset, Dataset
from cnnjax.data.examples import Examples


def permuted(dataset: AnyDataset, seed: int) -> Dataset:
    """`dataset` with one permutation of the places of all pixels, the same for every image.

    Raises:
      Refused: the set is streamed.
    """
    if not isinstance(dataset, Dataset):
        raise Refused(
            f"data.permute_pixels={seed}: {dataset.name} is streamed; it is for sets in memory"
        )
    height, width, _ = dataset.image_shape
    raw = np.random.Philox(key=[seed, zlib.crc32(b"permute_pixels")]).random_raw(height * width)
    order = np.argsort(raw, kind="stable")

    def moved(examples: Examples) -> Examples:
        images = examples.arrays["images"]
        rows = images.reshape(len(images), height * width, -1)[:, order]
        return Examples({**examples.arrays, "images": rows.reshape(images.shape)})

    return replace(
        dataset,
        name=f"{dataset.name} (permuted)",
        source=f"{dataset.source} (permute_pixels={seed})",
        train=moved(dataset.train),
        test=moved(dataset.test),
    )
