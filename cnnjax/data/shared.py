"""A data set in memory, written once for many processes: each maps the same pages.

A folder holds an uncompressed .npy for each split and field, and dataset.json, written last: the
description, sealed by its digest, with the fingerprint. Readers trust the fingerprint: the folder
is the writer's own, and lives as long as its processes.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.core.errors import Failed, one_line
from cnnjax.core.files import read_sealed, write_sealed
from cnnjax.data.dataset import Dataset, LeftOut
from cnnjax.data.examples import Examples

_ABOUT = "dataset.json"
_SPLITS = ("train", "test")


def write_shared(dataset: Dataset, folder: Path) -> None:
    """Write `dataset` into `folder`, which is there and empty.

    Raises:
      OSError: a full disk, no permission.
    """
    for split in _SPLITS:
        for name, array in getattr(dataset, split).arrays.items():
            np.save(_file(folder, split, name), array, allow_pickle=False)
    about = {
        "name": dataset.name,
        "label_names": list(dataset.label_names),
        "max_value": dataset.max_value,
        "augmentation": dataset.augmentation,
        "source": dataset.source,
        "left_out": [asdict(one) for one in dataset.left_out],
    }
    fields = list(dataset.fields)
    write_sealed(
        folder / _ABOUT, {"about": about, "fields": fields, "fingerprint": dataset.fingerprint}
    )


def read_shared(folder: Path) -> Dataset:
    """What `write_shared` wrote, its arrays mapped from the files and not copied.

    Raises:
      Failed: it is not there, or damaged.
    """
    try:
        stored = read_sealed(folder / _ABOUT)
        train, test = (Examples(_mapped(folder, split, stored["fields"])) for split in _SPLITS)
    except (OSError, ValueError) as error:
        raise Failed(f"{folder} holds no data set that can be read: {one_line(error)}") from error
    about: dict[str, Any] = stored["about"]
    about["label_names"] = tuple(about["label_names"])
    about["left_out"] = tuple(LeftOut(**one) for one in about["left_out"])
    dataset = Dataset(**about, train=train, test=test)
    vars(dataset)["fingerprint"] = stored["fingerprint"]  # the cached property's own place
    return dataset


def _mapped(folder: Path, split: str, fields: list[str]) -> dict[str, np.ndarray]:
    return {
        name: np.load(_file(folder, split, name), mmap_mode="r", allow_pickle=False)
        for name in fields
    }


def _file(folder: Path, split: str, name: str) -> Path:
    return folder / f"{split}-{name}.npy"
