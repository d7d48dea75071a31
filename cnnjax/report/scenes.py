"""What a network finds in an image, drawn: boxes with their classes, and classes of pixels."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from cnnjax.data.preview import class_colours, overlay
from cnnjax.report.canvas import COLOURS, drawing, fitted

_INCHES = 5.0  # of the longer side
_LEGEND_ROWS = 5
_KINDS = {"TP": (COLOURS[2], "-"), "FP": (COLOURS[1], "--"), "FN": (COLOURS[0], ":")}
_MEANT = {"TP": "found", "FP": "wrong", "FN": "missed"}


def boxes_picture(
    image: UInt8[np.ndarray, "h w c"],
    boxes: Float[np.ndarray, "n 4"],
    titles: Sequence[str],
    masks: Sequence[Bool[np.ndarray, "h w"]] = (),
) -> bytes:
    """An image with boxes (corners in its pixels) and a title at each; a PNG.

    Args:
      masks: of the objects in the boxes, in the colour of the box; none, or one for each.
    """
    with drawing():
        figure, axes = _canvas(image.shape[0], image.shape[1])
        shown = np.broadcast_to(image, (*image.shape[:2], 3)) / 255
        for index, mask in enumerate(masks):
            colour = np.array(to_rgb(COLOURS[index % (len(COLOURS) - 1)]))
            shown = np.where(mask[..., None], (shown + colour) / 2, shown)
        axes.imshow(shown, vmin=0, vmax=1)
        for index, ((x, y, x2, y2), title) in enumerate(zip(boxes, titles, strict=True)):
            colour = COLOURS[index % (len(COLOURS) - 1)]
            corner = x - 0.5, y - 0.5  # pixel 0 is drawn from -0.5 to 0.5
            axes.add_patch(Rectangle(corner, x2 - x, y2 - y, fill=False, ec=colour, lw=1.6))
            style = {"fc": colour, "ec": "none", "pad": 1.0}
            above = "bottom" if y > 0.08 * image.shape[0] else "top"  # at the border inside
            axes.text(*corner, title, fontsize=8, color="w", va=above, bbox=style, clip_on=True)
        return _png(figure)


@dataclass(frozen=True)
class Seen:
    """One image (0 to 1) with boxes of three kinds, corners in its pixels, and their titles.

    Attributes:
      kinds: "TP", a detection that finds an object; "FP", one that does not; "FN", an object that
        none finds.
    """

    image: Float[np.ndarray, "h w c"]
    boxes: Float[np.ndarray, "n 4"]
    kinds: Sequence[str]
    titles: Sequence[str]


def detections_picture(seen: Sequence[Seen], heading: str) -> bytes:
    """What a detector finds beside what is there: kinds differ in their dashes, too; a PNG."""
    columns = min(4, len(seen))
    rows = -(-len(seen) // columns)
    with drawing():
        figure = Figure(figsize=(2.6 * columns, 2.6 * rows + 0.8), layout="constrained")
        FigureCanvasAgg(figure)
        for axes, one in zip_longest(figure.subplots(rows, columns, squeeze=False).flat, seen):
            axes.set_axis_off()
            if one is None:
                continue
            shape = (*one.image.shape[:2], 3)
            axes.imshow(np.broadcast_to(one.image, shape), vmin=0, vmax=1)
            for (x, y, x2, y2), kind, title in zip(one.boxes, one.kinds, one.titles, strict=True):
                colour, dash = _KINDS[kind]
                corner = x - 0.5, y - 0.5
                style = {"fill": False, "ec": colour, "ls": dash, "lw": 1.7}
                axes.add_patch(Rectangle(corner, x2 - x, y2 - y, **style))
                above = "bottom" if y > 0.12 * shape[0] else "top"
                label = {"fc": colour, "ec": "none", "pad": 0.6}
                axes.text(*corner, title, fontsize=6.5, color="w", va=above, bbox=label)
        handles = [
            Line2D([], [], color=colour, ls=dash, lw=1.7, label=f"{kind}: {_MEANT[kind]}")
            for kind, (colour, dash) in _KINDS.items()
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
        figure.suptitle(fitted(heading, figure.get_figwidth() - 0.4), fontsize=9)
        return _png(figure)


def segmentations_picture(
    images: Sequence[Float[np.ndarray, "h w c"]],
    maps: Sequence[tuple[UInt8[np.ndarray, "a b"], UInt8[np.ndarray, "a b"]]],
    names: Sequence[str],
    heading: str,
) -> bytes:
    """Above the true classes of each image's pixels, below those that are predicted; a PNG.

    Args:
      maps: of each image, true and predicted.
    """
    with drawing():
        figure = Figure(figsize=(1.7 * len(images) + 0.4, 4.6), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(2, len(images), squeeze=False)
        for column, (image, both) in enumerate(zip(images, maps, strict=True)):
            for row, class_map in enumerate(both):
                grid[row][column].set(xticks=[], yticks=[])
                grid[row][column].imshow(overlay(image, class_map), vmin=0, vmax=1)
        grid[0][0].set_ylabel("true")
        grid[1][0].set_ylabel("predicted")
        _name_classes(figure, [one for both in maps for one in both], names)
        figure.suptitle(fitted(heading, figure.get_figwidth() - 0.4), fontsize=9)
        return _png(figure)


def classes_picture(
    image: UInt8[np.ndarray, "h w c"],
    class_map: UInt8[np.ndarray, "h w"],
    names: Sequence[str],
) -> bytes:
    """An image with the classes of its pixels in their colours, and which they are; a PNG."""
    with drawing():
        figure, axes = _canvas(image.shape[0], image.shape[1])
        axes.imshow(overlay(image / 255, class_map), vmin=0, vmax=1)
        _name_classes(figure, [class_map], names)
        return _png(figure)


def _name_classes(
    figure: Figure, maps: Sequence[UInt8[np.ndarray, "..."]], names: Sequence[str]
) -> None:
    """A legend of the classes that fill most pixels, as many as there is room for."""
    counts = np.bincount(np.concatenate([one.ravel() for one in maps]), minlength=256)
    there = [one for one in np.argsort(-counts, kind="stable").tolist() if counts[one]]
    there = [one for one in there if 0 < one < len(names)]
    if not there:
        return
    colours, wide = class_colours(256) / 255, 1.5  # inches of an entry
    columns = max(1, int(figure.get_figwidth() / wide))
    shown = there[: _LEGEND_ROWS * columns]
    handles = [
        Rectangle((0, 0), 1, 1, fc=colours[one], label=fitted(str(names[one]), wide - 0.5, 7.0))
        for one in shown
    ]
    rest = f"{len(there) - len(shown)} more are not named" if len(there) > len(shown) else None
    figure.legend(handles=handles, loc="outside lower center", ncols=min(columns, len(handles)),
                  fontsize=7, title=rest, title_fontsize=7)  # fmt: skip


def mask_png(class_map: UInt8[np.ndarray, "h w"]) -> bytes:
    """A PNG with a palette whose values are the classes, as VOC's files are."""
    from PIL import Image

    picture = Image.fromarray(class_map, mode="P")
    picture.putpalette(class_colours(256).tobytes())
    out = io.BytesIO()
    picture.save(out, format="png")
    return out.getvalue()


def _canvas(height: int, width: int):
    inches = _INCHES / max(height, width)
    figure = Figure(
        figsize=(max(width * inches, 2.0), max(height * inches, 1.0) + 0.3), layout="constrained"
    )
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_axis_off()
    return figure, axes


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120, metadata={"Software": None})
    return out.getvalue()
