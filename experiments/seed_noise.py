"""Of the spread over seeds, how much is from initialisation, order and augmentation.

If they added up, each alone would scatter less than all together. Summers & Dinneen 2021
(arXiv:2103.04514, section 3) find that each alone makes nearly all of it: training is unstable, and
the smallest difference at its start is enough. Beside each spread stands what single runs foretell
of it (Jordan 2023, arXiv:2304.01910). Run: cnnjax study run seed_noise
"""

from cnnjax import Model, Preset, Spread, Study, small_images
from experiments.scales import CIFAR, CIFAR_16_CROPPED, FEW_DIGITS

FIXED = 2**32 - 1  # a seed that no run has


def only(stream: str) -> dict:
    """One stream by the run's seed, the others by one that never changes."""
    fixed = {name for name in ("init", "order", "augment", "dropout") if name != stream}
    return {f"streams.{name}": FIXED for name in sorted(fixed)}


SOURCES = {"all": {}, **{stream: only(stream) for stream in ("init", "order", "augment")}}
CLAIMS = tuple(
    Spread(stream, "all", "test_error", "lower") for stream in ("init", "order", "augment")
)

study = Study(
    name="seed_noise",
    question="Of the spread over seeds, how much is from each source of randomness alone?",
    source="Summers & Dinneen 2021, arXiv:2103.04514, section 3",
    base=small_images.replace(model=Model("cifar_resnet8", {"width": 0.5})),
    factors={"varied": SOURCES},
    seeds=32,  # sixteen pairs of two
    metrics=("test_error", "test_loss"),
    contrasts=CLAIMS,
    presets={
        "smoke": Preset(
            about="seconds, for tests: 2 sources, 4 seeds, 3 epochs",
            settings={"epochs": 3},
            factors={"varied": {name: SOURCES[name] for name in ("all", "init")}},
            seeds=4,
            contrasts=CLAIMS[:1],
        ),
        "quick": Preset(
            about="minutes on two cores: 300 images of digits, crops of one pixel, 32 seeds",
            settings={**FEW_DIGITS, "data.augmentation": "pad_crop", "data.crop_padding": 1},
        ),
        "cifar": Preset(
            about="an hour on two cores: 5,000 images of CIFAR-10 at 16x16, crops of 2 pixels",
            settings=CIFAR_16_CROPPED,
        ),
        "paper": Preset(
            about="all of CIFAR-10 by He et al.'s recipe, cifar_resnet20",
            settings={"model.name": "cifar_resnet20", "model.width": 1.0, **CIFAR},
        ),
    },
)

if __name__ == "__main__":
    from cnnjax import study_command

    study_command(study)
