"""A user's own arrays as the arrays of a data set: without loss, or refused with the cure."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from cnnjax.core.errors import Refused

_NARROW = {"int64": np.int32, "uint64": np.uint32, "float64": np.float32}


def as_arrays(given: Any, where: str, max_value: int) -> dict[str, np.ndarray]:
    """`given` as the arrays of a split: images uint8 [n, h, w, c], labels int32, further fields.

    Numbers of 64 bits become 32 bits wide, as jax computes: integers where they fit, else refused;
    floats are rounded.

    Args:
      where: of the split, for messages: "data set mine: train".
      max_value: the value of a fully bright pixel.
    """
    if not isinstance(given, Mapping):
        raise Refused(
            f"{where} is a {type(given).__name__}; give a dict of arrays,"
            ' {"images": ..., "labels": ...}'
        )
    if "images" not in given:
        there = ", ".join(map(str, given)) or "nothing"
        raise Refused(f"{where} has no images (there is {there}); name one array images")
    converted = {}
    for name, value in given.items():
        what = f"{where} {name}"
        try:
            array = np.asarray(value)
        except Exception as error:  # of a user's own kind of array
            raise Refused(f"{what}: no array can be made of it ({error})") from None
        if array.dtype.kind not in "biuf":
            raise Refused(f"{what} are of dtype {array.dtype}; give an array of numbers")
        how = {"images": _images, "labels": _labels}.get(name)
        array = how(array, what, max_value) if how else _field(array, what)
        converted[str(name)] = array.astype(array.dtype.newbyteorder("="), copy=False)
    lengths = {name: array.shape[:1] for name, array in converted.items()}
    for name, length in lengths.items():
        if length != lengths["images"]:
            raise Refused(
                f"{where} has {lengths['images'][0]:,} images and {name}"
                f" {list(converted[name].shape)}; each array has a row for every image"
            )
    return converted


def class_names(
    given: Iterable[str] | None, labels: np.ndarray | None, where: str, *, other: bool = False
) -> tuple:
    """The name of each class; by default its number.

    Args:
      labels: of the training set, if it has any.
      other: a further field holds classes, which are named and not counted.
      where: for messages: "data set mine: ".
    """
    if labels is None and not other:
        if given is not None and tuple(given):
            raise Refused(f"{where}label_names name the classes of labels, and there are none")
        return ()
    if given is None and labels is None:
        raise Refused(f"{where}give label_names, one a class")
    if given is None:
        assert labels is not None, "seen above"
        count = int(labels.max(initial=0)) + 1
        if count > max(len(labels), 2):
            raise Refused(
                f"{where}train labels go up to {count - 1} in {len(labels):,} examples; number the"
                " classes from 0, or give label_names, one a class"
            )
        return tuple(map(str, range(count)))
    if isinstance(given, str):
        raise Refused(f"{where}label_names={given!r}: give a list of names, one a class")
    names = tuple(map(str, given))
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise Refused(f"{where}two classes are named {twice[0]!r} in label_names")
    return names


def _images(array: np.ndarray, what: str, max_value: int) -> np.ndarray:
    if array.ndim not in (3, 4):
        raise Refused(f"{what} are {list(array.shape)}; they are [n, h, w] or [n, h, w, channels]")
    if array.dtype.kind == "f":
        if bad := int((~np.isfinite(array)).sum()):
            raise Refused(f"{what} have {bad:,} pixels that are no number (NaN or infinite)")
        darkest, brightest = float(array.min(initial=0)), float(array.max(initial=0))
        cure = f"images * {max_value}" if brightest <= 1 else "images"
        raise Refused(
            f"{what} are {array.dtype} from {darkest:.4g} to {brightest:.4g}; whole numbers 0 to"
            f" {max_value} are read: np.rint({cure}).astype(np.uint8)"
        )
    if array.dtype.kind == "b":
        raise Refused(f"{what} are bool; give np.uint8({max_value}) * images")
    if array.size and (array.min() < 0 or array.max() > max_value):
        raise Refused(
            f"{what} are {array.min()} to {array.max()}; the pixels of a set with"
            f" max_value={max_value} are 0 to {max_value}"
        )
    if array.ndim == 4 and array.shape[1] in (1, 3) and array.shape[3] > 4:
        raise Refused(
            f"{what} are {list(array.shape)}, which looks like [n, channels, h, w]; give"
            " np.moveaxis(images, 1, -1)"
        )
    array = array.astype(np.uint8, copy=False)
    return array[..., None] if array.ndim == 3 else array


def _labels(array: np.ndarray, what: str, max_value: int) -> np.ndarray:
    if array.ndim == 2:
        raise Refused(
            f"{what} are {list(array.shape)}; one whole number an example is read: of one-hot rows"
            " give labels.argmax(1)"
        )
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise Refused(
            f"{what} are {array.dtype}{list(array.shape)}; they are whole numbers [n] from 0:"
            " labels.astype(np.int32)"
        )
    return _field(array, what)


def _field(array: np.ndarray, what: str) -> np.ndarray:
    narrow = _NARROW.get(array.dtype.name)
    if array.dtype.kind == "f":
        if array.dtype.itemsize > 8:
            raise Refused(f"{what} are {array.dtype}; give float32")
        return array if narrow is None else array.astype(narrow)
    if narrow is None:
        return array
    limits = np.iinfo(narrow)
    if array.size and (array.min() < limits.min or array.max() > limits.max):
        raise Refused(f"{what} are {array.min()} to {array.max()}, which 32 bits do not hold")
    return array.astype(narrow)
