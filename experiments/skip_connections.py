"""Connections from the way down to the way up: none, added, or set beside.

Long et al. 2015 (arXiv:1411.4038, section 4.2) add finer maps to coarser ones; Ronneberger et al.
2015 (arXiv:1505.04597) set them beside each other. Each net is made as wide as it must be to have
as many parameters as U-Net's own.
Run: cnnjax study run skip_connections
"""

from cnnjax import Contrast, Match, Preset, Study, small_scenes
from experiments.scales import FEW_SCENES, LARGE_UNET, SMOKE_SCENES

SKIPS = {
    "concat": {"model.skip": "concat"},
    "sum": {"model.skip": "sum", "model.width": Match("params", "concat")},
    "none": {"model.skip": "none", "model.width": Match("params", "concat")},
}
CLAIMS = (
    Contrast("concat", "none", "test_mean_iou", "higher"),
    Contrast("sum", "none", "test_mean_iou", "higher"),
    Contrast("concat", "sum", "test_mean_iou"),
)

study = Study(
    name="skip_connections",
    question=(
        "Do connections from encoder to decoder segment better than none at equal parameters, and"
        " does it matter how they join?"
    ),
    source=(
        "Long et al. 2015, arXiv:1411.4038, section 4.2; Ronneberger et al. 2015, arXiv:1505.04597,"
        " section 2"
    ),
    base=small_scenes,
    factors={"skip": SKIPS},
    seeds=8,  # three contrasts, six statements
    metrics=("test_mean_iou", "test_pixel_accuracy", "train_mean_iou"),
    contrasts=CLAIMS,
    presets={
        "smoke": Preset(
            about="seconds, for tests: concat and none, 2 seeds, 12 steps",
            settings=SMOKE_SCENES,
            factors={"skip": {name: SKIPS[name] for name in ("concat", "none")}},
            seeds=2,
            contrasts=CLAIMS[:1],
        ),
        "quick": Preset(
            about="minutes on two cores: 1,000 scenes of 32 pixels, 8 seeds", settings=FEW_SCENES
        ),
        "paper": Preset(
            about="20,000 scenes of MNIST digits at 128 pixels, 64 channels (hours on a GPU)",
            settings=LARGE_UNET,
        ),
    },
)

if __name__ == "__main__":
    from cnnjax import study_command

    study_command(study)
