"""Two 3x3 convolutions against one 5x5, three against one 7x7: of equal receptive field.

Simonyan & Zisserman 2014 (arXiv:1409.1556, sections 2.3 and 4.1) hold that a stack of small kernels
is better: fewer parameters, 2 (3^2 C^2) = 18 C^2 against 5^2 C^2 = 25 C^2, and one more
non-linearity. The two reasons are told apart here: "two3x3linear" is factorised and has no ReLU
between. Run: cnnjax study run kernel_factorization
"""

from typing import Literal

import jax.numpy as jnp
from flax import linen as nn

from cnnjax import Contrast, Match, Model, Preset, Study, Tune, small_images

Unit = Literal["one5x5", "two3x3", "two3x3linear", "one7x7", "three3x3"]

# Kernel sizes of a unit, and whether a ReLU stands between them.
_KERNELS: dict[str, tuple[tuple[int, ...], bool]] = {
    "one5x5": ((5,), True),
    "two3x3": ((3, 3), True),
    "two3x3linear": ((3, 3), False),
    "one7x7": ((7,), True),
    "three3x3": ((3, 3, 3), True),
}


class Units(nn.Module):
    """Stages of units with a 2x2 max pooling between, global average, dense; after VGG's net B.

    Float images [n, h, w, c] to float32 logits [n, num_classes]. He initialisation; batch
    normalisation once a unit, behind its last convolution, so that nothing but the convolutions
    and the ReLU between them differs. Two 3x3 see 5x5 pixels, three see 7x7.

    unit: one5x5, two3x3, two3x3linear (no ReLU between), one7x7, three3x3.
    features: channels of each stage.
    units: in each stage.
    width: multiplies the channels.
    batch_norm: without it convolutions have a bias, as in the paper.
    hidden: dense layers of the head, each with ReLU and dropout 0.5, in the place of the average.
    """

    unit: Unit = "one5x5"
    features: tuple[int, ...] = (16, 32)
    units: int = 2
    width: float = 1.0
    num_classes: int = 10
    batch_norm: bool = True
    hidden: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, images, *, train: bool):
        kernels, rectified = _KERNELS[self.unit]
        he = nn.initializers.he_normal()
        x = images
        for stage, channels in enumerate(self.features):
            if stage:
                x = nn.max_pool(x, (2, 2), strides=(2, 2))
            for _ in range(self.units):
                for index, size in enumerate(kernels):
                    if index and rectified:
                        x = nn.relu(x)
                    x = nn.Conv(
                        round(channels * self.width),
                        (size, size),
                        use_bias=not self.batch_norm,
                        kernel_init=he,
                    )(x)
                if self.batch_norm:
                    x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
                x = nn.relu(x)
        if self.hidden:
            x = nn.max_pool(x, (2, 2), strides=(2, 2)).reshape(len(x), -1)
            for features in self.hidden:
                x = nn.relu(nn.Dense(features, kernel_init=he)(x))
                x = nn.Dropout(0.5, deterministic=not train)(x)
        else:
            x = x.mean((1, 2))
        return nn.Dense(self.num_classes)(x).astype(jnp.float32)


UNITS = {unit: {"model.unit": unit} for unit in _KERNELS}


def units(images: str) -> dict:
    """The units, and one 5x5 that is narrowed to as many parameters as two 3x3: its MACs are then
    nearly equal, too, as both are in the ratio 18 to 25."""
    narrow = {"model.unit": "one5x5", "model.width": Match("params", f"{images}-two3x3")}
    return {**UNITS, "narrow5x5": narrow}


def claims(images: str) -> tuple[Contrast, ...]:
    """On so many training images; the directions are the paper's, declared before the run."""

    def contrast(first: str, second: str, expect=None) -> Contrast:
        return Contrast(f"{images}-{first}", f"{images}-{second}", "test_error", expect)

    return (
        contrast("two3x3", "one5x5", "lower"),
        contrast("two3x3", "narrow5x5", "lower"),
        contrast("two3x3linear", "one5x5"),  # the factorisation alone
        contrast("two3x3", "two3x3linear", "lower"),  # the non-linearity alone
        contrast("three3x3", "one7x7", "lower"),
    )


def training_images(count: int) -> dict:
    return {str(count): {"data.train_examples": count}}


study = Study(
    name="kernel_factorization",
    question=(
        "Are two 3x3 convolutions better than one 5x5 of the same receptive field, and if so by"
        " their factors or by the non-linearity between them?"
    ),
    source="Simonyan & Zisserman 2014, arXiv:1409.1556, sections 2.3 and 4.1",
    base=small_images.replace(
        model=Model("experiments.kernel_factorization:Units"), batch_size=48, steps=400
    ),
    factors={"images": training_images(100), "unit": units("100")},
    seeds=8,
    metrics=("test_error", "train_error"),
    contrasts=claims("100"),
    tune=Tune({"optimizer.learning_rate": (0.0125, 0.025, 0.05, 0.1, 0.2)}),
    presets={
        "smoke": Preset(
            about="seconds, for tests: 2 units, 2 seeds, 20 steps",
            settings={"steps": 20},
            factors={"unit": {unit: UNITS[unit] for unit in ("one5x5", "two3x3")}},
            seeds=2,
            contrasts=claims("100")[:1],
            tune=False,
        ),
        "quick": Preset(about="minutes on two cores: 100 images of digits, each unit's own rate"),
        "more": Preset(
            about="as quick, on 300 images",
            factors={"images": training_images(300), "unit": units("300")},
            contrasts=claims("300"),
        ),
        "cifar": Preset(
            about="half an hour on two cores: 10,000 images of CIFAR-10 at 16x16 pixels",
            settings={
                "data.name": "cifar10",
                "data.image_size": 16,
                "data.augmentation": "none",
                "batch_size": 100,
                "steps": 800,
            },
            factors={"images": training_images(10_000), "unit": units("10000")},
            contrasts=claims("10000"),
            tune=Tune({"optimizer.learning_rate": (0.025, 0.05, 0.1)}, seeds=1),
        ),
        "paper": Preset(
            about="VGG's net B and its twin with 5x5 on ImageNet (weeks on an accelerator)",
            settings={
                "model.features": (64, 128, 256, 512, 512),
                "model.units": 1,
                "model.batch_norm": False,
                "model.hidden": (4096, 4096),
                "data.name": "imagenet2012",
                "data.test_split": "validation",
                "data.image_size": 224,
                "data.augmentation": "scale_crop_flip",
                "data.pca_colour": 0.1,
                "optimizer.learning_rate": 0.01,
                "optimizer.weight_decay": 5e-4,
                "batch_size": 256,
                "steps": 370_000,
            },
            factors={
                "images": {"all": {}},
                "unit": {unit: UNITS[unit] for unit in ("one5x5", "two3x3")},
            },
            seeds=6,
            contrasts=(Contrast("all-two3x3", "all-one5x5", "test_error", "lower"),),
            tune=False,
        ),
    },
)

if __name__ == "__main__":
    from cnnjax import study_command

    study_command(study)
