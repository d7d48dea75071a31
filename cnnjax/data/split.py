"""Parts that a data set does not come with: held out for testing, held back, or fewer to train on.

Which examples is a pure function of the labels, their order and `data.split_seed`. Each class keeps
its share, by largest remainders; within a class the lowest numbers of a counter are taken, whose
bits no version of numpy changes.
"""

import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Int

from cnnjax.core.errors import Refused
from cnnjax.core.recipe import Data
from cnnjax.core.words import counted
from cnnjax.data.dataset import AnyDataset, Dataset, StreamedDataset

Positions = Int[np.ndarray, " _n"]
_USES = ("test_share", "validation_share", "train_examples")


def divide(dataset: AnyDataset, data: Data) -> AnyDataset:
    """`dataset` in the parts that `data` wants.

    test_share is held out first, then validation_share of the rest, which takes the place of the
    test part; of what remains train_examples are kept.

    Raises:
      Refused: there is a test part already, or none; a class would have no training example; the
        labels cannot be read; a seed without a split.
    """
    used = [name for name in _USES if getattr(data, name)]
    if data.split_seed and not used:
        raise Refused(
            f"data.split_seed={data.split_seed} has no effect: nothing is split; set one of"
            f" {', '.join(f'data.{name}' for name in _USES)}"
        )
    if data.test_share and len(dataset.test):
        raise has_test_part(data, counted(len(dataset.test), "image"))
    if not data.test_share and not len(dataset.test):
        raise Refused(
            f"data set {dataset.name} has no test part; hold out a share of it: --set"
            " data.test_share=0.2"
        )
    if not used:
        return dataset
    labels = _labels(dataset, used[0])
    kept, tested = np.arange(len(labels)), None
    for name in used:
        where = f"data.{name}={getattr(data, name)}: {dataset.name}"
        taken = _taken(name, data, labels[kept], dataset.label_names, where)
        if name != "train_examples":
            kept, tested = kept[~taken], kept[taken]
        else:
            kept = kept[taken]
    if tested is None:
        divided = with_examples(dataset, kept, np.arange(len(dataset.test)))
    else:
        divided = with_examples(dataset, kept, tested, test_of="train")
    validated = " (validation)" if data.validation_share else ""
    said = ", ".join(f"{name}={getattr(data, name)}" for name in (*used, "split_seed"))
    return replace(divided, name=dataset.name + validated, source=f"{dataset.source} ({said})")


def has_test_part(data: Data, what: str) -> Refused:
    """The error for a share of a set that has a test part."""
    return Refused(
        f"data.test_share={data.test_share}: {data.name} has a test part ({what}); leave it out, or"
        f" hold back a part of the training set: data.validation_share={data.test_share}"
    )


def with_examples(
    dataset: AnyDataset,
    train: Positions,
    test: Positions,
    *,
    test_of: Literal["train", "test"] = "test",
    **changes: Any,
) -> AnyDataset:
    """`dataset` with some of its examples.

    Args:
      train: positions in its training split.
      test: positions in its split `test_of`.
      changes: of what it says of itself.
    """
    source: Any = dataset.train if test_of == "train" else dataset.test
    if isinstance(dataset, StreamedDataset):
        chosen = [dataset.fingerprint, _sha(train), test_of, _sha(test)]
        changes["fingerprint"] = hashlib.sha256(json.dumps(chosen).encode()).hexdigest()
    return replace(dataset, train=dataset.train.at(train), test=source.at(test), **changes)


def stratified(labels: Positions, count: int, seed: int, purpose: str) -> Bool[np.ndarray, " _n"]:
    """`count` of the examples, of each class its share: True where one is taken.

    Args:
      seed: 0 to 2^32 - 1.
      purpose: another one gives examples that are independent of these.
    """
    raw = np.random.Philox(key=[seed, zlib.crc32(purpose.encode())]).random_raw(len(labels))
    order = np.lexsort((np.arange(len(labels)), raw, labels))
    sizes = np.bincount(labels)
    starts = np.cumsum(sizes) - sizes
    rank = np.arange(len(labels)) - starts[labels[order]]
    taken = np.zeros(len(labels), bool)
    taken[order] = rank < np.asarray(shares(sizes.tolist(), count))[labels[order]]
    return taken


def shares(sizes: Sequence[int], count: int) -> list[int]:
    """How many of `count` fall to each class in proportion to `sizes`: by largest remainders.

    In whole numbers; of equal remainders the first class's counts more.
    """
    whole = sum(sizes)
    found = [count * size // whole for size in sizes]
    first = sorted(range(len(sizes)), key=lambda i: (-(count * sizes[i] % whole), i))
    for i in first[: count - sum(found)]:
        found[i] += 1
    return found


def _taken(
    name: str, data: Data, labels: Positions, label_names: tuple[str, ...], where: str
) -> Bool[np.ndarray, " _n"]:
    """The examples that are held out, or of train_examples those that are kept."""
    sizes = np.bincount(labels)
    if name == "train_examples":
        count, classes = data.train_examples or 0, int((sizes > 0).sum())
        if not classes <= count <= len(labels):
            few = f" of {classes} classes" if classes > 1 else ""
            raise Refused(
                f"{where} has {len(labels):,} training examples{few} to choose from; set"
                f" {classes} to {len(labels)}"
            )
    else:
        count = int(getattr(data, name) * len(labels) + 0.5)
        if not count:
            raise Refused(f"{where} has {len(labels):,} examples, of which that is none; set more")
    taken = stratified(labels, count, data.split_seed, name)
    trained = taken if name == "train_examples" else ~taken
    left = np.bincount(labels[trained], minlength=len(sizes))
    if len(lost := np.flatnonzero((sizes > 0) & (left == 0))):
        first = label_names[lost[0]] if label_names and len(sizes) > 1 else "all"
        raise Refused(
            f"{where}: class {first} ({sizes[lost[0]]:,} of {len(labels):,} training examples)"
            f" would have none to train on; set {'more' if name == 'train_examples' else 'less'}"
        )
    return taken


def _labels(dataset: AnyDataset, name: str) -> Positions:
    """Of the training set; where there are no classes, all are of one."""
    if isinstance(dataset, Dataset):
        found = dataset.train.arrays.get("labels")
        return np.zeros(len(dataset.train), np.int32) if found is None else found
    if "labels" not in dataset.fields:
        return np.zeros(len(dataset.train), np.int32)
    if dataset.train.labels is None:
        raise Refused(
            f"data.{name}: to split {dataset.name} by class every one of its {len(dataset.train):,}"
            ' images would be read; take slices, e.g. data.train_split="train[:80%]"'
        )
    return dataset.train.labels()


def _sha(positions: Positions) -> str:
    return hashlib.sha256(positions.astype("<i8").tobytes()).hexdigest()
