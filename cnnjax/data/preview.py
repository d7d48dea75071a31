"""A labelled contact sheet of a data set."""

import io

import numpy as np

from cnnjax.data.dataset import Dataset

_CLASSES, _COLUMNS = 10, 8


def contact_sheet(dataset: Dataset, split: str = "train") -> bytes:
    """A PNG with the first eight images of each of the first ten classes, a row a class."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    examples = dataset.train if split == "train" else dataset.test
    names = dataset.label_names[:_CLASSES]
    with matplotlib.rc_context({"font.size": 9}):
        figure = Figure(figsize=(1.2 + 0.75 * _COLUMNS, 0.6 + 0.75 * len(names)))
        FigureCanvasAgg(figure)
        for label, name in enumerate(names):
            chosen = np.flatnonzero(examples.labels == label)[:_COLUMNS]
            for column in range(_COLUMNS):
                axes = figure.add_subplot(len(names), _COLUMNS, label * _COLUMNS + column + 1)
                axes.set_xticks([])
                axes.set_yticks([])
                for spine in axes.spines.values():
                    spine.set_visible(False)
                if column == 0:
                    axes.set_ylabel(name, rotation=0, ha="right", va="center")
                if column < len(chosen):
                    image = examples.images[chosen[column]] / dataset.max_value
                    grey = image.shape[-1] == 1
                    axes.imshow(
                        image[..., 0] if grey else image[..., :3], cmap="gray", vmin=0, vmax=1
                    )
        height, width, channels = dataset.image_shape
        figure.suptitle(
            f"{dataset.name}, {split}: {len(examples):,} images {height}x{width}x{channels}"
        )
        figure.subplots_adjust(
            left=0.17, right=0.99, bottom=0.01, top=0.93, wspace=0.05, hspace=0.05
        )
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=110)
    return out.getvalue()
