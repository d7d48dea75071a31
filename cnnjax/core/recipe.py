"""A recipe: everything that decides how one network is trained, as plain frozen data.

What is not in a recipe does not change a result: folders, devices, progress. A recipe and a seed
are the identity of a run.
"""

import contextlib
import importlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, Literal

from cnnjax.core.errors import Refused

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
class Named:
    """One of many, by its name, with those of its settings that differ from that name's defaults.

    Which settings a name has is known to its registry (see `core.registry`).
    """

    registry: ClassVar[str]  # "module:OBJECT"
    name: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    def with_field(self, name: str, value: Any) -> Any:
        """A copy with one setting replaced; another name comes with its own defaults."""
        if name == "name":
            return type(self)(value, {})
        return type(self)(self.name, {**self.fields, name: value})

    def __getattr__(self, name: str) -> Any:
        """A setting by its name, as in `recipe.optimizer.learning_rate`, also if by default."""
        fields = self.__dict__.get("fields", {})
        if name in fields:
            return fields[name]
        if not name.startswith("_"):
            with contextlib.suppress(Refused):  # whoever asks for an attribute expects this error
                known = registry_of(self).settings(self.name)
                if name in known:
                    return known[name].default
        raise AttributeError(f"{type(self).__name__}({self.name!r}) has no setting {name!r}")


def registry_of(part: Named) -> Any:
    """The `Registry` that knows which settings a name of this part has."""
    module, _, name = part.registry.partition(":")
    return getattr(importlib.import_module(module), name)


@dataclass(frozen=True)
class Task(Named):
    """What is learned and how it is judged.

    name: classification, or a class of your own: FILE.py:Class, package.module:Class.
    """

    registry: ClassVar[str] = "cnnjax.tasks.registry:TASKS"
    name: str = "classification"


@dataclass(frozen=True)
class Model(Named):
    """A network.

    name: as its users know it (see: cnnjax models), or a class of your own: FILE.py:Class,
      package.module:Class.
    """

    registry: ClassVar[str] = "cnnjax.core.architectures:MODELS"
    name: str = "cifar_resnet20"


@dataclass(frozen=True, init=False)
class Optimizer(Named):
    """How parameters are updated: `Optimizer("adamw", learning_rate=1e-3)`.

    name: sgd, nesterov, adam, adamw, rmsprop, lamb, lion, or a function of your own:
      FILE.py:function, package.module:function.
    """

    registry: ClassVar[str] = "cnnjax.tasks.optimizers:OPTIMIZERS"
    name: str = "sgd"

    def __init__(self, name: str = "sgd", fields: Mapping[str, Any] | None = None, **settings: Any):
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "fields", {**(fields or {}), **settings})


@dataclass(frozen=True)
class Scenes:
    """The scenes of scattered_digits: digits on a grey ground, each with its box and mask.

    source: whose images are scattered, training images in training scenes and test images in test
      scenes: digits, or a set of tensorflow-datasets with grey images that are bright on black.
    train, test: how many scenes.
    size: of a scene, height and width in pixels.
    fewest, most: digits that a scene is to have; one for which there is no free place is left out.
    smallest, largest: side of a digit's image in pixels.
    overlap: share of the smaller one's area that the boxes of two digits may have in common; 0:
      none. Of two that overlap the later one covers the other.
    clutter: fragments of digits that are to be taken for none.
    noise: standard deviation of each pixel's, of 255 levels.
    seed: of the scenes, whatever a run's seed is.
    """

    source: str = "digits"
    train: int = 2000
    test: int = 200
    size: int = 64
    fewest: int = 1
    most: int = 4
    smallest: int = 14
    largest: int = 28
    overlap: float = 0.0
    clutter: int = 6
    noise: float = 8.0
    seed: int = 0

    def __post_init__(self):
        for name, low in (("train", 1), ("test", 1), ("size", 8), ("most", 1), ("smallest", 4)):
            if getattr(self, name) < low:
                raise ValueError(f"{name}={getattr(self, name)}: must be {low} or more")
        if self.most > 200:
            raise ValueError(f"most={self.most}: must be 200 or less")
        if not 0 <= self.overlap < 1:
            raise ValueError(f"overlap={self.overlap}: a share, 0 (none) to below 1")
        _check_positive(self, "fewest", "clutter", "noise")
        check_seed(self.seed)


