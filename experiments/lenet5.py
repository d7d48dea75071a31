"""LeNet-5 as the paper has it, and as libraries have it: which test error do they reach?

LeCun et al. 1998 (section III.B, figure 9) report 0.95 % on MNIST. Run, with MNIST prepared:
cnnjax study run lenet5 --preset mnist --data-dir DIR
"""

from cnnjax import Contrast, Preset, Study, lecun1998

study = Study(
    name="lenet5",
    question=(
        "Which test error does LeNet-5 reach, and is it another with full connections, plain"
        " pooling and a dense output?"
    ),
    source="LeCun et al. 1998, Proc. IEEE 86(11), section III.B: 0.95 % test error",
    base=lecun1998,
    factors={
        "network": {
            "paper": {"model.name": "lenet5"},
            "modern": {"model.name": "lenet5_modern"},
        }
    },
    seeds=6,
    metrics=("test_error", "train_error"),
    contrasts=(Contrast("modern", "paper", "test_error", expect="equal", bound=0.3),),
    presets={
        "quick": Preset(
            about="a minute or two: digits, 60 epochs, 6 seeds",
            settings={"data.name": "digits", "epochs": 60},
            contrasts=(Contrast("modern", "paper", "test_error", expect="equal", bound=1.0),),
        ),
        "mnist": Preset(about="half an hour on two cores: MNIST, 20 epochs, 6 seeds"),
    },
)
