"""A data set by name."""

from collections.abc import Callable
from pathlib import Path

from cnnjax.core.errors import Refused
from cnnjax.core.recipe import Data
from cnnjax.data.dataset import Dataset
from cnnjax.data.digits import load_digits

EMBEDDED = {"digits": load_digits}


def load_dataset(
    data: Data | str,
    directory: str | Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Dataset:
    """The data set that `data` describes, decoded, in memory.

    Args:
      data: a `Data`, or just a name: an embedded set or one of tensorflow-datasets.
      directory: where prepared TFDS sets lie; default $TFDS_DATA_DIR or ~/tensorflow_datasets.
      say: is told a line when something takes long.

    Raises:
      Refused: unknown, missing, in a format that cannot be read here, or unfit for
        classification; the text says which and what to type.
    """
    if isinstance(data, str):
        data = Data(name=data)
    if data.name not in EMBEDDED:
        from cnnjax.data.tfds import load_tfds

        return load_tfds(data, directory, say)
    for key, value, fixed in (
        ("train_split", data.train_split, "train"),
        ("test_split", data.test_split, "test"),
        ("image_size", data.image_size, None),
    ):
        if value != fixed:
            raise Refused(f"data.{key}={value}: {data.name} is embedded as it is; leave it out")
    return EMBEDDED[data.name]()
