"""`cnnjax data info|preview|prepare`."""

from pathlib import Path

import click

from cnnjax.cli.output import (
    data_dir_option,
    data_set_option,
    json_option,
    print_json,
    print_table,
    say,
)


@click.group()
def data() -> None:
    """Look at data sets and prepare them.

    `digits` is embedded (8x8 grey, nothing is downloaded). Every set of tensorflow-datasets with
    an image and a label is read from --data-dir, where it was prepared as array_record.
    `folder:DIR` is a folder of images: DIR/train/CLASS/*.jpg and DIR/test/CLASS/*.jpg (or val/).
    """


def _load(name: str, data_dir: str | None, settings: tuple[str, ...]):
    from cnnjax.core.config import override_text
    from cnnjax.core.recipe import Data, Recipe
    from cnnjax.data.load import load_dataset

    recipe = Recipe(data=Data(name))
    for assignment in settings:
        recipe = override_text(recipe, assignment)
    return load_dataset(recipe.data, data_dir, say)


@data.command()
@click.argument("name")
@data_dir_option
@data_set_option
@json_option
def info(name: str, data_dir: str | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Sizes, classes, fingerprint and default augmentation of data set NAME."""
    dataset = _load(name, data_dir, settings)
    facts = {
        "name": dataset.name,
        "source": dataset.source,
        "image_shape": list(dataset.image_shape),
        "train_examples": len(dataset.train),
        "test_examples": len(dataset.test),
        "num_classes": dataset.num_classes,
        "label_names": list(dataset.label_names),
        "augmentation": dataset.augmentation,
        "fingerprint": dataset.fingerprint,
    }
    if as_json:
        print_json(facts)
        return
    rows = [
        (key.replace("_", " "), ", ".join(map(str, v)) if isinstance(v, list) else v)
        for key, v in facts.items()
    ]
    print_table(("", ""), rows)


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
    from cnnjax.data.preview import contact_sheet

    path = Path(out or f"{name.replace('/', '-')}.png")
    if path.suffix != ".png":
        raise Refused(f"--out {path}: give a name that ends in .png")
    if not path.parent.is_dir():
        raise Refused(f"--out {path}: there is no folder {path.parent}")
    dataset = _load(name, data_dir, settings)
    path.write_bytes(contact_sheet(dataset, split))
    click.echo(path)


@data.command()
@click.argument("name")
@data_dir_option
def prepare(name: str, data_dir: str | None) -> None:
    """Download NAME with tensorflow-datasets and write it as array_record.

    Needs TensorFlow, only here: pip install tensorflow importlib_resources
    """
    from cnnjax.data.tfds import prepare as prepare_set

    click.echo(prepare_set(name, data_dir))
