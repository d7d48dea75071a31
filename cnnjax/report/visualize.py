"""Pictures of a network at work on one image: channels, first-layer filters, feature maps.

Grey pictures: larger values look lighter. A map is scaled by itself, from its smallest to its
largest value, and the caption says from where to where; maps of one pixel are scaled as a row.
"""

import io
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from cnnjax.analysis.cost import model_cost
from cnnjax.core.errors import Refused
from cnnjax.data.dataset import AnyDataset, Examples, StreamedDataset

MAPS = 16  # of each stride
FILTERS = 64
_COLUMNS = 16


def draw(
    module: Any,
    variables: Mapping[str, Any],
    image: Float[np.ndarray, "h w c"],
    normalized: Float[np.ndarray, "h w c"],
    title: str,
) -> dict[str, bytes]:
    """channels.png, filters.png where there is a convolution, maps.png: PNGs by name.

    Args:
      image: 0 to 1, as it is looked at; `normalized`: as the network takes it.

    Raises:
      Refused: the network has no feature maps.
    """
    drawn = {"channels.png": channels_picture(image, title)}
    maps = network_maps(module, variables, normalized)
    height, width, channels = image.shape
    first = first_filters(module, variables["params"], (height, width, channels))
    if first:
        drawn["filters.png"] = filters_picture(*first, title)
    return {**drawn, "maps.png": maps_picture(maps, title)}


def stored_image(
    dataset: AnyDataset, split: str, index: int
) -> tuple[UInt8[np.ndarray, "h w c"], str]:
    """Image `index` of a split as it is stored, and the name of its class ("" without classes).

    Raises:
      Refused: the split has fewer images.
    """
    examples = dataset.train if split == "train" else dataset.test
    if index >= len(examples):
        raise Refused(f"--index {index}: {dataset.name} {split} has 0 to {len(examples) - 1}")
    if isinstance(examples, Examples):
        named = "labels" in examples.arrays
        name = dataset.label_names[examples.labels[index]] if named else ""
        return examples.images[index], name
    assert isinstance(dataset, StreamedDataset), "encoded examples are streamed"
    found = dataset.view.training("none").fixed(*examples.read(index))
    return found["images"], dataset.label_names[found["labels"]] if "labels" in found else ""


def channels_picture(image: Float[np.ndarray, "h w c"], title: str) -> bytes:
    """The image (0 to 1), and each of its channels as a grey picture; a PNG."""
    height, width, channels = image.shape
    names = ("red", "green", "blue") if channels == 3 else ("grey",) * channels
    panels = [(image if channels == 3 else image[..., 0], f"{height}x{width}x{channels}")]
    if channels == 3:
        panels += [(image[..., i], name) for i, name in enumerate(names)]
    return _grid([panel for panel, _ in panels], [text for _, text in panels], title, 4, 2.4)


def first_filters(
    module: Any, params: Mapping[str, Any], image_shape: tuple[int, int, int]
) -> tuple[str, Float[np.ndarray, "kh kw c f"]] | None:
    """Path and kernel of the convolution that runs first."""
    for layer in model_cost(module, image_shape).layers:
        if layer.kind.startswith("conv "):
            node: Any = params
            for part in layer.name.split("/"):
                node = node.get(part, {})
            kernels = [np.asarray(a) for a in jax.tree.leaves(node) if np.ndim(a) == 4]
            return (layer.name, kernels[0]) if kernels else None
    return None


def filters_picture(path: str, kernel: Float[np.ndarray, "kh kw c f"], title: str) -> bytes:
    """Filters in colour where they see three channels, else the first channel's; a PNG."""
    filters = np.moveaxis(kernel, -1, 0)[:FILTERS]
    colour = filters.shape[-1] == 3
    panels = [_scaled(f if colour else f[..., 0]) for f in filters]
    size = "x".join(map(str, kernel.shape[:3]))
    more = f", the first {FILTERS}" if kernel.shape[-1] > FILTERS else ""
    heading = f"{title}\n{path}: {kernel.shape[-1]} filters of {size}{more}"
    return _grid(panels, [""] * len(panels), heading, _COLUMNS, 0.7)


