"""scikit-learn's 1,797 handwritten digits, 8x8 grey (Alpaydin & Kaynak 1998, UCI): no download."""

from importlib.metadata import version
from typing import Any

import numpy as np

from cnnjax.core.errors import Refused
from cnnjax.data.dataset import Dataset, Examples
from cnnjax.data.kept import kept_arrays

_DIVISION = 1  # of the parts in the cache; another division, another number


def load_digits() -> Dataset:
    """Three quarters for training, one for testing, stratified by class; always the same split."""
    arrays = _arrays()
    train, test = (
        Examples.of(images=arrays[f"{part}_images"], labels=arrays[f"{part}_labels"])
        for part in ("train", "test")
    )
    return Dataset(
        name="digits",
        train=train,
        test=test,
        label_names=tuple(str(digit) for digit in range(10)),
        max_value=16,
        augmentation="none",  # a flip or a shift makes another digit
        source="scikit-learn's bundled copy of Alpaydin & Kaynak 1998 (UCI), 8x8 grey",
    )


def _arrays() -> dict[str, np.ndarray]:
    """Both parts. They are kept: scikit-learn takes most of a second to import, in every process
    of a study."""
    try:
        return kept_arrays(f"digits-{_DIVISION}-{version('scikit-learn')}", _divided)
    except Refused:  # no cache can be written
        return _divided()


def _divided() -> dict[str, np.ndarray]:
    from sklearn.datasets import load_digits as load
    from sklearn.model_selection import train_test_split

    bunch: Any = load()
    images = np.asarray(bunch.images, np.uint8)[..., None]
    labels = np.asarray(bunch.target, np.int32)
    train, test = train_test_split(
        np.arange(len(labels)), train_size=0.75, random_state=0, stratify=labels
    )
    parts = {"train": train, "test": test}
    return {
        f"{part}_{name}": array[rows]
        for part, rows in parts.items()
        for name, array in (("images", images), ("labels", labels))
    }
