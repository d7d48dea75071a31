"""Data of one's own: FILE.npz, and a function that gives a `Dataset`."""

import inspect
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from cnnjax.core.errors import Refused, one_line
from cnnjax.core.user_code import load_object, located, refused
from cnnjax.data.dataset import UNNAMED, Dataset

FORMS = "a folder of images is folder:DIR, arrays are FILE.npz, a function is FILE.py:function"
_ARRAYS = ".npz"
_FUNCTION = re.compile(r"(.*\.py|[^\W\d]\w*(\.[^\W\d]\w*)*):[^:]*", re.DOTALL)
_SPLITS, _NAMES = ("train_", "test_"), "label_names"
_WANTED = "train_images, train_labels, test_images, test_labels"


def is_own(name: str) -> bool:
    """Whether a data set's name is a file of arrays or a function."""
    return name.endswith(_ARRAYS) or _FUNCTION.fullmatch(name) is not None


def load_own(name: str) -> Dataset:
    """The set in FILE.npz, or what FILE.py:function or package.module:function gives.

    Raises:
      Refused: there is none, it cannot be read, its function raises or gives something else, or
        its arrays are no data set.
    """
    return _arrays(name) if name.endswith(_ARRAYS) else _given(name)


def _given(name: str) -> Dataset:
    function, _ = load_object(name, "data")  # what it gives is known by its content
    if not callable(function):
        raise Refused(
            f"--data {name} is of type {type(function).__name__}; give a function without"
            " arguments that returns a Dataset"
        )
    if required := _required(function):
        raise Refused(
            f"--data {name} requires {', '.join(required)}; give a function without required"
            " arguments"
        )
    with refused(f"--data {name}"):
        found = function()
    if not isinstance(found, Dataset):
        raise Refused(
            f"--data {name} returns what is of type {type(found).__name__}; it is to return"
            ' Dataset.from_arrays({"images": ..., "labels": ...}, {...}) (from cnnjax import'
            " Dataset)"
        )
    named = name if found.name == UNNAMED else found.name
    return replace(found, name=named, source=name)


def _required(function: Callable) -> list[str]:
    """The names of the arguments without which it cannot be called."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # of some built in there is none
        return []
    return [
        one.name
        for one in parameters
        if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]


def _arrays(name: str) -> Dataset:
    arrays = _read(name)
    names = arrays.pop(_NAMES, None)
    train, test = (
        {key.removeprefix(split): a for key, a in arrays.items() if key.startswith(split)}
        for split in _SPLITS
    )
    both = [split + field for field in {**train, **test} for split in _SPLITS if test]
    wanted = ["train_images", *both]
    strange = [key for key in arrays if not key.startswith(_SPLITS)]
    for key in wanted:
        if key not in arrays:
            there = ", ".join(sorted(arrays)) or "nothing"
            raise Refused(
                f"--data {name} has no {key} (there is {there}); name its arrays {_WANTED}"
            )
    if strange:
        raise Refused(
            f"--data {name} has {strange[0]}, which is of no split; it has {_WANTED}, further"
            f" train_X and test_X, and {_NAMES}"
        )
    if names is not None and (names.ndim != 1 or names.dtype.kind not in "USiu"):
        raise Refused(
            f"--data {name}: {_NAMES} is {names.dtype}{list(names.shape)}; give names [n]"
        )
    if names is not None and names.dtype.kind == "S":
        names = np.char.decode(names, "utf-8", "replace")
    listed = None if names is None else [str(one) for one in names]
    return replace(
        Dataset.from_arrays(train, test or None, name=name, label_names=listed),
        source=f"arrays of {located(name).name}",
    )


def _read(name: str) -> dict[str, np.ndarray]:
    """The arrays in a file, by key; a pickle is never opened."""
    path = located(name)
    if not path.is_file():
        raise Refused(f"--data {name}: there is no file {path}; give the path of an .npz file")
    key = ""
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no zip of arrays, as np.savez writes it")
        with np.load(path, allow_pickle=False) as archive:
            arrays: dict[str, np.ndarray] = {}
            for key in archive.files:
                arrays[key] = archive[key]
                if not isinstance(arrays[key], np.ndarray):  # numpy gives the bytes of other files
                    raise ValueError("that is no array")
            return arrays
    except Exception as error:  # of cut and damaged files numpy and zipfile raise many kinds
        if "allow_pickle" in str(error) and key:
            raise Refused(
                f"--data {name}: {key} holds Python objects (a pickle), which are never opened;"
                " write an array of numbers"
            ) from None
        at = f" at {key}" if key else ""
        raise Refused(
            f"--data {name} cannot be read{at}; it is another kind of file, cut or damaged"
            f" ({one_line(error)})"
        ) from None
