"""What several tests need of a run."""

import jax.numpy as jnp
import numpy as np

from cnnjax.tasks.classification import Classification
from cnnjax.tasks.task import DataSpec
from cnnjax.training.loop import fit
from cnnjax.training.setup import prepare


def train(recipe, seed, dataset, *, source=None, **options):
    """Prepare and fit."""
    on_progress = options.get("on_progress", lambda progress: None)
    return fit(prepare(recipe, seed, dataset, source=source, on_progress=on_progress), **options)


def small_batch():
    """Six examples of ten classes, 8x8 grey, as a step gets them."""
    rng = np.random.default_rng(0)
    return {
        "images": jnp.asarray(rng.normal(size=(6, 8, 8, 1)), jnp.float32),
        "labels": jnp.asarray(rng.integers(0, 10, 6), jnp.int32),
        "mask": jnp.ones(6),
        "indices": jnp.arange(6),
    }


def classification(model, image_shape, num_classes, **options):
    """The task on images of this shape."""
    return Classification(model=model, data=DataSpec.of_images(image_shape, num_classes), **options)
