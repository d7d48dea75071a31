"""A data set by name."""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

from cnnjax.core.errors import Refused
from cnnjax.core.recipe import Data
from cnnjax.data.dataset import AnyDataset, StreamedDataset, images_per_class
from cnnjax.data.digits import load_digits
from cnnjax.data.folder import PREFIX, load_folder
from cnnjax.data.own import is_own, load_own
from cnnjax.data.permutation import permuted
from cnnjax.data.readable import nothing_to_skip, without_unreadable
from cnnjax.data.scene_folders import PREFIXES as SCENE_FOLDERS
from cnnjax.data.scene_folders import load_scene_folder
from cnnjax.data.scenes import NAME as SCENES
from cnnjax.data.scenes import load_scenes
from cnnjax.data.split import divide
from cnnjax.data.views import IMAGE_SIZE, View

EMBEDDED = {"digits": load_digits}
# What a set looks like on the way to the network, and not what is read.
_ON_THE_WAY = ("augmentation", "crop_padding", "normalization", "pca_colour", "mixup", "cutmix")
# Which of a set's examples are taken, and where their pixels stand, whatever it is.
_PARTS = ("test_share", "validation_share", "train_examples", "split_seed", "permute_pixels")


def load_dataset(
    data: Data | str,
    directory: str | Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> AnyDataset:
    """The data set that `data` describes: decoded in memory, or to be streamed.

    Args:
      data: a `Data`, or just a name: digits, scattered_digits, one of tensorflow-datasets,
        folder:DIR, coco:DIR, masks:DIR, FILE.npz, FILE.py:function or package.module:function.
      directory: where prepared TFDS sets lie; default $TFDS_DATA_DIR or ~/tensorflow_datasets.
      say: is told a line when something takes long, and what of a set is left out.

    Raises:
      Refused: unknown, missing, in a format that cannot be read here, unfit for classification, or
        not to be divided as `data` says; the text says which and what to type.
    """
    if isinstance(data, str):
        data = Data(name=data)
    if data.unreadable == "skip" and not (is_encoded(data) or is_prepared(data.name)):
        raise nothing_to_skip(data.name)
    dataset = load_whole(data, directory, say)
    if data.unreadable == "skip" and isinstance(dataset, StreamedDataset):
        dataset = without_unreadable(dataset, say)
    dataset = divide(dataset, data)
    _tell_without_objects(dataset, data, say)
    seed = data.permute_pixels
    return dataset if seed is None else permuted(dataset, seed)


def _tell_without_objects(dataset: AnyDataset, data: Data, say: Callable[[str], None]) -> None:
    """Of a set with boxes: a part that has none is legal, and seldom meant."""
    if "box_labels" not in dataset.fields:
        return
    for part, examples in (("train", dataset.train), ("test", dataset.test)):
        counts = images_per_class(examples, dataset.num_classes)
        if not len(examples) or counts is None or counts.any():
            continue
        named = is_encoded(data) or is_prepared(data.name)
        other = named and not (data.test_share and part == "test")
        say(
            f"{dataset.name}: no image of its {part} part has an object that counts"
            + (": nothing to judge by, AP is null" if part == "test" else ": nothing to learn from")
            + (f"; another part is chosen by data.{part}_split" if other else "")
        )


def load_whole(
    data: Data, directory: str | Path | None, say: Callable[[str], None] = lambda line: None
) -> AnyDataset:
    """What lies there: undivided, with images that may be unreadable where `data` skips them.

    A set of one part has an empty test split.
    """
    if data.name.startswith(PREFIX):
        if data.streaming == "never":
            raise Refused(f"data.streaming=never: {data.name} is always streamed")
        return load_folder(data, _view(data, data.image_size or IMAGE_SIZE), say)
    if data.name.startswith(SCENE_FOLDERS):
        if data.streaming == "never":
            raise Refused(f"data.streaming=never: {data.name} is always streamed")
        return load_scene_folder(data, data.image_size or IMAGE_SIZE, say)
    if data.name in EMBEDDED:
        _as_it_is(data, "embedded")
        return EMBEDDED[data.name]()
    if data.name == SCENES:
        _as_it_is(data, "made", "scenes")
        return load_scenes(data, lambda source: load_dataset(source, directory, say))
    if is_own(data.name):
        _as_it_is(data, "read")
        return load_own(data.name)
    from cnnjax.data.tfds import load_tfds

    return load_tfds(data, directory, say)


def load_encoded(
    data: Data, directory: str | Path | None, say: Callable[[str], None] = lambda line: None
) -> AnyDataset:
    """The set with its images as they are stored, none of them looked at; what is held in memory
    anyway was decoded."""
    if is_prepared(data.name):
        data = replace(data, streaming="always", image_size=data.image_size or IMAGE_SIZE)
    return load_whole(
        replace(data, unreadable="skip") if is_encoded(data) else data, directory, say
    )


def is_prepared(name: str) -> bool:
    """Whether a set of this name would be one of tensorflow-datasets."""
    return not (
        name.startswith((PREFIX, *SCENE_FOLDERS)) or name in (*EMBEDDED, SCENES) or is_own(name)
    )


def is_encoded(data: Data) -> bool:
    """Whether `data` says that its images are read encoded, while training."""
    if data.name.startswith((PREFIX, *SCENE_FOLDERS)):
        return True
    return data.streaming == "always" and is_prepared(data.name)


def reading(data: Data) -> Data:
    """`data` without what does not change what is read: equal ones share a data set."""
    default = Data(data.name)
    return replace(data, **{name: getattr(default, name) for name in _ON_THE_WAY})


def reading_words(data: Data) -> str:
    """How a set is read, as a key for the eye; equal readings share it."""
    parts = [data.train_split, data.test_split, str(data.image_size or "own size")]
    parts += [data.streaming] * (data.streaming != "auto") + ["ten crops"] * (data.test_crops == 10)
    default = Data(data.name)
    for name in (*_PARTS, "unreadable"):
        if (value := getattr(data, name)) != getattr(default, name):
            parts.append(f"{name}={value}")
    for name, value in vars(data.scenes).items():
        if value != getattr(default.scenes, name):
            parts.append(f"scenes.{name}={value}")
    return f"{data.name} ({', '.join(parts)})"


def _as_it_is(data: Data, how: str, *used: str) -> None:
    """Refuse settings that would change how a set is read that has one form, or `used` ones."""
    for field in fields(Data):
        value = getattr(data, field.name)
        if field.name not in ("name", *_ON_THE_WAY, *_PARTS, *used) and value != field.default:
            raise Refused(f"data.{field.name}={value}: {data.name} is {how} as it is; leave it out")


def _view(data: Data, size: int) -> View:
    return View(size, margin=data.test_crops == 10)
