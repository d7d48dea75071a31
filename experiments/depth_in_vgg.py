"""Deeper stacks of 3x3 convolutions, and where more of them stop helping.

Simonyan & Zisserman 2014 (section 4.1, table 3, at one scale): the top-1 error falls from 29.6 %
with 8 convolutions (A) to 28.7 with 10 (B) and 27.0 with 13 (D), and is 27.3 with 16 (E): it
"saturates". All without batch normalisation, which is of 2015. Run: cnnjax study run depth_in_vgg
"""

from cnnjax import Contrast, Model, Preset, Study, Tune, small_images
from experiments.scales import CIFAR_16_CROPPED, CLIPPED, FEW_DIGITS, VGG_IMAGENET

NORMS = {"none": {"model.normalization": "none"}, "batch": {"model.normalization": "batch"}}
# Two stages of so many units of two convolutions.
DEPTHS = {str(4 * units): {"model.units": units} for units in (1, 2, 4, 6)}
CLAIMS = tuple(
    Contrast(f"{norm}-{deep}", f"{norm}-{shallow}", "test_error", "lower")
    for norm in NORMS
    for deep, shallow in ((8, 4), (16, 8), (24, 16))
)

study = Study(
    name="depth_in_vgg",
    question="Is a deeper stack of 3x3 convolutions better, and where does that stop?",
    source="Simonyan & Zisserman 2014, arXiv:1409.1556, section 4.1, table 3",
    base=small_images.replace(model=Model("vgg_small", {"width": 0.5}), optimizer=CLIPPED),
    factors={"norm": NORMS, "depth": DEPTHS},
    seeds=8,  # six contrasts, twelve statements
    metrics=("test_error", "train_error"),
    contrasts=CLAIMS,
    tune=Tune({"optimizer.learning_rate": (0.01, 0.03, 0.1)}, seeds=1),
    presets={
        "smoke": Preset(
            about="seconds, for tests: depth 4 and 8, 2 seeds, 3 epochs",
            settings={"epochs": 3},
            factors={
                "norm": {"batch": NORMS["batch"]},
                "depth": {depth: DEPTHS[depth] for depth in ("4", "8")},
            },
            seeds=2,
            contrasts=CLAIMS[3:4],
            tune=False,
        ),
        "quick": Preset(
            about="minutes on two cores: 300 images of digits, each depth its own rate",
            settings={**FEW_DIGITS, "epochs": 30},
        ),
        "cifar": Preset(
            about="an hour on two cores: 5,000 images of CIFAR-10 at 16x16 pixels",
            settings=CIFAR_16_CROPPED,
        ),
        "paper": Preset(
            about="VGG's nets A, B, D and E on ImageNet (months on an accelerator)",
            settings={**VGG_IMAGENET, "optimizer.clip_norm": None},
            factors={
                "norm": {"none": {}},
                "depth": {
                    name: {"model.name": f"vgg{int(name) + 3}"} for name in ("8", "10", "13", "16")
                },
            },
            seeds=7,
            contrasts=tuple(
                Contrast(f"none-{deep}", f"none-{shallow}", "test_error", "lower")
                for deep, shallow in ((10, 8), (13, 10), (16, 13))
            ),
            tune=False,
        ),
    },
)

if __name__ == "__main__":
    from cnnjax import study_command

    study_command(study)
