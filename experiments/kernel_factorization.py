"""Two 3x3 convolutions against one 5x5, three against one 7x7: of equal receptive field.

Simonyan & Zisserman 2014 (arXiv:1409.1556, sections 2.3 and 4.1) hold that a stack of small kernels
is better: fewer parameters, 2 (3^2 C^2) = 18 C^2 against 5^2 C^2 = 25 C^2, and one more
non-linearity. The two reasons are told apart here: "two3x3linear" is factorised and has no ReLU
between. Run: cnnjax study run kernel_factorization
"""

from cnnjax import Contrast, Match, Model, Preset, Study, Tune, small_images

UNITS = {
    unit: {"model.unit": unit}
    for unit in ("one5x5", "two3x3", "two3x3linear", "one7x7", "three3x3")
}


def units(images: str) -> dict:
    """The units, and one 5x5 that is narrowed to as many parameters as two 3x3 have."""
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
    base=small_images.replace(model=Model("vgg_small"), batch_size=32, steps=400),
    factors={"images": training_images(100), "unit": units("100")},
    seeds=8,
    metrics=("test_error", "train_error"),
    contrasts=claims("100"),
    tune=Tune({"optimizer.learning_rate": (0.025, 0.05, 0.1, 0.2, 0.4)}),
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
                "unit": {
                    "one5x5": {"model.name": "vgg13_5x5"},
                    "two3x3": {"model.name": "vgg13"},
                },
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
