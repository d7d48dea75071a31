"""`cnnjax data info|preview|prepare`."""

from dataclasses import asdict
from pathlib import Path

import click

from cnnjax.cli.output import (
    data_dir_option,
    data_set_option,
    echo,
    json_option,
    print_json,
    print_table,
    say,
)
from cnnjax.cli.settings import changed, only


@click.group()
def data() -> None:
    """Look at data sets and prepare them.

    `digits` is embedded (8x8 grey, nothing is downloaded). Every set of tensorflow-datasets with
    an image and a label is read from --data-dir, where it was prepared as array_record.
    `folder:DIR` is a folder of images: DIR/train/CLASS/*.jpg and DIR/test/CLASS/*.jpg (or val/);
    files that are no images and folders without images are left out with a word.
    """


# Of a recipe's settings those that change what is read, and so what these commands show.
_SHOWN = tuple(f"data.{name}" for name in ("train_split", "test_split", "image_size", "streaming"))


def _load(name: str, data_dir: str | None, settings: tuple[str, ...]):
    from cnnjax.core.recipe import Recipe
    from cnnjax.data.load import load_dataset

    only(settings, _SHOWN, f"the set is {name}, and of its settings count {', '.join(_SHOWN)}")
    recipe = changed(Recipe(), {"data.name": ("", name)}, settings)
    return load_dataset(recipe.data, data_dir, say)


@data.command()
@click.argument("name")
@data_dir_option
@data_set_option
@json_option
def info(name: str, data_dir: str | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Sizes, classes, images of each class and what is left out of data set NAME.

    Of a large streamed TFDS set the classes are not counted: every image would be read.
    """
    from cnnjax.data.dataset import images_per_class

    dataset = _load(name, data_dir, settings)
    counts = {}
    for split, examples in (("train", dataset.train), ("test", dataset.test)):
        found = images_per_class(examples, dataset.num_classes)
        counts[split] = None if found is None else [int(count) for count in found]
    facts = {
        "name": dataset.name,
        "source": dataset.source,
        "image_shape": list(dataset.image_shape),
        "train_examples": len(dataset.train),
        "test_examples": len(dataset.test),
        "num_classes": dataset.num_classes,
        "augmentation": dataset.augmentation,
        "fingerprint": dataset.fingerprint,
    }
    if as_json:
        per_class = {
            f"{split}_per_class": found and dict(zip(dataset.label_names, found, strict=True))
            for split, found in counts.items()
        }
        left_out = [asdict(one) for one in dataset.left_out]
        names = list(dataset.label_names)
        print_json({**facts, "label_names": names, **per_class, "left_out": left_out})
        return
    facts["image_shape"] = "x".join(map(str, dataset.image_shape))
    rows = [(key.replace("_", " "), value) for key, value in facts.items()]
    rows += [("left out", one) for one in dataset.left_out]
    print_table(("", ""), rows)
    shown = [f"{split} images" for split in counts]
    columns = [found or ["not counted"] * dataset.num_classes for found in counts.values()]
    echo("")
    print_table(
        ("", "class", *shown),
        list(zip(range(dataset.num_classes), dataset.label_names, *columns, strict=True)),
        numeric=(0, 2, 3),
    )


@data.command()
@click.argument("name")
@click.option("--out", metavar="FILE.png", help="The picture.  [default: NAME.png]")
@click.option("--split", type=click.Choice(["train", "test"]), default="train", show_default=True)
@data_dir_option
@data_set_option
def preview(
    name: str, out: str | None, split: str, data_dir: str | None, settings: tuple[str, ...]
) -> None:
    """Draw a labelled contact sheet of data set NAME: eight images of each of up to ten classes."""
    from cnnjax.core.errors import Refused
    from cnnjax.core.files import atomic_write
    from cnnjax.data.preview import contact_sheet

    path = Path(f"{name.replace('/', '-')}.png" if out is None else out)
    if path.suffix != ".png":
        raise Refused(f"--out {path}: give a name that ends in .png")
    if not path.parent.is_dir():
        raise Refused(f"--out {path}: there is no folder {path.parent}")
    dataset = _load(name, data_dir, settings)
    atomic_write(path, contact_sheet(dataset, split))
    echo(path)


@data.command()
@click.argument("name")
@data_dir_option
def prepare(name: str, data_dir: str | None) -> None:
    """Download NAME with tensorflow-datasets and write it as array_record.

    Needs TensorFlow, only here: pip install tensorflow importlib_resources
    """
    from cnnjax.core.errors import Refused
    from cnnjax.data.folder import PREFIX
    from cnnjax.data.load import EMBEDDED
    from cnnjax.data.tfds import prepare as prepare_set

    if name in EMBEDDED or name.startswith(PREFIX):
        raise Refused(f"{name} needs no preparation; it is read as it is")
    echo(prepare_set(name, data_dir))
