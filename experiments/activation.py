"""ReLU against tanh: how many epochs to the same training error.

Krizhevsky et al. 2012 (section 3.1, figure 1): a four-layer network reaches 25 % training error on
CIFAR-10 six times faster with ReLUs, at the rate that makes each train fastest.
Run: cnnjax study run activation
"""

from cnnjax import Contrast, Model, Preset, Study, Tune, small_images
from experiments.scales import CIFAR, CIFAR_16

ACTIVATIONS = {name: {"model.activation": name} for name in ("relu", "tanh")}


def claims(error: int) -> tuple[Contrast, ...]:
    """The training error of an epoch's batches that is to be reached, in per cent."""
    return (
        Contrast("relu", "tanh", f"batch_error<={error}", "lower"),
        Contrast("relu", "tanh", "test_error", "lower"),
    )


def own_rate(error: int) -> Tune:
    """The rate by which each is fastest, as in the paper."""
    return Tune({"optimizer.learning_rate": (0.01, 0.03, 0.1, 0.3)}, metric=f"batch_error<={error}")


study = Study(
    name="activation",
    question="Does a network with ReLUs reach a training error in fewer epochs than with tanh?",
    source="Krizhevsky et al. 2012, NIPS 25, section 3.1, figure 1: 6 times fewer than with tanh",
    base=small_images.replace(
        model=Model("alexnet_small", {"lrn": False}),
        # As in figure 1, nothing is regularised.
        optimizer=small_images.optimizer.with_field("weight_decay", 0.0),
    ),
    factors={"activation": ACTIVATIONS},
    seeds=8,
    metrics=("test_error", "train_error", "batch_error<=5", "batch_error<=25"),
    contrasts=claims(25),
    tune=own_rate(25),
    presets={
        "smoke": Preset(
            about="seconds, for tests: ReLU and tanh, 2 seeds, 3 epochs",
            settings={"epochs": 3},
            seeds=2,
            contrasts=claims(25)[:1],
            tune=False,
        ),
        "quick": Preset(
            about="minutes on two cores: digits, 20 epochs at a constant rate, to 5 % error",
            settings={"epochs": 20, "schedule.name": "constant", "schedule.warmup": 0.0},
            contrasts=claims(5),
            tune=own_rate(5),
        ),
        "cifar": Preset(
            about="an hour on two cores: 5,000 images of CIFAR-10 at 16x16 pixels, to 25 % error",
            settings={
                **CIFAR_16,
                "data.augmentation": "none",
                "epochs": 30,
                "schedule.name": "constant",
                "schedule.warmup": 0.0,
            },
        ),
        "paper": Preset(
            about="all of CIFAR-10 at a constant rate, to 25 % error",
            settings={
                **{key: CIFAR[key] for key in ("data.name", "batch_size")},
                "data.augmentation": "none",
                "epochs": 40,
                "schedule.name": "constant",
                "schedule.warmup": 0.0,
            },
        ),
    },
)

if __name__ == "__main__":
    from cnnjax import study_command

    study_command(study)
