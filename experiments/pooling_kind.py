"""Maximum, average and minimum pooling, and none: the error, and what a shift of a pixel does.

The lecture says that pooling makes a network robust to small shifts. Springenberg et al. 2015
(arXiv:1412.6806, section 2) put convolutions of stride 2 in its place and lose little.
Run: cnnjax study run pooling_kind
"""

from cnnjax import Contrast, Model, Preset, Probe, Study, small_images
from experiments.scales import CIFAR, CIFAR_16_CROPPED, FEW_DIGITS

KINDS = {kind: {"model.pooling": kind} for kind in ("max", "average", "min", "strided")}
CLAIMS = (
    Contrast("max", "average", "test_error", "lower"),
    Contrast("max", "min", "test_error", "lower"),
    Contrast("max", "strided", "test_error", "lower"),
    # Of how many images the predicted class changes when they move by one pixel.
    Contrast("max", "strided", "shift_sensitivity@1", "lower"),
    Contrast("average", "strided", "shift_sensitivity@1", "lower"),
)

study = Study(
    name="pooling_kind",
    question="Which pooling has the lowest error, and does any make a network robust to shifts?",
    source=(
        "the lecture's part 2; Springenberg et al. 2015, arXiv:1412.6806, section 2 (strided"
        " convolutions); Krizhevsky et al. 2012, NIPS 25, section 3.4 (max)"
    ),
    base=small_images.replace(model=Model("alexnet_small", {"lrn": False})),
    factors={"pooling": KINDS},
    seeds=8,  # five contrasts, ten statements
    metrics=("test_error", "train_error"),
    contrasts=CLAIMS,
    probes=(Probe("shift_sensitivity", at=(0, 1)),),
    presets={
        "smoke": Preset(
            about="seconds, for tests: max and strided, 2 seeds, 3 epochs",
            settings={"epochs": 3},
            factors={"pooling": {kind: KINDS[kind] for kind in ("max", "strided")}},
            seeds=2,
            contrasts=CLAIMS[2:4],
        ),
        "quick": Preset(
            about="minutes on two cores: 300 images of digits, 8 seeds", settings=FEW_DIGITS
        ),
        "cifar": Preset(
            about="half an hour on two cores: 5,000 images of CIFAR-10 at 16x16 pixels",
            settings=CIFAR_16_CROPPED,
        ),
        "paper": Preset(
            about="all of CIFAR-10 by He et al.'s recipe, the rate of a net without normalisation",
            settings={**CIFAR, "optimizer.learning_rate": 0.01},
        ),
    },
)

if __name__ == "__main__":
    from cnnjax import study_command

    study_command(study)
