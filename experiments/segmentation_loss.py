"""Cross-entropy, Dice, or both, where most pixels are ground.

Milletari et al. 2016 (arXiv:1606.04797, section 3) minimise 1 - Dice because a few pixels of what
is wanted do not count beside the ground in a mean over pixels. Here five of six pixels are ground.
Run: cnnjax study run segmentation_loss
"""

from cnnjax import Contrast, Preset, Study, small_scenes
from experiments.scales import FEW_SCENES, LARGE_UNET, SMOKE_SCENES

LOSSES = {loss: {"task.pixel_loss": loss} for loss in ("cross_entropy", "dice", "both")}
CLAIMS = (
    Contrast("dice", "cross_entropy", "test_mean_dice", "higher"),
    Contrast("both", "cross_entropy", "test_mean_dice", "higher"),
    Contrast("dice", "cross_entropy", "test_pixel_accuracy", "lower"),
)

study = Study(
    name="segmentation_loss",
    question=(
        "Does a Dice loss find small classes better than cross-entropy, and at what cost in pixels?"
    ),
    source=("Milletari et al. 2016, arXiv:1606.04797, section 3 (Dice)"),
    base=small_scenes,
    factors={"loss": LOSSES},
    seeds=8,  # three contrasts, six statements
    metrics=("test_mean_dice", "test_pixel_accuracy", "test_mean_iou"),
    contrasts=CLAIMS,
    presets={
        "smoke": Preset(
            about="seconds, for tests: dice and cross-entropy, 2 seeds, 12 steps",
            settings=SMOKE_SCENES,
            factors={"loss": {name: LOSSES[name] for name in ("cross_entropy", "dice")}},
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