@dataclass(frozen=True)
class Data:
    """A data set and how it is read.

    name: digits, scattered_digits, a set of tensorflow-datasets, folder:DIR with train/ and test/
      (or val/), in each a folder of images for every class, coco:DIR with instances_NAME.json and
      the images of NAME, masks:DIR with images/NAME and masks/NAME, FILE.npz (keys train_images,
      train_labels, test_images, test_labels), or a function that returns a Dataset:
      FILE.py:function, package.module:function.
    train_split, test_split: a TFDS slice, e.g. "train[:80%]"; of coco:DIR and masks:DIR the name of
      a part, with or without its year.
    image_size: pixels; needed where the sizes vary, or to resize.
    streaming: "auto" holds a set in memory if it fits and has no boxes; "always" reads encoded
      images, as RGB, while training; "never" refuses to.
    augmentation: "default" is the data's own. pad_crop_flip pads by `crop_padding`, crops and flips
      at random, pad_crop and flip do their part of it (in memory, on the device);
      random_resized_crop and scale_crop_flip are for streamed photographs (see `data.views`), flip
      and scale_jitter_flip for those with boxes or masks (see `data.scene_views`), which go along.
    crop_padding: pixels on each side, in memory; 4 in He et al. 2015, section 4.2.
    normalization: pixel_mean subtracts the mean image, channel a mean and divides by a deviation
      for each channel, lecun1998 puts white at -0.1 and ink at 1.175, imagenet takes ImageNet's
      channels whatever the set, caffe 123, 117 and 104 from bytes (SSD300, Caffe's VGG),
      inception -1 to 1, none 0 to 1. "default": pixel_mean in memory,
      channel (ImageNet's figures) streamed.
    pca_colour: deviation of the shifts along the principal components of colour; 0.1 in
      Krizhevsky et al. 2012, section 4.1.
    mixup, cutmix: parameter of the Beta distribution of the shares (Zhang et al. 2018; Yun et al.
      2019); with both, one of the two for each image at random. 0: off.
    test_crops: 10 averages the corners, the centre and their flips (streamed only).
    test_share: of a set without a test part, the share of each class that is held out for testing.
    validation_share: the share of each class that is held back from training and tested on in the
      place of the test part, which nobody looks at while rates and the like are chosen.
    train_examples: keep so many training examples, of each class its share; None: all.
    split_seed: which examples these are, whatever a run's seed is.
    permute_pixels: seed of one permutation of the places of all pixels, the same for every image:
      what stood side by side no longer does (in memory only); None: as they are.
    unreadable: "skip" decodes every image once beforehand and leaves out what cannot be, with a
      word (folder:DIR, coco:DIR, masks:DIR, and TFDS sets with boxes or with streaming "always"),
      boxes without area or outside their image too; "refuse" does not go on.
    """

    name: str = "digits"
    train_split: str = "train"
    test_split: str = "test"
    image_size: int | None = None
    streaming: Literal["auto", "always", "never"] = "auto"
    augmentation: Literal[
        "default",
        "none",
        "pad_crop_flip",
        "pad_crop",
        "flip",
        "random_resized_crop",
        "scale_crop_flip",
        "scale_jitter_flip",
    ] = "default"
    crop_padding: int = 4
    normalization: Literal[
        "default", "pixel_mean", "channel", "lecun1998", "imagenet", "inception", "caffe", "none"
    ] = "default"
    pca_colour: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    test_crops: Literal[1, 10] = 1
    test_share: float = 0.0
    validation_share: float = 0.0
    train_examples: int | None = None
    split_seed: int = 0
    permute_pixels: int | None = None
    unreadable: Literal["refuse", "skip"] = "refuse"
    scenes: Scenes = Scenes()

    def __post_init__(self):
        if self.image_size is not None and self.image_size < 1:
            raise ValueError(f"image_size={self.image_size}: must be 1 or more")
        _check_positive(self, "pca_colour", "mixup", "cutmix")
        for name in ("test_share", "validation_share"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: a share, 0 (off) to below 1")
        if self.train_examples is not None and self.train_examples < 1:
            raise ValueError(f"train_examples={self.train_examples}: must be 1 or more")
        if self.crop_padding < 0:
            raise ValueError(f"crop_padding={self.crop_padding}: must be 0 or more")
        check_seed(self.split_seed, "split_seed")
        if self.permute_pixels is not None:
            check_seed(self.permute_pixels, "permute_pixels")


@dataclass(frozen=True)
class Init:
    """What a training starts from.

    weights: the folder of a run or of imported weights, or a file of weights (safetensors, npz,
      pth); None: random numbers.
    head: "keep" the classifier that lies there, or begin with a "new" one; of a network that stands
      on a backbone all is new but that.
    """

    weights: str | None = None
    head: Literal["keep", "new"] = "keep"


@dataclass(frozen=True)
class Schedule:
    """The learning rate over a run, as a multiple of `optimizer.learning_rate`.

    Every position is a fraction of the run, so that a shorter run is the same recipe.

    name:
      he2015: divided by 10 at each of `boundaries`; `warmup` at a tenth of the rate.
      cosine: `warmup` linear from 0, then half a cosine to 0 (Loshchilov & Hutter 2017).
      linear: `warmup` linear from 0, then linearly to 0.
      polynomial: `warmup` linear from 0, then (1 - t)^`power` over the rest.
      constant: after `warmup` linear from 0.
    warmup: the share of the run before the full rate, 0 to below 1.
    boundaries: of he2015: where the rate is divided, as rising shares of the run.
    power: of polynomial.
    """

    name: Literal["he2015", "cosine", "linear", "polynomial", "constant"] = "he2015"
    warmup: float = 0.0
    boundaries: tuple[float, ...] = (0.5, 0.75)
    power: float = 2.0

    def __post_init__(self):
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup={self.warmup}: a fraction of the run, 0 to below 1")
        if list(self.boundaries) != sorted(self.boundaries) or not all(
            0 < b < 1 for b in self.boundaries
        ):
            raise ValueError(f"boundaries={self.boundaries}: rising fractions of the run")
        if not 0 < self.power <= LARGEST:
            raise ValueError(f"power={self.power}: must be above 0, and finite")


@dataclass(frozen=True)
class Loss:
    """What is minimised.

    name:
      cross_entropy: softmax cross-entropy in nats.
      lecun1998: discriminative MAP, for logits that are minus half a distance (LeCun et al. 1998,
        equation 9, whose j is not given there: 1 here).
    label_smoothing: of cross_entropy: share of the uniform distribution in the labels, 0 to below 1
      (Szegedy et al. 2016, section 7).
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
class Compute:
    """How a step is computed: what changes its numbers and not what is meant.

    precision: of convolutions and dense layers; parameters, statistics and loss are float32.
    batch_norm_group: over how many consecutive examples of a batch batch normalisation takes its
      statistics, wherever they lie; None: over the whole batch, on however many devices.
    remat: keep only what enters each of the equal blocks of a network and compute the rest again
      for the gradients: less memory, more time.
    accumulate: in how many parts a batch is computed, one after the other, before its one update:
      less memory, the same numbers. Batch normalisation must be in groups that a part holds whole.
      What a network draws by itself with make_rng is alike in all parts.
    """

    precision: Literal["float32", "bfloat16"] = "float32"
    batch_norm_group: int | None = None
    remat: bool = False
    accumulate: int = 1

    def __post_init__(self):
        if self.accumulate < 1:
            raise ValueError(f"accumulate={self.accumulate}: must be 1 or more")
        if self.batch_norm_group is not None and self.batch_norm_group < 2:
            raise ValueError(f"batch_norm_group={self.batch_norm_group}: must be 2 or more")


@dataclass(frozen=True)
class Streams:
    """Seeds of single random streams, 0 to 2^32 - 1; None: the run's seed (see `core.random`).

    init: of fresh parameters.
    order: of the examples in each epoch.
    augment: of crops, flips, colours and mixing.
    dropout: of what a network or a task draws while training.
    salt: folded into all of them: another one is another sample of everything that is random, by
      the same seeds (for two variants that differ in nothing else); 0: nothing is folded in.
    """

    init: int | None = None
    order: int | None = None
    augment: int | None = None
    dropout: int | None = None
    salt: int = 0

    def __post_init__(self):
        for name, seed in asdict(self).items():
            if seed is not None:
                check_seed(seed, name)


@dataclass(frozen=True)
class Recipe:
    """How one network is trained.

    batch_size: examples in one update, over all devices; an epoch drops the ragged last batch.
    epochs: length of the run; the schedule stretches with it.
    steps: if given, end after so many updates instead of whole epochs.
    source: where the recipe is from; changes nothing.
    """

    task: Task = Task()
    model: Model = Model()
    data: Data = Data()
    init: Init = Init()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    loss: Loss = Loss()
    compute: Compute = Compute()
    streams: Streams = Streams()
    batch_size: int = 128
    epochs: int = 10
    steps: int | None = None
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
        if self.schedule.name != "polynomial":
            found["schedule.power"] = f"schedule.name={self.schedule.name} has none"
        if (name := self.data.augmentation) not in ("default", "pad_crop_flip", "pad_crop"):
            found["data.crop_padding"] = f"data.augmentation={name} has none"
        if self.data.name != "scattered_digits":
            why = f"data.name={self.data.name} has none"
            found |= {f"data.scenes.{name}": why for name in asdict(self.data.scenes)}
        if self.init.weights is None:
            found["init.head"] = "init.weights is not given"
        return found
