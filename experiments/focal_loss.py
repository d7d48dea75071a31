"""What a single-shot detector does with its many easy negatives.

Of its anchors few have an object. Liu et al. 2016 (arXiv:1512.02325, section 2.2) keep the three
hardest negatives for each positive; Lin et al. 2017 (arXiv:1708.02002, section 3) weigh every
anchor by how wrong it is. All divide by the number of positives.
Run: cnnjax study run focal_loss
"""

from cnnjax import Contrast, Model, Preset, Study, Task, small_scenes
from experiments.scales import MANY_SCENES, SMOKE_SCENES

LOSSES = {loss: {"model.class_loss": loss} for loss in ("all", "mined", "focal")}
CLAIMS = (
    Contrast("focal", "all", "test_ap", "higher"),
    Contrast("mined", "all", "test_ap", "higher"),
    Contrast("focal", "mined", "test_ap", "higher"),
)
DETECTOR = {"optimizer.learning_rate": 0.003, "batch_size": 32}

study = Study(
    name="focal_loss",
    question=(
        "Does a single-shot detector find more where its easy negatives are left out, or weighed"
        " down?"
    ),
    source=(
        "Lin et al. 2017, arXiv:1708.02002, section 3 and table 1d (focal 36.0 AP, mined 32.8 at"
        " most); Liu et al. 2016, arXiv:1512.02325, section 2.2"
    ),
    base=small_scenes.replace(task=Task("detection"), model=Model("tiny_ssd")),
    factors={"loss": LOSSES},
    seeds=8,  # three contrasts, six statements
    metrics=("test_ap", "test_ap50", "train_ap"),
    contrasts=CLAIMS,
    presets={
        "smoke": Preset(
            about="seconds, for tests: focal and all, 2 seeds, 12 steps",
            settings={**SMOKE_SCENES, **DETECTOR},
            factors={"loss": {name: LOSSES[name] for name in ("all", "focal")}},
            seeds=2,
            contrasts=CLAIMS[:1],
        ),
        "quick": Preset(
            about="ten minutes on two cores: 2,000 scenes of 64 pixels, 300 steps, 8 seeds",
            settings={**DETECTOR, "steps": 300},
        ),
        "paper": Preset(
            about="20,000 scenes of MNIST digits at 128 pixels (hours on a GPU)",
            settings={**MANY_SCENES, **DETECTOR},
        ),
    },
)

if __name__ == "__main__":
    from cnnjax import study_command

    study_command(study)
