"""The way up: unpooling by indices, transposed convolution, or resizing and a convolution.

Badrinarayanan et al. 2017 (arXiv:1511.00561, section 3) put each value back where the pooling took
its maximum, which keeps borders; Noh et al. 2015 (arXiv:1505.04366) unpool and deconvolve; the
others do not know where the maxima stood. Without connections beside, so that nothing else does.
All three have the same number of parameters.
Run: cnnjax study run upsampling
"""

from cnnjax import Contrast, Preset, Study, small_scenes
from experiments.scales import FEW_SCENES, LARGE_UNET, SMOKE_SCENES

UPSAMPLINGS = {kind: {"model.upsampling": kind} for kind in ("unpool", "transposed", "bilinear")}
CLAIMS = (
    Contrast("unpool", "transposed", "test_mean_iou", "higher"),
    Contrast("unpool", "bilinear", "test_mean_iou", "higher"),
    Contrast("transposed", "bilinear", "test_mean_iou"),
)

study = Study(
    name="upsampling",
    question=(
        "Which way up segments best where no connection beside helps: unpooling by indices,"
        " transposed convolution, or resizing?"
    ),
    source=(
        "Badrinarayanan et al. 2017, arXiv:1511.00561, section 3 (unpooling); Noh et al. 2015,"
        " arXiv:1505.04366, section 3.1; Long et al. 2015, arXiv:1411.4038, section 3.3"
        " (transposed)"
    ),
    base=small_scenes.replace(model=small_scenes.model.with_field("skip", "none")),
    factors={"upsampling": UPSAMPLINGS},
    seeds=8,  # three contrasts, six statements
    metrics=("test_mean_iou", "test_pixel_accuracy", "train_mean_iou"),
    contrasts=CLAIMS,
    presets={
        "smoke": Preset(
            about="seconds, for tests: unpool and transposed, 2 seeds, 12 steps",
            settings=SMOKE_SCENES,
            factors={"upsampling": {name: UPSAMPLINGS[name] for name in ("unpool", "transposed")}},
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
