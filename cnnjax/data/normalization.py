"""The figures that turn stored bytes into a network's input, and the components of colour."""

from typing import Literal

import numpy as np

from cnnjax.core.errors import Refused
from cnnjax.core.recipe import Data
from cnnjax.data.dataset import AnyDataset, Dataset

# ImageNet's training set, red green blue, where a fully bright pixel is 1: mean and deviation as
# torchvision documents them; spreads and components of colour as in fb.resnet.torch.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
IMAGENET_COLOUR_SPREADS = (0.2175, 0.0188, 0.0045)
IMAGENET_COLOURS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)
# What Caffe's VGG was trained with: 123, 117 and 104 are subtracted from bytes, red green blue.
_CAFFE_MEAN = (123 / 255, 117 / 255, 104 / 255)
# LeCun et al. 1998, section II.B: background -0.1, foreground 1.175.
_LECUN = (-0.1, 1.175)

# Those that no data set decides: what weights from elsewhere were trained with.
FixedNormalization = Literal["imagenet", "inception", "caffe", "lecun1998", "none"]


def fixed_normalization(name: FixedNormalization, channels: int) -> dict[str, np.ndarray]:
    """`mean` [1, 1, c] and `deviation` [c], where a fully bright pixel is 1.

    Raises:
      Refused: figures for red, green, blue, and other images.
    """
    if name in ("imagenet", "caffe"):
        if channels != 3:
            raise Refused(
                f"normalization={name} is for 3 channels, these images have {channels}; use"
                " inception, lecun1998 or none"
            )
        mean, deviation = np.asarray(IMAGENET_MEAN), np.asarray(IMAGENET_DEVIATION)
        if name == "caffe":
            mean, deviation = np.asarray(_CAFFE_MEAN), np.full(3, 1 / 255)
    else:
        low, high = {"inception": (-1, 1), "lecun1998": _LECUN, "none": (0, 1)}[name]
        mean = np.full(channels, -low / (high - low))
        deviation = np.full(channels, 1 / (high - low))
    return {"mean": mean.astype(np.float32)[None, None], "deviation": deviation.astype(np.float32)}


def chosen_normalization(
    data: Data, dataset: AnyDataset
) -> FixedNormalization | Literal["pixel_mean", "channel"]:
    """The normalisation of a set; "default" is decided by how it is read.

    Raises:
      Refused: the mean image of a streamed set, or colour of grey images.
    """
    in_memory = isinstance(dataset, Dataset)
    if data.normalization == "pixel_mean" and not in_memory:
        raise Refused(
            f"data.normalization=pixel_mean: {dataset.name} is streamed, its mean image is not"
            " known; use channel"
        )
    if data.normalization in ("imagenet", "caffe"):
        fixed_normalization(data.normalization, dataset.image_shape[2])  # refused for grey images
    if data.pca_colour and dataset.image_shape[2] != 3:
        raise Refused(f"data.pca_colour={data.pca_colour}: {dataset.name} has no colour")
    if data.normalization == "default":
        return "pixel_mean" if in_memory else "channel"
    return data.normalization


def normalization_arrays(data: Data, dataset: AnyDataset) -> dict[str, np.ndarray]:
    """`mean` [h, w, c] or [1, 1, c], `max_value`; if needed `deviation` [c], `colours` [c, c]."""
    chosen, channels = chosen_normalization(data, dataset), dataset.image_shape[2]
    arrays = {"max_value": np.asarray(dataset.max_value, np.float32)}
    if chosen == "pixel_mean":
        assert isinstance(dataset, Dataset), "a streamed set was refused"
        arrays["mean"] = dataset.pixel_mean()
    elif chosen == "channel":
        mean, deviation = _channels(dataset)
        arrays["mean"] = mean.astype(np.float32)[None, None]
        arrays["deviation"] = deviation.astype(np.float32)
    else:
        arrays.update(fixed_normalization(chosen, channels))
    if data.pca_colour:
        colours = _colours(dataset) / arrays.get("deviation", np.ones(channels))[:, None]
        arrays["colours"] = colours.astype(np.float32)
    return arrays


def _channels(dataset: AnyDataset) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(dataset, Dataset):
        mean = dataset.pixel_mean().mean((0, 1))
        deviation = np.sqrt(np.diag(dataset.colour_covariance()))
        return mean, np.maximum(deviation, 1e-6)
    return np.asarray(IMAGENET_MEAN), np.asarray(IMAGENET_DEVIATION)


def _colours(dataset: AnyDataset) -> np.ndarray:
    """Components as columns, each as long as the spread along it.

    Krizhevsky et al. 2012, section 4.1, multiply by the eigenvalue of the covariance, which has the
    unit of a squared pixel. The ImageNet figures in wide use are of the size of its square root,
    and that is what a set in memory gets.
    """
    if isinstance(dataset, Dataset):
        values, vectors = np.linalg.eigh(dataset.colour_covariance())
        return vectors * np.sqrt(np.maximum(values, 0))
    return np.asarray(IMAGENET_COLOURS) * np.asarray(IMAGENET_COLOUR_SPREADS)
