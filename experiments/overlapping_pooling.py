"""Windows of pooling that overlap against windows that do not.

Krizhevsky et al. 2012 (section 3.4): with windows of 3 at stride 2 the top-1 error is lower by 0.4
points and the top-5 error by 0.3 than with windows of 2, whose maps are of the same size.
Run: cnnjax study run overlapping_pooling
"""

from cnnjax import Contrast, Model, Preset, Study, small_images
from experiments.scales import CIFAR_16_CROPPED, FEW_DIGITS, IMAGENET

WINDOWS = {
    "overlapping": {"model.overlapping": True},
    "separate": {"model.overlapping": False},
}
POOLINGS = {"max": {"model.pooling": "max"}, "average": {"model.pooling": "average"}}
CLAIMS = tuple(
    Contrast(f"{pooling}-overlapping", f"{pooling}-separate", "test_error", "lower")
    for pooling in POOLINGS
)

study = Study(
    name="overlapping_pooling",
    question="Is the error lower where the windows of pooling overlap?",
    source="Krizhevsky et al. 2012, NIPS 25, section 3.4: by 0.4 (top-1) and 0.3 (top-5) points",
    base=small_images.replace(model=Model("alexnet_small", {"lrn": False})),
    factors={"pooling": POOLINGS, "window": WINDOWS},
    seeds=12,
    metrics=("test_error", "train_error"),
    contrasts=CLAIMS,
    presets={
        "smoke": Preset(
            about="seconds, for tests: max pooling, 2 seeds, 3 epochs",
            settings={"epochs": 3},
            factors={"pooling": {"max": POOLINGS["max"]}},
            seeds=2,
            contrasts=CLAIMS[:1],
        ),
        "quick": Preset(
            about="minutes on two cores: 300 images of digits, 12 seeds", settings=FEW_DIGITS
        ),
        "cifar": Preset(
            about="half an hour on two cores: 5,000 images of CIFAR-10 at 16x16 pixels",
            settings=CIFAR_16_CROPPED,
            seeds=8,
        ),
        "paper": Preset(
            about="AlexNet on ImageNet (weeks on an accelerator)",
            settings={"model.name": "alexnet", **IMAGENET},
            factors={
                "pooling": {"max": {}},
                "window": {
                    "overlapping": {"model.pooling": "overlapping"},
                    "separate": {"model.pooling": "non_overlapping"},
                },
            },
            seeds=6,
            contrasts=CLAIMS[:1],
        ),
    },
)

if __name__ == "__main__":
    from cnnjax import study_command

    study_command(study)
