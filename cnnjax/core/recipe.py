"""A recipe: everything that decides how one network is trained, as plain frozen data.

What is not in a recipe does not change a result: folders, devices, progress. A recipe and a seed
are the identity of a run.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

SEEDS = 2**32  # a key of jax is made of 32 bits: a larger seed would be another one's twin
LARGEST = 3.4e38  # of a setting: what is computed is float32


def check_seed(seed: int, where: str = "seed") -> None:
    """Raises ValueError unless `seed` has a random stream of its own."""
    if not 0 <= seed < SEEDS:
        raise ValueError(f"{where}={seed}: a seed is 0 to {SEEDS - 1}")


def _check_positive(settings: Any, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(settings, name) <= LARGEST:
            raise ValueError(f"{name}={getattr(settings, name)}: must be 0 or more, and finite")


@dataclass(frozen=True)
class Model:
    """A network: the name that its users know (or FILE.py:Class) and the fields that differ."""

    name: str = "cifar_resnet20"
    fields: Mapping[str, Any] = field(default_factory=dict)

    def with_field(self, name: str, value: Any) -> "Model":
        if name == "name":
            return Model(value, {})
        return Model(self.name, {**self.fields, name: value})


@dataclass(frozen=True)
class Data:
    """A data set and how it is read.

    name: digits, a set of tensorflow-datasets, or folder:DIR with train/ and test/ (or val/), in
      each a folder of images for every class.
    train_split, test_split: a TFDS slice, e.g. "train[:80%]".
    image_size: pixels; needed where the sizes vary, or to resize.
    streaming: "auto" holds a set in memory if it fits; "always" reads encoded images, as RGB, while
      training; "never" refuses to.
    augmentation: "default" is the data's own. pad_crop_flip pads by 4 (in memory, on the device);
      random_resized_crop and scale_crop_flip are for streamed photographs (see `data.views`).
    normalization: pixel_mean subtracts the mean image, channel a mean and divides by a deviation
      for each channel, lecun1998 puts white at -0.1 and ink at 1.175. "default": pixel_mean in
      memory, channel (ImageNet's figures) streamed.
    pca_colour: deviation of the shifts along the principal components of colour; 0.1 in
      Krizhevsky et al. 2012, section 4.1.
    mixup, cutmix: parameter of the Beta distribution of the shares (Zhang et al. 2018; Yun et al.
      2019); with both, one of the two for each batch at random. 0: off.
    test_crops: 10 averages the corners, the centre and their flips (streamed only).
    """

    name: str = "digits"
    train_split: str = "train"
    test_split: str = "test"
    image_size: int | None = None
    streaming: Literal["auto", "always", "never"] = "auto"
    augmentation: Literal[
        "default", "none", "pad_crop_flip", "random_resized_crop", "scale_crop_flip"
    ] = "default"
    normalization: Literal["default", "pixel_mean", "channel", "lecun1998"] = "default"
    pca_colour: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    test_crops: Literal[1, 10] = 1

    def __post_init__(self):
        if self.image_size is not None and self.image_size < 1:
            raise ValueError(f"image_size={self.image_size}: must be 1 or more")
        _check_positive(self, "pca_colour", "mixup", "cutmix")


@dataclass(frozen=True)
class Optimizer:
    """SGD with momentum. Defaults: He et al. 2015, section 4.2."""

    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4  # L2, on every parameter

    def __post_init__(self):
        _check_positive(self, "learning_rate", "momentum", "weight_decay")
        if self.momentum >= 1:
            raise ValueError(f"momentum={self.momentum}: must be below 1")


@dataclass(frozen=True)
class Schedule:
    """The learning rate over a run, as a multiple of `optimizer.learning_rate`.

    Every position is a fraction of the run, so that a shorter run is the same recipe.
      he2015: divided by 10 at each of `boundaries`; `warmup` at a tenth of the rate.
      cosine: `warmup` linear from 0, then half a cosine to 0 (Loshchilov & Hutter 2017).
      constant: after `warmup` linear from 0.
    """

    name: Literal["he2015", "cosine", "constant"] = "he2015"
    warmup: float = 0.0
    boundaries: tuple[float, ...] = (0.5, 0.75)

    def __post_init__(self):
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup={self.warmup}: a fraction of the run, 0 to below 1")
        if list(self.boundaries) != sorted(self.boundaries) or not all(
            0 < b < 1 for b in self.boundaries
        ):
            raise ValueError(f"boundaries={self.boundaries}: rising fractions of the run")


@dataclass(frozen=True)
class Loss:
    """What is minimised.

    name:
      cross_entropy: softmax cross-entropy in nats; `label_smoothing` mixes in the uniform
        distribution (Szegedy et al. 2016, section 7).
      lecun1998: discriminative MAP, for logits that are minus half a distance (LeCun et al. 1998,
        equation 9, whose j is not given there: 1 here).
    auxiliary_weight: of each auxiliary head's loss (Szegedy et al. 2014, section 5).
    """

    name: Literal["cross_entropy", "lecun1998"] = "cross_entropy"
    label_smoothing: float = 0.0
    auxiliary_weight: float = 0.3

    def __post_init__(self):
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing={self.label_smoothing}: from 0 to below 1")
        if self.label_smoothing and self.name != "cross_entropy":
            raise ValueError(f"label_smoothing={self.label_smoothing}: for cross_entropy only")
        _check_positive(self, "auxiliary_weight")


@dataclass(frozen=True)
class Streams:
    """Seeds of single random streams, 0 to 2^32 - 1; None: the run's seed (see `core.random`)."""

    init: int | None = None
    order: int | None = None
    augment: int | None = None
    dropout: int | None = None

    def __post_init__(self):
        for name, seed in asdict(self).items():
            if seed is not None:
                check_seed(seed, name)


@dataclass(frozen=True)
class Recipe:
    """How one network is trained. `batch_size` is global; one epoch drops the ragged last batch."""

    model: Model = Model()
    data: Data = Data()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    loss: Loss = Loss()
    streams: Streams = Streams()
    batch_size: int = 128
    epochs: int = 10
    steps: int | None = None  # if given, end after so many steps instead of whole epochs
    source: str = ""

    def __post_init__(self):
        for name in ("batch_size", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be 1 or more")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps={self.steps}: must be 1 or more")

    def replace(self, **changes: Any) -> "Recipe":
        return replace(self, **changes)

    def idle(self) -> dict[str, str]:
        """Settings that have no effect beside the others, by path, and why."""
        found = {}
        if self.steps is not None:
            found["epochs"] = f"steps={self.steps} ends the run"
        if self.schedule.name != "he2015":
            found["schedule.boundaries"] = f"schedule.name={self.schedule.name} has none"
        return found
