"""Which examples of a streamed data set cannot be read: each is looked at once, in threads."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from cnnjax.core.environment import threads_here
from cnnjax.core.errors import Failed, Refused
from cnnjax.core.files import read_sealed, write_sealed
from cnnjax.core.folders import user_cache
from cnnjax.core.words import counted
from cnnjax.data.dataset import AnyDataset, Dataset, LeftOut, StreamedDataset
from cnnjax.data.examples import EncodedExamples
from cnnjax.data.split import with_examples
from cnnjax.data.views import AnyView

_AT_ONCE = 32  # images a thread is handed before progress is told
_DECODER = 1  # of the verdicts in the cache; another decoder, another number


@dataclass(frozen=True)
class Unreadable:
    """An image that cannot be decoded, or to which what is known of it does not belong.

    Attributes:
      split: "train" or "test".
      position: in the split.
      where: words that name it: its path, or the set and its place.
    """

    split: str
    position: int
    where: str
    reason: str


def nothing_to_skip(name: str) -> Refused:
    """The error for data.unreadable=skip of a set whose images are decoded before."""
    return Refused(
        f"data.unreadable=skip has no effect: {name} is read into memory; it is for folder:DIR,"
        " coco:DIR, masks:DIR, and for sets of tensorflow-datasets with boxes or with"
        " data.streaming=always"
    )


def find_unreadable(
    dataset: AnyDataset,
    on_part: Callable[[int, int], None] = lambda done, of: None,
    threads: int | None = None,
) -> list[Unreadable]:
    """The images of both splits that cannot be decoded; none of a set in memory, which was.

    Args:
      on_part: told how many images are done, of how many.
      threads: default: as many as XLA may use here; the decoders let go of the interpreter.
    """
    if isinstance(dataset, Dataset):
        return []
    import cv2

    cv2.setNumThreads(1)  # an image is one thread's work
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # what is cut is said here
    threads = threads or threads_here()
    found, done, whole = [], 0, len(dataset.train) + len(dataset.test)
    with ThreadPoolExecutor(threads) as pool:
        for split, examples in (("train", dataset.train), ("test", dataset.test)):
            for start in range(0, len(examples), _AT_ONCE * threads):
                positions = range(start, min(start + _AT_ONCE * threads, len(examples)))
                reasons = pool.map(partial(_reason, dataset.view, examples), positions)
                for position, reason in zip(positions, reasons, strict=True):
                    if reason is not None:
                        where = examples.where(position)
                        found.append(Unreadable(split, position, where, reason))
                done += len(positions)
                on_part(done, whole)
    return found


def without_unreadable(
    dataset: StreamedDataset, say: Callable[[str], None] = lambda line: None
) -> AnyDataset:
    """`dataset` without the images that cannot be decoded, which it names among what is left out.

    They are looked for once, and remembered by the set's fingerprint.

    Raises:
      Refused: a class would have no training image.
    """
    bad = _remembered(dataset, say)
    if not bad:
        return dataset
    train, test = (
        np.setdiff1d(np.arange(len(examples)), [position for position, _ in bad.get(split, [])])
        for split, examples in (("train", dataset.train), ("test", dataset.test))
    )
    places = [
        (dataset.train if split == "train" else dataset.test).where(position)
        for split in ("train", "test")
        for position, _ in bad.get(split, [])
    ]
    out = LeftOut(len(places), "images that cannot be decoded", places[0])
    say(f"{dataset.name}: left out: {out}; to list them: cnnjax data check {dataset.name}")
    left = with_examples(dataset, train, test, left_out=(*dataset.left_out, out))
    _check_classes(dataset, left, out)
    return left


def _check_classes(dataset: AnyDataset, left: AnyDataset, out: LeftOut) -> None:
    for split in ("train", "test"):
        if len(getattr(dataset, split)) and not len(getattr(left, split)):
            raise Refused(f"data set {dataset.name}: no {split} image can be decoded: {out}")
    if not isinstance(left.train, EncodedExamples) or left.train.labels is None:
        return
    counts = np.bincount(left.train.labels(), minlength=left.num_classes)
    if not counts.all():
        name = left.label_names[int(counts.argmin())]
        raise Refused(
            f"data set {dataset.name}: class {name} would have no training image: {out}; mend or"
            " remove it"
        )


def _reason(view: AnyView, examples: EncodedExamples, position: int) -> str | None:
    try:
        view.check(*examples.read(position))
    except Failed as error:
        return str(error)
    return None


def _remembered(dataset: StreamedDataset, say: Callable[[str], None]) -> dict[str, list]:
    """By split, position and reason."""
    path = user_cache("data") / f"unreadable-{_DECODER}-{dataset.fingerprint[:32]}.json"
    try:
        return read_sealed(path)
    except FileNotFoundError:
        count = len(dataset.train) + len(dataset.test)
        say(f"{dataset.name}: decoding {counted(count, 'image')} once, for what cannot be read")
    except (OSError, ValueError) as error:
        say(f"{path}: {error}; decoding again")
    found: dict[str, list] = {}
    for one in find_unreadable(dataset):
        found.setdefault(one.split, []).append([one.position, one.reason])
    try:
        write_sealed(path, found)
    except OSError as error:  # a full disk costs the cache, not the run
        say(f"{path}: {error.strerror}; they will be looked for again next time")
    return found
