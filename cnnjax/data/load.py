"""A data set by name."""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

from cnnjax.core.errors import Refused
from cnnjax.core.recipe import Data
from cnnjax.data.dataset import AnyDataset
from cnnjax.data.digits import load_digits
from cnnjax.data.folder import PREFIX, load_folder
from cnnjax.data.views import View

EMBEDDED = {"digits": load_digits}
_IMAGE_SIZE = 224  # of a folder's images, where none is given
# What a set looks like on the way to the network, and not what is read.
_ON_THE_WAY = ("augmentation", "normalization", "pca_colour", "mixup", "cutmix")


def load_dataset(
    data: Data | str,
    directory: str | Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> AnyDataset:
    """The data set that `data` describes: decoded in memory, or to be streamed.

    Args:
      data: a `Data`, or just a name: an embedded set, one of tensorflow-datasets, or folder:DIR.
      directory: where prepared TFDS sets lie; default $TFDS_DATA_DIR or ~/tensorflow_datasets.
      say: is told a line when something takes long, and what of a set is left out.

    Raises:
      Refused: unknown, missing, in a format that cannot be read here, or unfit for
        classification; the text says which and what to type.
    """
    if isinstance(data, str):
        data = Data(name=data)
    if data.name.startswith(PREFIX):
        if data.streaming == "never":
            raise Refused(f"data.streaming=never: {data.name} is always streamed")
        return load_folder(data, _view(data, data.image_size or _IMAGE_SIZE), say)
    if data.name not in EMBEDDED:
        from cnnjax.data.tfds import load_tfds

        return load_tfds(data, directory, _streamed_view(data), say)
    for field in fields(Data):
        value = getattr(data, field.name)
        if field.name not in ("name", *_ON_THE_WAY) and value != field.default:
            raise Refused(
                f"data.{field.name}={value}: {data.name} is embedded as it is; leave it out"
            )
    return EMBEDDED[data.name]()


def reading(data: Data) -> Data:
    """`data` without what does not change what is read: equal ones share a data set."""
    default = Data(data.name)
    return replace(data, **{name: getattr(default, name) for name in _ON_THE_WAY})


def _streamed_view(data: Data) -> View | None:
    """The view of a set that its settings want streamed.

    Raises:
      Refused: streaming without a size.
    """
    if data.streaming != "always":
        return None
    if data.image_size is None:
        raise Refused(
            f"data set {data.name} is to be streamed: say to which size, e.g."
            " --set data.image_size=224"
        )
    return _view(data, data.image_size)


def _view(data: Data, size: int) -> View:
    return View(size, margin=data.test_crops == 10)
