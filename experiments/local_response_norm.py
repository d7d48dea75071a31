"""Local response normalisation: one paper gains by it, another does not.

Krizhevsky et al. 2012 (section 3.3): 1.4 points of top-1 and 1.2 of top-5 error, on CIFAR-10 13 to
11 %. Simonyan & Zisserman 2014 (section 4): A-LRN is no better than A (29.7 against 29.6 %). The
constant alpha = 1e-4 belongs to pixels from 0 to 255: where they are 0 to 1 it only multiplies by
2^-0.75, which "factor" shows beside the normalisation of the papers' strength ("lrn").
Run: cnnjax study run local_response_norm
"""

from cnnjax import Contrast, Model, Preset, Study, Tune, small_images
from experiments.scales import CIFAR_16_CROPPED, CLIPPED, FEW_DIGITS, IMAGENET, VGG_IMAGENET

NETWORKS = {
    "alexnet": {"model.name": "alexnet_small"},
    "vgg": {"model.name": "vgg_small", "model.normalization": "none"},
}
RESPONSES = {
    "none": {"model.lrn": False},
    "lrn": {"model.lrn": True, "model.lrn_alpha": 1e-4 * 255**2},
    "factor": {"model.lrn": True, "model.lrn_alpha": 1e-4},
}
CLAIMS = (
    Contrast("alexnet-lrn", "alexnet-none", "test_error", "lower"),  # Krizhevsky et al.
    Contrast("alexnet-lrn", "alexnet-factor", "test_error", "lower"),
    Contrast("vgg-lrn", "vgg-none", "test_error", "equal", bound=1),  # Simonyan & Zisserman
)

study = Study(
    name="local_response_norm",
    question="Does local response normalisation lower the error, and in which network?",
    source=(
        "Krizhevsky et al. 2012, NIPS 25, section 3.3; Simonyan & Zisserman 2014, arXiv:1409.1556,"
        " section 4, table 3"
    ),
    base=small_images.replace(model=Model("alexnet_small"), optimizer=CLIPPED),
    factors={"network": NETWORKS, "responses": RESPONSES},
    seeds=10,
    metrics=("test_error", "train_error"),
    contrasts=CLAIMS,
    tune=Tune({"optimizer.learning_rate": (0.0125, 0.025, 0.05, 0.1)}),
    presets={
        "smoke": Preset(
            about="seconds, for tests: one network, 2 seeds, 3 epochs",
            settings={"epochs": 3},
            factors={"network": {"alexnet": NETWORKS["alexnet"]}},
            seeds=2,
            contrasts=CLAIMS[:1],
            tune=False,
        ),
        "quick": Preset(
            about="minutes on two cores: 300 images of digits, 10 seeds, each its own rate",
            settings=FEW_DIGITS,
        ),
        "cifar": Preset(
            about="an hour on two cores: 5,000 images of CIFAR-10 at 16x16 pixels",
            settings=CIFAR_16_CROPPED,
            seeds=8,
            tune=Tune({"optimizer.learning_rate": (0.0125, 0.025, 0.05)}, seeds=1),
        ),
        "paper": Preset(
            about="AlexNet on ImageNet, with and without (weeks on an accelerator)",
            settings={**IMAGENET, "optimizer.clip_norm": None},
            factors={
                "network": {"alexnet": {"model.name": "alexnet"}},
                "responses": {"none": {"model.lrn": False}, "lrn": {"model.lrn": True}},
            },
            seeds=6,
            contrasts=CLAIMS[:1],
            tune=False,
        ),
        "paper_vgg": Preset(
            about="VGG's nets A and A-LRN on ImageNet (weeks on an accelerator)",
            settings={**VGG_IMAGENET, "optimizer.clip_norm": None},
            factors={
                "network": {"vgg": {}},
                "responses": {"none": {"model.name": "vgg11"}, "lrn": {"model.name": "vgg11_lrn"}},
            },
            seeds=6,
            contrasts=CLAIMS[2:],
            tune=False,
        ),
    },
)

if __name__ == "__main__":
    from cnnjax import study_command

    study_command(study)
