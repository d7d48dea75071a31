"""What a network finds in an image, drawn: boxes with their classes, and classes of pixels."""

import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cnnjax.data.preview import class_colours, overlay
from cnnjax.report.canvas import COLOURS, drawing

_INCHES = 5.0  # of the longer side


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


def classes_picture(
    image: UInt8[np.ndarray, "h w c"],
    class_map: UInt8[np.ndarray, "h w"],
    names: Sequence[str],
) -> bytes:
    """An image with the classes of its pixels in their colours, and which they are; a PNG."""
    with drawing():
        figure, axes = _canvas(image.shape[0], image.shape[1])
        axes.imshow(overlay(image / 255, class_map), vmin=0, vmax=1)
        there = [one for one in np.unique(class_map).tolist() if one]
        colours = class_colours(256) / 255
        handles = [Rectangle((0, 0), 1, 1, fc=colours[one], label=names[one]) for one in there]
        if handles:
            figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 6))
        return _png(figure)


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
