"""`cnnjax data info|preview|check|prepare`."""

import re
from dataclasses import asdict
from pathlib import Path

import click

from cnnjax.cli.options import changed, only
from cnnjax.cli.output import (
    ProgressLine,
    data_dir_option,
    data_set_option,
    duration,
    echo,
    json_option,
    print_json,
    print_table,
    say,
)
from cnnjax.core.words import counted


@click.group()
def data() -> None:
    """Look at data sets and prepare them.

    `digits` is embedded (8x8 grey, nothing is downloaded); `scattered_digits` is made of it: scenes
    with a box and a mask for each digit, to detect and to segment. Every set of
    tensorflow-datasets with an image and a label, or with a box and a class for each object (coco,
    voc), is read from --data-dir, where it was prepared as array_record.
    `folder:DIR` is a folder of images: DIR/train/CLASS/*.jpg and DIR/test/CLASS/*.jpg (or val/);
    files that are no images and folders without images are left out with a word.
    `coco:DIR` is a folder in COCO's layout, with boxes and masks; `masks:DIR` has an image of
    classes for each photograph: DIR/images/train/*.jpg, DIR/masks/train/*.png, DIR/classes.txt, or
    is a year of VOC (docs/how-to/scenes.md).

    \b
    Arrays of your own:
      FILE.npz           with train_images, train_labels, test_images, test_labels, further
                         train_X and test_X, and label_names if you like
      FILE.py:function   or package.module:function: returns Dataset.from_arrays(...)

    Of a set with one part data.test_share=0.2 holds out a share of each class (then DIR/CLASS/*.jpg
    is a set too); data.validation_share=0.1 tests on a part of the training set instead of the test
    part; data.train_examples=300 keeps fewer.
    """


# Of a recipe's settings those that change what is read, and so what these commands show.
_READ = ("train_split", "test_split", "image_size", "streaming", "test_share", "validation_share",
         "train_examples", "split_seed", "unreadable")  # fmt: skip
_SHOWN = (*(f"data.{name}" for name in _READ), "data.scenes.")
# Of those, what decides which images there are to check.
_CHECKED = ("data.train_split", "data.test_split", "data.test_share")


def _load(name: str, data_dir: str | None, settings: tuple[str, ...]):
    from cnnjax.data.load import load_dataset

    return load_dataset(_data(name, settings, _SHOWN), data_dir, say)


def _data(name: str, settings: tuple[str, ...], counting: tuple[str, ...]):
    from cnnjax.core.recipe import Recipe

    listed = ", ".join(one.removesuffix(".") for one in counting)
    only(settings, counting, f"the set is {name}, and of its settings count {listed}")
    return changed(Recipe(), {"data.name": ("", name)}, settings).data


@data.command()
@click.argument("name")
@data_dir_option
@data_set_option
@json_option
def info(name: str, data_dir: str | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Sizes, classes, images of each class and what is left out of data set NAME.

    Of a large streamed TFDS set the classes are not counted: every image would be read.
    """
    from cnnjax.data.dataset import images_per_class, uncounted_objects

    dataset = _load(name, data_dir, settings)
    counts, parts = {}, {"train": dataset.train, "test": dataset.test}
    for split, examples in parts.items():
        found = images_per_class(examples, dataset.num_classes)
        counts[split] = None if found is None else [int(count) for count in found]
    uncounted = {split: uncounted_objects(examples) for split, examples in parts.items()}
    facts = {
        "name": dataset.name,
        "source": dataset.source,
        "image_shape": list(dataset.image_shape),
        "train_examples": len(dataset.train),
        "test_examples": len(dataset.test),
        "num_classes": dataset.num_classes,
        "fields": {
            field: {"shape": list(about.shape), "dtype": str(about.dtype)}
            for field, about in dataset.fields.items()
        },
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
        about = {"uncounted_objects": uncounted} if "box_labels" in dataset.fields else {}
        print_json({**facts, "label_names": names, **per_class, **about, "left_out": left_out})
        return
    if any(uncounted.values()):
        shown = ", ".join(f"{count:,} in the {split} part" for split, count in uncounted.items())
        facts["objects that do not count"] = shown
    facts["image_shape"] = "x".join(map(str, dataset.image_shape))
    facts["fields"] = ", ".join(f"{field} {about}" for field, about in dataset.fields.items())
    rows = [(key.replace("_", " "), value) for key, value in facts.items()]
    rows += [("left out", one) for one in dataset.left_out]
    print_table(("", ""), rows)
    if not dataset.label_names:
        return
    what = "objects" if "box_labels" in dataset.fields else "images"
    shown = [f"{split} {what}" for split in counts]
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
    """Draw a labelled contact sheet of data set NAME: eight images of each of up to ten classes;
    of a set with boxes or masks twelve, with their boxes and the classes of their pixels; what does
    not count (a crowd) is dotted."""
    from cnnjax.core.errors import Refused
    from cnnjax.core.files import atomic_write
    from cnnjax.data.preview import contact_sheet

    path = Path(f"{re.sub(r'[^-.0-9A-Za-z_]+', '-', name)}.png" if out is None else out)
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
@click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help=f"{', '.join(_CHECKED)}; may be repeated.",
)
@json_option
def check(name: str, data_dir: str | None, settings: tuple[str, ...], as_json: bool) -> int:
    """Decode every image of data set NAME and list those that cannot be read, or to which their
    boxes and masks do not belong.

    All processors work at it. The exit code is 1 where an image cannot be read. To train without
    them: --set data.unreadable=skip.
    """
    import time

    from cnnjax.core.errors import EXIT_DONE, EXIT_FAILED
    from cnnjax.data.load import load_encoded
    from cnnjax.data.readable import find_unreadable
    from cnnjax.data.scene_views import WRONG_BOXES

    dataset = load_encoded(_data(name, settings, _CHECKED), data_dir, say)
    began = time.monotonic()
    with ProgressLine(f"checking {dataset.name}") as line:

        def show(done: int, of: int) -> None:
            left = (of - done) * (time.monotonic() - began) / max(done, 1)
            line.update(done / of, f"{done:,}/{of:,} images, {duration(left)} left")

        bad = find_unreadable(dataset, show)
    count = len(dataset.train) + len(dataset.test)
    wrong = [one for one in dataset.left_out if one.reason == WRONG_BOXES]
    if as_json:
        listed = [asdict(one) for one in bad]
        boxes = [asdict(one) for one in wrong]
        print_json({"name": dataset.name, "images": count, "unreadable": listed, "boxes": boxes})
    else:
        if bad:
            print_table(("split", "image", "why"), [(b.split, b.where, b.reason) for b in bad])
        for one in wrong:
            echo(one)
        echo(f"{dataset.name}: {counted(count, 'image')}, {len(bad):,} of them cannot be read")
    return EXIT_FAILED if bad or wrong else EXIT_DONE


@data.command()
@click.argument("name")
@data_dir_option
def prepare(name: str, data_dir: str | None) -> None:
    """Download NAME with tensorflow-datasets and write it as array_record.

    Needs TensorFlow, only here: pip install tensorflow importlib_resources
    """
    from cnnjax.core.errors import Refused
    from cnnjax.data.load import is_prepared
    from cnnjax.data.prepared import prepare as prepare_set

    if not is_prepared(name):
        raise Refused(f"{name} needs no preparation; it is read as it is")
    echo(prepare_set(name, data_dir))
