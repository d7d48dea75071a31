"""Depth against error: do deeper plain networks get worse in training error?

He et al. 2015 (arXiv:1512.03385, section 4.2, figure 6) found that they do, and that identity
shortcuts remove it. Run: cnnjax study run degradation, or python -m experiments.degradation
"""

from cnnjax import Arm, Contrast, Preset, Study, he2015_cifar, small_images

SHORTCUTS = {"plain": {"model.shortcut": "none"}, "residual": {"model.shortcut": "A"}}


# Does it hang on what the paper fixed? At the rate of the others none learns unnormalised.
BARE = {"bare": {"model.normalization": "none", "optimizer.learning_rate": 0.01}}
FAN_OUT = {"fan_out": {"model.initialization": "he_fan_out"}}


def depths(*values: int) -> dict:
    return {str(value): {"model.depth": value} for value in values}


def claims(shallow: int, middle: int, deep: int) -> tuple[Contrast, ...]:
    """The paper's claims at these depths, each with its direction, declared before the run."""
    return (
        Contrast(f"plain-{deep}", f"plain-{shallow}", "train_error", expect="higher"),
        Contrast(f"plain-{deep}", f"plain-{middle}", "train_error", expect="higher"),
        Contrast(f"residual-{deep}", f"residual-{shallow}", "train_error", "equal", bound=2),
        Contrast(f"residual-{deep}", f"plain-{deep}", "train_error", expect="lower"),
        Contrast(f"residual-{deep}", f"plain-{deep}", "test_error", expect="lower"),
    )


def claims_of(condition: str) -> tuple[Contrast, ...]:
    """The two that matter, under another normalisation or initialisation."""
    deep, shallow = f"plain-56-{condition}", f"plain-20-{condition}"
    return (
        Contrast(deep, shallow, "train_error", expect="higher"),
        Contrast(f"residual-56-{condition}", deep, "train_error", expect="lower"),
    )


def arms(factor: str, levels: dict) -> tuple[Arm, ...]:
    """The three nets of `claims_of` with another factor."""
    nets = (("plain", "20"), ("plain", "56"), ("residual", "56"))
    return tuple(Arm({"shortcut": kind, "depth": depth}, {factor: levels}) for kind, depth in nets)


study = Study(
    name="degradation",
    question=(
        "Does a deeper plain network get worse in training error, and does the identity shortcut"
        " remove that?"
    ),
    source="He et al. 2015, arXiv:1512.03385, section 4.2, figure 6",
    base=small_images,
    factors={"shortcut": SHORTCUTS, "depth": depths(8, 20, 32, 56)},
    seeds=8,
    metrics=("train_error", "test_error"),
    contrasts=claims(8, 20, 56),
    presets={
        "smoke": Preset(
            about="seconds, for tests: 2 depths, 2 seeds, 28 steps",
            settings={"steps": 28, "model.width": 0.25},
            factors={"depth": depths(8, 14)},
            seeds=2,
            contrasts=(Contrast("plain-14", "plain-8", "train_error", expect="higher"),),
        ),
        "quick": Preset(about="minutes on two cores: digits, 4 depths, 8 seeds, 15 epochs"),
        "thorough": Preset(
            about="quick, also unnormalised, of another initialisation, longer, at other rates",
            seeds=9,  # ten contrasts, one of them an equality: 21 statements
            arms=(
                Arm(
                    {"shortcut": "plain", "depth": "56"},
                    {"time": {"3x": {"epochs": 45}}},
                ),
                *(
                    Arm(
                        {"shortcut": kind, "depth": "56"},
                        {
                            "rate": {
                                f"lr{rate}": {"optimizer.learning_rate": rate}
                                for rate in (0.003125, 0.00625, 0.0125, 0.025, 0.1, 0.2)
                            }
                        },
                        seeds=3,
                    )
                    for kind in ("plain", "residual")
                ),
                *arms("normalization", BARE),
                *arms("initialization", FAN_OUT),
            ),
            contrasts=(
                *claims(8, 20, 56),
                Contrast("plain-56-3x", "residual-56", "train_error", expect="higher"),
                *claims_of("bare"),
                *claims_of("fan_out"),
            ),
        ),
        "cifar": Preset(
            about="an hour on two cores: 5,000 images of CIFAR-10 at 16x16 pixels",
            settings={
                "data.name": "cifar10",
                "data.image_size": 16,
                "data.train_examples": 5_000,
                "batch_size": 100,
                "epochs": 8,
            },
            factors={"depth": depths(8, 20, 56)},
        ),
        "paper": Preset(
            about="the paper's recipe and depths on CIFAR-10 (days on an accelerator)",
            settings={
                "model.width": 1.0,
                "data.name": "cifar10",
                "optimizer.learning_rate": he2015_cifar.optimizer.learning_rate,
                "schedule": he2015_cifar.schedule,
                "batch_size": he2015_cifar.batch_size,
                "epochs": he2015_cifar.epochs,
            },
            factors={"depth": depths(20, 32, 44, 56)},
            contrasts=claims(20, 32, 56),
        ),
    },
)

if __name__ == "__main__":
    from cnnjax import study_command

    study_command(study)
