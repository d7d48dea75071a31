"""`cnnjax predict`."""

from pathlib import Path

import click

from cnnjax.cli.output import data_dir_option, json_option, print_json, print_table, say

_CLASSES = 5  # the most probable


@click.command()
@click.argument("folder", metavar="DIR")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@data_dir_option
@json_option
def predict(folder: str, images: tuple[str, ...], data_dir: str | None, as_json: bool) -> None:
    """Tell what the network in DIR sees in each IMAGE: the five most probable classes.

    \b
      cnnjax predict weights/resnet50 cat.jpg dog.png

    DIR is a run of cnnjax train (its newest intact checkpoint) or imported weights. An image is
    seen as a test image of the run's data: brought to their size, normalised by their figures; for
    that the data must be there, which also give the names of the classes. For imported weights
    the shorter side is resized to 256/224 of the input's and the centre cropped (an image of just
    the input's size is taken as it is), normalised as import-weights was told, and classes are
    numbers. Probabilities are in per cent. JPEG, PNG, WebP, BMP, GIF, TIFF and PPM are read.
    """
    from cnnjax.core.environment import configure_xla, start_backend
    from cnnjax.training.network import holds, load_predictor, read_image

    configure_xla()
    holds(Path(folder))  # a wrong folder, then a wrong image, is refused before jax is started
    encoded = [read_image(Path(image)) for image in images]
    start_backend()
    predictor = load_predictor(Path(folder), data_dir, say)
    names, found = predictor.label_names, []
    for image, data in zip(images, encoded, strict=True):
        chances = predictor.probabilities(data)
        likeliest = [int(index) for index in (-chances).argsort(kind="stable")[:_CLASSES]]
        classes = [
            {
                "index": index,
                "class": names[index] if names else str(index),
                "probability": 100 * float(chances[index]),
            }
            for index in likeliest
        ]
        found.append({"image": image, "classes": classes})
    if as_json:
        print_json({"model": predictor.network.model.name, "weights": folder, "images": found})
        return
    rows = [
        (one["image"] if not rank else "", each["class"], f"{each['probability']:.2f} %")
        for one in found
        for rank, each in enumerate(one["classes"])
    ]
    print_table(("image", "class", "probability"), rows, numeric=(2,))
