"""A labelled contact sheet of a data set."""

import io

import numpy as np

from cnnjax.data.dataset import AnyDataset, Dataset
from cnnjax.data.views import fixed_view

_CLASSES, _COLUMNS = 10, 8
_MOST_READ = 4000  # encoded images that are looked at for a class's eight


def first_images(dataset: AnyDataset, split: str, classes: int, columns: int) -> list[list]:
    """Up to `columns` images (0 to 1) of each of the first classes.

    Without classes the first images, in as many rows.
    """
    rows: list[list] = [[] for _ in range(classes)]
    if isinstance(dataset, Dataset):
        examples = dataset.train if split == "train" else dataset.test
        if not dataset.label_names:
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
            rows[label].append(fixed_view(data, dataset.view) / 255)
        if all(len(row) == columns for row in rows):
            break
    return rows


def contact_sheet(dataset: AnyDataset, split: str = "train") -> bytes:
    """A PNG with the first eight images of each of the first ten classes, a row a class.

    Without classes the first eighty.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    examples = dataset.train if split == "train" else dataset.test
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
