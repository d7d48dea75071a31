"""Pictures of what a trained network has learned, and around it: side by side where there are more.

Each function draws and returns a PNG; what it draws was computed before.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib.colors import LogNorm

from cnnjax.report.canvas import drawing, fitted

_INCHES = 2.6  # of a panel
_MOST_NAMES = 30  # classes that are named on an axis


def grad_cam_picture(
    images: Float[np.ndarray, "n h w c"],
    heat: Float[np.ndarray, "n h w"],
    titles: Sequence[str],
    heading: str,
) -> bytes:
    """Each image, and below it where the network looks: lighter is more, scaled by image."""
    with drawing():
        figure, axes = _panels(2, len(images), 1.5)
        for column, (image, map_, title) in enumerate(zip(images, heat, titles, strict=True)):
            top = map_.max()
            axes[0][column].imshow(image if image.shape[-1] == 3 else image[..., 0], cmap="gray")
            axes[1][column].imshow(map_ / top if top > 0 else map_, cmap="inferno", vmin=0, vmax=1)
            for row in (0, 1):
                axes[row][column].set(xticks=[], yticks=[])
            axes[0][column].set_title(fitted(title, 1.4, 7.0), fontsize=7)
        figure.suptitle(fitted(heading, figure.get_figwidth() - 0.4), fontsize=9)
        return _png(figure)


def influence_picture(maps: Sequence[Float[np.ndarray, "h w"]], titles: Sequence[str]) -> bytes:
    """How much each pixel sways the middle unit of the last map; white: not at all."""
    with drawing():
        figure, axes = _panels(1, len(maps), _INCHES)
        for place, map_, title in zip(axes[0], maps, titles, strict=True):
            top = map_.max()
            place.imshow(map_ / top if top > 0 else map_, cmap="Blues", vmin=0, vmax=1)
            place.set_title(fitted(title, _INCHES), fontsize=9)
            place.set(xticks=[], yticks=[])
        return _png(figure)


def landscape_picture(
    surfaces: Sequence[Float[np.ndarray, "k k"]], places: Sequence[float], titles: Sequence[str]
) -> bytes:
    """Contours of the loss around each network, on one scale."""
    known = np.concatenate([s[np.isfinite(s) & (s > 0)] for s in surfaces])
    low, high = (float(known.min()), float(known.max())) if known.size else (1e-3, 1.0)
    levels = np.geomspace(low, max(high, low * 1.01), 24)
    with drawing():
        figure, axes = _panels(1, len(surfaces), _INCHES + 0.6)
        drawn = None
        for place, surface, title in zip(axes[0], surfaces, titles, strict=True):
            shown = np.clip(np.nan_to_num(surface, nan=high, posinf=high), low, high)
            drawn = place.contourf(
                places, places, shown.T, levels, cmap="viridis", norm=LogNorm(low, levels[-1])
            )
            place.contour(places, places, shown.T, levels, colors="k", linewidths=0.2)
            place.plot(0, 0, "x", color="w", ms=5)
            place.set_title(fitted(title, _INCHES + 0.4), fontsize=9)
            place.set_aspect("equal")
            place.set_xlabel("first direction")
        axes[0][0].set_ylabel("second direction")
        bar = figure.colorbar(drawn, ax=axes[0], label="loss (nats)", shrink=0.85)
        ticks = np.geomspace(low, levels[-1], 5)
        bar.set_ticks(list(ticks), labels=[f"{tick:.2g}" for tick in ticks])
        bar.ax.minorticks_off()
        return _png(figure)


def confusion_picture(
    counts: Int[np.ndarray, "k k"], names: Sequence[str], title: str, counted: str = "examples"
) -> bytes:
    """Of each label's examples, or pixels, the share that is taken for each class, in per cent."""
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with drawing():
        side = min(2.2 + 0.34 * len(names), 11.0)
        figure, axes = _panels(1, 1, side)
        place = axes[0][0]
        drawn = place.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        if len(names) <= _MOST_NAMES:
            place.set_xticks(range(len(names)), names, rotation=90)
            place.set_yticks(range(len(names)), names)
            for (row, column), share in np.ndenumerate(shares):
                if counts[row, column]:
                    colour = "w" if share > 50 else "k"
                    place.text(column, row, f"{counts[row, column]:,}", ha="center", va="center",
                               fontsize=7, color=colour)  # fmt: skip
        place.set(xlabel="predicted", ylabel="label")
        place.set_title(fitted(title, side), fontsize=9)
        figure.colorbar(drawn, ax=place, label=f"% of the label's {counted}", shrink=0.7)
        return _png(figure)


def _panels(rows: int, columns: int, inches: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(columns * inches + 0.4, rows * inches + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for place in axes.flat:
        place.grid(visible=False)
    return figure, axes


def _png(figure: Any) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=150, metadata={"Software": None})
    return out.getvalue()
