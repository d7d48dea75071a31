"""A labelled contact sheet of a data set."""

import io
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from cnnjax.core.errors import Failed
from cnnjax.core.words import counted
from cnnjax.data.dataset import AnyDataset, Dataset, StreamedDataset, uncounted
from cnnjax.data.examples import Examples

_CLASSES, _COLUMNS = 10, 8
_SCENES = 4, 3  # columns and rows of a sheet of scenes
_STRENGTH = 0.45  # of a class's colour over the image
_MOST_READ = 4000  # encoded images that are looked at for a class's eight


def first_images(dataset: AnyDataset, split: str, classes: int, columns: int) -> list[list]:
    """Up to `columns` images (0 to 1) of each of the first classes.

    Without classes the first images, in as many rows.
    """
    rows: list[list] = [[] for _ in range(classes)]
    if isinstance(dataset, Dataset):
        examples = dataset.train if split == "train" else dataset.test
        if "labels" not in examples.arrays:
            for index in range(min(classes * columns, len(examples))):
                rows[index // columns].append(examples.images[index] / dataset.max_value)
            return rows
        for label, row in enumerate(rows):
            for index in np.flatnonzero(examples.labels == label)[:columns]:
                row.append(examples.images[index] / dataset.max_value)
        return rows
    encoded = dataset.train if split == "train" else dataset.test
    order = np.random.default_rng(0).permutation(len(encoded))  # a folder is sorted by class
    for position in order[:_MOST_READ]:
        data, label = encoded.read(int(position))
        if label < classes and len(rows[label]) < columns:
            rows[label].append(dataset.view.image(data) / 255)
        if all(len(row) == columns for row in rows):
            break
    return rows


def contact_sheet(dataset: AnyDataset, split: str = "train") -> bytes:
    """A PNG with the first eight images of each of the first ten classes, a row a class.

    Without classes the first eighty; scenes with boxes or maps of classes are drawn with them.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if {"boxes", "class_map"} & dataset.fields.keys():
        return _scenes(dataset, split)
    names = dataset.label_names[:_CLASSES] or ("",) * _CLASSES
    rows = first_images(dataset, split, len(names), _COLUMNS)
    with matplotlib.rc_context({"font.size": 9}):
        figure = Figure(figsize=(1.2 + 0.75 * _COLUMNS, 0.6 + 0.75 * len(names)))
        FigureCanvasAgg(figure)
        for label, name in enumerate(names):
            for column in range(_COLUMNS):
                axes = figure.add_subplot(len(names), _COLUMNS, label * _COLUMNS + column + 1)
                axes.set_xticks([])
                axes.set_yticks([])
                for spine in axes.spines.values():
                    spine.set_visible(False)
                if column == 0:
                    axes.set_ylabel(name, rotation=0, ha="right", va="center")
                if column < len(rows[label]):
                    image = rows[label][column]
                    grey = image.shape[-1] == 1
                    axes.imshow(
                        image[..., 0] if grey else image[..., :3], cmap="gray", vmin=0, vmax=1
                    )
        figure.suptitle(_title(dataset, split))
        figure.subplots_adjust(
            left=0.17, right=0.99, bottom=0.01, top=0.93, wspace=0.05, hspace=0.05
        )
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=110)
    return out.getvalue()


def overlay(
    image: Float[np.ndarray, "h w c"], class_map: UInt8[np.ndarray, "h w"]
) -> Float[np.ndarray, "h w 3"]:
    """An image (0 to 1) with the classes of its pixels in colours; the ground stays as it is, and
    what is not counted (255) is darkened."""
    picture = np.broadcast_to(image[..., :3], (*image.shape[:2], 3)).astype(np.float64)
    colours = class_colours(256)[class_map] / 255
    colours[class_map == 255] = 0
    over = (class_map > 0)[..., None]
    return np.where(over, (1 - _STRENGTH) * picture + _STRENGTH * colours, picture)


def class_colours(count: int) -> UInt8[np.ndarray, "k 3"]:
    """A colour for each number of a map of classes, black for 0: as VOC's files have them, the bits
    of the number spread over red, green and blue."""
    numbers = np.arange(max(count, 256))
    colours = np.zeros((len(numbers), 3), np.uint8)
    for place in range(8):
        for channel in range(3):
            bit = (numbers >> (3 * place + channel)) & 1
            colours[:, channel] |= (bit << (7 - place)).astype(np.uint8)
    return colours


def _scenes(dataset: AnyDataset, split: str) -> bytes:
    """The first images with their boxes and the classes of their pixels."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    examples = dataset.train if split == "train" else dataset.test
    columns, rows = _SCENES
    with matplotlib.rc_context({"font.size": 8}):
        figure = Figure(figsize=(2.2 * columns, 2.2 * rows + 0.4), layout="constrained")
        FigureCanvasAgg(figure)
        for index, axes in enumerate(figure.subplots(rows, columns).flat):
            axes.set_axis_off()
            if index >= len(examples):
                continue
            if isinstance(examples, Examples):
                one = {name: array[index] for name, array in examples.arrays.items()}
            else:
                assert isinstance(dataset, StreamedDataset), "encoded examples are streamed"
                try:
                    one = dataset.view.fixed(*examples.read(index))
                except Failed as error:
                    raise Failed(f"{examples.where(index)}: {error}") from error
            image = one["images"] / dataset.max_value
            drawn = overlay(image, one.get("class_map", np.zeros(image.shape[:2], np.uint8)))
            axes.imshow(drawn, vmin=0, vmax=1)
            _draw_boxes(axes, one, dataset.label_names)
        figure.suptitle(_title(dataset, split))
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=110, metadata={"Software": None})
    return out.getvalue()


def _draw_boxes(axes: Any, one: dict[str, np.ndarray], names: tuple[str, ...]) -> None:
    from matplotlib.patches import Rectangle

    if "boxes" not in one:
        return
    for (x, y, x2, y2), label in zip(one["boxes"], one["box_labels"], strict=True):
        if label != -1:  # pixel 0 is drawn around 0, from -0.5 to 0.5
            corner, counts = (x - 0.5, y - 0.5), label >= 0
            line = {"ec": "#E69F00", "lw": 1.4, "ls": "-" if counts else ":"}
            axes.add_patch(Rectangle(corner, x2 - x, y2 - y, fill=False, **line))
            name = names[label] if counts else f"({names[uncounted(label)]})"
            style = {"fc": "#E69F00", "ec": "none", "pad": 0.8}
            axes.text(*corner, name, fontsize=7, va="bottom", bbox=style)


def _title(dataset: AnyDataset, split: str) -> str:
    examples = dataset.train if split == "train" else dataset.test
    height, width, channels = dataset.image_shape
    return f"{dataset.name}, {split}: {counted(len(examples), 'image')} {height}x{width}x{channels}"
