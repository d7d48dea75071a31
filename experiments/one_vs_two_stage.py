"""Find and name at once, or propose first and look again?

One-stage detectors (SSD, Liu et al. 2016, arXiv:1512.02325) classify every anchor of a map;
two-stage ones (Faster R-CNN, Ren et al. 2015, arXiv:1506.01497) propose regions and classify each
by its own features; before, regions came from elsewhere and each was cut out and sent through the
whole network (R-CNN, Girshick et al. 2014, arXiv:1311.2524). One backbone, the same scenes and
steps. Run: cnnjax study run one_vs_two_stage
"""

from cnnjax import Contrast, Match, Model, Preset, Study, Task, small_scenes
from experiments.scales import MANY_SCENES, SMOKE_SCENES

DETECTORS = {
    "one": {"model.name": "tiny_ssd"},
    "two": {"model.name": "tiny_faster_rcnn"},
    "crops": {"model.name": "tiny_rcnn"},
    # Counted with all proposals that `two` judges: 32 an image.
    "one_macs": {"model.name": "tiny_ssd", "model.width": Match("macs", "two")},
}
CLAIMS = (
    Contrast("two", "one", "test_ap", "higher"),
    Contrast("two", "one_macs", "test_ap", "higher"),
    Contrast("two", "crops", "test_ap", "higher"),
)

study = Study(
    name="one_vs_two_stage",
    question=(
        "Does a detector find more that proposes regions and looks again, than one that classifies"
        " every anchor at once, on one backbone?"
    ),
    source=(
        "Ren et al. 2015, arXiv:1506.01497, table 3 (VOC 2007: 69.9 for the 66.9 of Fast R-CNN on"
        " selective search); Liu et al. 2016, arXiv:1512.02325; Girshick et al. 2014,"
        " arXiv:1311.2524"
    ),
    base=small_scenes.replace(task=Task("detection"), model=Model("tiny_ssd"), batch_size=32),
    factors={"detector": DETECTORS},
    seeds=8,  # three contrasts, six statements
    metrics=("test_ap", "test_ap50", "train_ap"),
    contrasts=CLAIMS,
    presets={
        "smoke": Preset(
            about="seconds, for tests: one and two, 2 seeds, 12 steps",
            settings={**SMOKE_SCENES, "optimizer.learning_rate": 0.003},
            factors={"detector": {name: DETECTORS[name] for name in ("one", "two")}},
            seeds=2,
            contrasts=CLAIMS[:1],
        ),
        "quick": Preset(
            about="ten minutes on two cores: 2,000 scenes of 48 pixels, 300 steps, 8 seeds",
            settings={
                "data.scenes.size": 48,
                "data.scenes.most": 3,
                "optimizer.learning_rate": 0.003,
                "steps": 300,
            },
        ),
        "paper": Preset(
            about="20,000 scenes of MNIST digits at 128 pixels (hours on a GPU)",
            settings={**MANY_SCENES, "optimizer.learning_rate": 0.003, "batch_size": 32},
        ),
    },
)

if __name__ == "__main__":
    from cnnjax import study_command

    study_command(study)