def maps_picture(maps: Mapping[int, Any], title: str) -> bytes:
    """For each stride the first maps of the network, a row each; a PNG."""
    panels, captions = [], []
    for stride, values in maps.items():
        array = np.asarray(values[0], np.float32)
        height, width, features = array.shape
        for index in range(MAPS):
            if index >= features:
                panels.append(None)
                captions.append("")
                continue
            # A map of one pixel is scaled among its row, or it would always be black.
            row = _scaled(array) if height == width == 1 else _scaled(array[..., index, None])
            panels.append(row[..., index] if height == width == 1 else row[..., 0])
            head = f"stride {stride}: {height}x{width}x{features}\n" if index == 0 else "\n"
            captions.append(head + _range(array[..., index]))
    return _grid(panels, captions, f"{title}\nthe first {MAPS} maps at each stride", MAPS, 0.95)


def network_maps(module: Any, variables: Mapping[str, Any], image: Any) -> dict[int, Any]:
    """The feature maps of one normalised image [h, w, c].

    Raises:
      Refused: the network has no `feature_maps`, or it does not give maps by stride.
    """
    if not hasattr(module, "feature_maps"):
        raise Refused(
            f"{type(module).__name__} has no method feature_maps(images, *, train) ->"
            " {stride: map}"
        )
    images = jnp.asarray(image)[None]
    maps = module.apply(variables, images, train=False, method="feature_maps")
    if (
        not isinstance(maps, Mapping)
        or not maps
        or any(getattr(values, "ndim", 0) != 4 for values in maps.values())
    ):
        raise Refused(
            f"{type(module).__name__}.feature_maps must give a dict {{stride: map [n, h, w, c]}}"
        )
    return dict(maps)


def _scaled(array: np.ndarray) -> np.ndarray:
    """0 to 1 from the smallest to the largest finite value; what is not finite is at an end."""
    values = array.astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    values = np.nan_to_num(np.clip(values, low, high), nan=low)
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def _range(values: np.ndarray) -> str:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return "not finite"
    low, high = finite.min(), finite.max()
    text = f"{low:.2g}" if low == high else f"{low:.2g} to {high:.2g}"
    return text if finite.size == values.size else f"{text}, nan, inf"


def _grid(panels: list[Any], captions: list[str], title: str, columns: int, inches: float) -> bytes:
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from cnnjax.report.canvas import drawing, fitted

    columns = min(columns, max(len(panels), 1))
    rows = -(-len(panels) // columns)
    lines = max(caption.count("\n") + bool(caption) for caption in captions)
    text = 0.13 * lines + 0.06  # inches above a panel for its caption
    width = max(columns * inches + 0.2, 5.0)
    with drawing(), rc_context({"font.size": 7}):
        title = "\n".join(fitted(line, width - 0.2) for line in title.split("\n"))
        head = 0.3 + 0.2 * title.count("\n")
        height = rows * (inches + text) + head
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
        for place, (panel, caption) in enumerate(zip(panels, captions, strict=True)):
            row, column = divmod(place, columns)
            if panel is None:
                continue
            top = height - head - row * (inches + text) - text
            box = (
                (0.1 + column * inches) / width,
                (top - inches * 0.95) / height,
                inches * 0.95 / width,
                inches * 0.95 / height,
            )
            axes = figure.add_axes(box)
            axes.set(xticks=[], yticks=[])
            for edge in axes.spines.values():  # a light panel ends somewhere, too
                edge.set(linewidth=0.4, color="0.6")
            axes.imshow(panel, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.text(
                0, 1.02, caption, transform=axes.transAxes, va="bottom", ha="left", fontsize=6
            )
        figure.text(0.1 / width, 1 - 0.06 / height, title, va="top", fontsize=9)
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=150)
    return out.getvalue()
