"""Why convolutions: a dense network does not know which pixels are neighbours.

The lecture's reason for CNNs: a dense network flattens the image and loses where things are. If so,
moving all pixels by one fixed permutation changes nothing for it, and takes from a CNN what it has.
Run: cnnjax study run dense_vs_conv
"""

from cnnjax import Contrast, Match, Model, Preset, Study, Tune, small_images
from experiments.scales import CIFAR, CIFAR_16, FEW_DIGITS

NETWORKS = {
    "conv": {"model.name": "vgg_small"},
    "dense": {  # as many parameters
        "model.name": "lenet_300_100",
        "model.activation": "relu",
        "model.initialization": "he_fan_in",
        "model.width": Match("params", "conv-ordered"),
    },
}
PIXELS = {"ordered": {}, "permuted": {"data.permute_pixels": 1}}
CLAIMS = (
    Contrast("conv-ordered", "dense-ordered", "test_error", "lower"),
    Contrast("conv-permuted", "conv-ordered", "test_error", "higher"),
    Contrast("dense-permuted", "dense-ordered", "test_error", "equal", bound=1),
    Contrast("conv-permuted", "dense-permuted", "test_error"),
)

study = Study(
    name="dense_vs_conv",
    question="Does a network need to know which pixels are neighbours?",
    source="the lecture's part 2; LeCun et al. 1998, Proc. IEEE 86(11), section II",
    base=small_images.replace(model=Model("vgg_small")),
    factors={"network": NETWORKS, "pixels": PIXELS},
    seeds=8,  # four contrasts, one an equality: nine statements
    metrics=("test_error", "train_error"),
    contrasts=CLAIMS,
    tune=Tune({"optimizer.learning_rate": (0.0125, 0.05, 0.2)}),
    presets={
        "smoke": Preset(
            about="seconds, for tests: the convolutional network, 2 seeds, 3 epochs",
            settings={"epochs": 3},
            factors={"network": {"conv": NETWORKS["conv"]}},
            seeds=2,
            contrasts=CLAIMS[1:2],
            tune=False,
        ),
        "quick": Preset(
            about="minutes on two cores: 300 images of digits, each its own rate",
            settings=FEW_DIGITS,
        ),
        "cifar": Preset(
            about="half an hour on two cores: 5,000 images of CIFAR-10 at 16x16 pixels",
            settings={**CIFAR_16, "data.augmentation": "none"},
        ),
        "paper": Preset(
            about="all of CIFAR-10 by He et al.'s recipe, without augmentation",
            settings={**CIFAR, "data.augmentation": "none"},
            tune=False,
        ),
    },
)

if __name__ == "__main__":
    from cnnjax import study_command

    study_command(study)
