"""What several tests need of a run."""

from cnnjax.tasks.classification import Classification
from cnnjax.tasks.task import DataSpec
from cnnjax.training.loop import fit
from cnnjax.training.setup import prepare


def train(recipe, seed, dataset, *, source=None, **options):
    """Prepare and fit."""
    on_progress = options.get("on_progress", lambda progress: None)
    return fit(prepare(recipe, seed, dataset, source=source, on_progress=on_progress), **options)


def classification(model, image_shape, num_classes, **options):
    """The task on images of this shape."""
    return Classification(model=model, data=DataSpec.of_images(image_shape, num_classes), **options)
