"""Residual against plain at one depth, and why: what gradients and responses do on their way.

He et al. 2015 (arXiv:1512.03385): plain nets of this depth fail in training and identity shortcuts
cure it (figure 6); projections B and C add little to A (table 3); with batch normalisation
gradients do not vanish (section 4.1), and the responses of residual nets are smaller (figure 7).
The lecture says that they do vanish. The probes decide, with batch normalisation and without.
Run: cnnjax study run residual_vs_plain
"""

from cnnjax import Arm, Contrast, Preset, Probe, Study, he2015_cifar, small_images

SHORTCUTS = {
    "plain": {"model.shortcut": "none"},
    "A": {"model.shortcut": "A"},
    "B": {"model.shortcut": "B"},
    "C": {"model.shortcut": "C"},
    "preact": {"model.shortcut": "A", "model.preactivation": True},
}
# At the rate of the others neither learns without batch normalisation.
BARE = {"bare": {"model.normalization": "none", "optimizer.learning_rate": 0.01}}
ARMS = tuple(Arm({"shortcut": shortcut}, {"norm": BARE}) for shortcut in ("plain", "A"))

CLAIMS = (
    Contrast("A", "plain", "train_error", "lower"),
    Contrast("A", "plain", "test_error", "lower"),
    Contrast("B", "A", "test_error", "equal", bound=2),
    Contrast("C", "A", "test_error", "equal", bound=2),
    Contrast("preact", "A", "test_error", "equal", bound=2),
    # The lecture's: gradients vanish in a plain net, which the shortcut prevents.
    Contrast("plain", "A", "gradient_attenuation@0", "higher"),
    Contrast("plain", "A", "gradient_attenuation@0.1", "higher"),
    Contrast("plain-bare", "A-bare", "gradient_attenuation@0", "higher"),
    Contrast("A-bare", "plain-bare", "train_error", "lower"),
)

study = Study(
    name="residual_vs_plain",
    question=(
        "Why does a deep plain network fail where its residual twin does not: do its gradients"
        " vanish?"
    ),
    source="He et al. 2015, arXiv:1512.03385, sections 3.3, 4.1 and 4.2, table 3, figures 6 and 7",
    base=small_images,
    factors={"shortcut": SHORTCUTS},
    seeds=9,  # nine contrasts, three of them equalities: 21 statements
    metrics=("train_error", "test_error"),
    contrasts=CLAIMS,
    probes=(
        Probe("gradient_attenuation", at=(0, 0.1, 0.5, 1)),
        Probe("gradient_norm", at=(0, 0.1, 1)),
        Probe("response_deviation", at=(1,)),
        Probe("dead_channels", at=(1,)),
    ),
    presets={
        "smoke": Preset(
            about="seconds, for tests: depth 8, 2 shortcuts, 2 seeds, 14 steps",
            settings={"model.depth": 8, "model.width": 0.25, "steps": 14},
            factors={"shortcut": {name: SHORTCUTS[name] for name in ("plain", "A")}},
            seeds=2,
            contrasts=(CLAIMS[0], CLAIMS[5]),
        ),
        "quick": Preset(
            about="minutes on two cores: digits, depth 32, 9 seeds, 15 epochs",
            settings={"model.depth": 32},
            arms=ARMS,
        ),
        "cifar": Preset(
            about="an hour on two cores: 5,000 images of CIFAR-10 at 16x16 pixels, depth 32",
            settings={
                "model.depth": 32,
                "data.name": "cifar10",
                "data.image_size": 16,
                "data.train_examples": 5_000,
                "batch_size": 100,
                "epochs": 8,
            },
            arms=ARMS,
        ),
        "paper": Preset(
            about="the paper's recipe on CIFAR-10, depth 56 (days on an accelerator)",
            settings={
                "model.depth": 56,
                "model.width": 1.0,
                "data.name": "cifar10",
                "optimizer.learning_rate": he2015_cifar.optimizer.learning_rate,
                "schedule": he2015_cifar.schedule,
                "batch_size": he2015_cifar.batch_size,
                "epochs": he2015_cifar.epochs,
            },
            contrasts=CLAIMS[:7],  # the paper trains nothing without normalisation
        ),
    },
)

if __name__ == "__main__":
    from cnnjax import study_command

    study_command(study)
