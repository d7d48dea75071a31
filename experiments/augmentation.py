"""Crops, flips, and shifts of colour: what each does to the error.

Krizhevsky et al. 2012 (section 4.1) could not train a network of that size without crops and flips,
and gain a point of top-1 error by colour. On digits a flip makes another digit, so there it must
hurt: a control that the study can tell. Run: cnnjax study run augmentation
"""

from cnnjax import Contrast, Model, Preset, Study, small_images
from experiments.scales import CIFAR, CIFAR_16, FEW_DIGITS

AUGMENTATIONS = {
    "none": {"data.augmentation": "none"},
    "crop": {"data.augmentation": "pad_crop"},
    "flip": {"data.augmentation": "flip"},
    "both": {"data.augmentation": "pad_crop_flip"},
}
COLOUR = {"both_colour": {"data.augmentation": "pad_crop_flip", "data.pca_colour": 0.1}}
DIGITS = (
    Contrast("crop", "none", "test_error", "lower"),
    Contrast("flip", "none", "test_error", "higher"),
    Contrast("both", "crop", "test_error", "higher"),
)
PHOTOGRAPHS = (
    Contrast("crop", "none", "test_error", "lower"),
    Contrast("flip", "none", "test_error", "lower"),
    Contrast("both", "crop", "test_error", "lower"),
    Contrast("both_colour", "both", "test_error", "lower"),
)

study = Study(
    name="augmentation",
    question="Which augmentation lowers the test error, and which raises it?",
    source="Krizhevsky et al. 2012, NIPS 25, section 4.1; He et al. 2015, arXiv:1512.03385, 4.2",
    base=small_images.replace(model=Model("cifar_resnet8", {"width": 0.5})),
    factors={"augmentation": AUGMENTATIONS},
    seeds=8,
    metrics=("test_error", "train_error"),
    contrasts=DIGITS,
    presets={
        "smoke": Preset(
            about="seconds, for tests: none and flips, 2 seeds, 3 epochs",
            settings={"epochs": 3},
            factors={"augmentation": {name: AUGMENTATIONS[name] for name in ("none", "flip")}},
            seeds=2,
            contrasts=DIGITS[1:2],
        ),
        "quick": Preset(
            about="minutes on two cores: 300 images of digits, crops of one pixel, 8 seeds",
            settings={**FEW_DIGITS, "epochs": 60},
            factors={
                "augmentation": {
                    **AUGMENTATIONS,
                    "crop": {**AUGMENTATIONS["crop"], "data.crop_padding": 1},
                    "both": {**AUGMENTATIONS["both"], "data.crop_padding": 1},
                }
            },
        ),
        "cifar": Preset(
            about="half an hour on two cores: 5,000 images of CIFAR-10 at 16x16, crops of 2 pixels",
            settings=CIFAR_16,
            factors={
                "augmentation": {
                    "none": AUGMENTATIONS["none"],
                    "crop": {**AUGMENTATIONS["crop"], "data.crop_padding": 2},
                    "flip": AUGMENTATIONS["flip"],
                    "both": {**AUGMENTATIONS["both"], "data.crop_padding": 2},
                    "both_colour": {**COLOUR["both_colour"], "data.crop_padding": 2},
                }
            },
            contrasts=PHOTOGRAPHS,
        ),
        "paper": Preset(
            about="all of CIFAR-10 by He et al.'s recipe, cifar_resnet20",
            settings={"model.name": "cifar_resnet20", **CIFAR},
            factors={"augmentation": {**AUGMENTATIONS, **COLOUR}},
            contrasts=PHOTOGRAPHS,
        ),
    },
)

if __name__ == "__main__":
    from cnnjax import study_command

    study_command(study)
