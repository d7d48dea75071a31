"""Segmentation: its figures are those of the predictions, whatever is ignored or cropped."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import RECIPES, Refused, create_model
from cnnjax.core.config import override
from cnnjax.core.recipe import Scenes
from cnnjax.data.load import load_dataset
from cnnjax.metrics.confusion import confusion_figures
from cnnjax.tasks.segmentation import Segmentation
from cnnjax.tasks.task import DataSpec, figures_of
from cnnjax.training.loop import evaluate, fit
from cnnjax.training.setup import prepare
from tests.training.test_loop import Recorder

DATA = DataSpec("scenes", (("images", (8, 8, 1), "uint8"), ("class_map", (8, 8), "uint8")), 2)
MODEL = create_model("unet", features=2, depth=1, padded=True, num_classes=3)
TASK = Segmentation(model=MODEL, data=DATA)


def batch(seed=0, count=4, ignored=0.2):
    rng = np.random.default_rng(seed)
    maps = rng.integers(0, 3, (count, 8, 8))
    maps[rng.random(maps.shape) < ignored] = 255
    return {
        "images": jnp.asarray(rng.normal(size=(count, 8, 8, 1)), jnp.float32),
        "class_map": jnp.asarray(maps, jnp.uint8),
        "mask": jnp.ones(count),
        "indices": jnp.arange(count),
    }


def counted(logits, maps):
    found = np.zeros((3, 3), np.int64)
    seen, kept = np.asarray(logits).argmax(-1), np.asarray(maps) != 255
    np.add.at(found, (np.asarray(maps)[kept], seen[kept]), 1)
    return found


def figures(task, outputs, whole):
    accumulator = task.accumulator(detailed=True)
    given = jax.tree.map(np.asarray, task.outputs_of(outputs, whole))
    accumulator.add(np.asarray(whole["indices"]), given)
    return figures_of(task, jax.device_get(task.sums(outputs, whole)), accumulator)


def test_figures_are_those_of_the_predictions_without_what_is_ignored():
    whole = batch()
    logits = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
    wanted = counted(logits, whole["class_map"])
    found = figures(TASK, logits, whole)
    assert found["confusion"] == wanted.tolist()
    assert wanted.sum() < 4 * 64
    for name, value in confusion_figures(wanted).items():
        assert found[name] == pytest.approx(100 * value)
    assert TASK.predictions(logits).shape == (4, 8, 8, 1)


def test_a_smaller_map_is_judged_on_the_middle():
    whole = batch()
    logits = jax.random.normal(jax.random.key(0), (4, 4, 6, 3))
    wanted = counted(logits, np.asarray(whole["class_map"])[:, 2:6, 1:7])
    assert figures(TASK, logits, whole)["confusion"] == wanted.tolist()


def test_an_unpadded_network_says_how_much_it_takes():
    data = replace(
        DATA, fields=(("images", (44, 44, 1), "uint8"), ("class_map", (44, 44), "uint8"))
    )
    model = create_model("unet", features=2, depth=2, num_classes=3)
    Segmentation(model=model, data=data).check()
    assert model.output_size(44, 44) == (4, 4)
    assert create_model("unet").output_size(572, 572) == (388, 388)


@pytest.mark.parametrize("pixel_loss", ["cross_entropy", "dice", "both"])
def test_ignored_pixels_and_images_of_them_move_nothing(pixel_loss):
    task = replace(TASK, pixel_loss=pixel_loss)
    whole = batch()
    whole["class_map"] = whole["class_map"].at[1].set(255)
    logits = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
    grads = jax.grad(lambda x: task.losses(x, whole).sum())(logits)
    ignored = np.asarray(whole["class_map"]) == 255
    assert np.isfinite(grads).all()
    assert not np.asarray(grads)[ignored].any()
    assert np.asarray(grads)[~ignored].any()


def test_outputs_of_another_form_are_refused():
    with pytest.raises(Refused, match=r"float32\[2, 8, 8, 3\] is needed for 2 classes and"):
        TASK.check_outputs(2, jax.ShapeDtypeStruct((2, 3), jnp.float32))
    with pytest.raises(Refused, match="is needed"):
        TASK.check_outputs(2, jax.ShapeDtypeStruct((2, 9, 8, 3), jnp.float32))
    with pytest.raises(Refused, match="is needed"):
        TASK.check_outputs(2, jax.ShapeDtypeStruct((2, 4, 4, 3), jnp.float32))
    TASK.check_outputs(2, jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32))


@pytest.fixture(scope="module")
def trained():
    """Thirty steps on small scenes: recipe, data, task and the state that they end with."""
    recipe = RECIPES["small_scenes"]
    few = Scenes(train=24, test=10, size=16, smallest=8, largest=12, most=2, clutter=1)
    for path, value in {
        "data.scenes": few.__dict__,
        "model.depth": 2,
        "model.features": 4,
        "batch_size": 8,
        "steps": 30,
    }.items():
        recipe = override(recipe, path, value)
    dataset = load_dataset(recipe.data)
    training, saves = prepare(recipe, 0, dataset), Recorder()
    fit(training, saves=saves)
    return recipe, dataset, training.task, saves.tree["state"]


def test_an_evaluation_is_that_of_its_predictions(trained):
    """Ten test scenes, which fill no batch."""
    recipe, dataset, task, state = trained
    accumulator = task.accumulator(detailed=True)
    found = evaluate(task, recipe.data, state, dataset, "test", accumulator=accumulator)
    test = dataset.test
    mean, deviation = (dataset.train.images / 255).mean(), (dataset.train.images / 255).std()
    images = jnp.asarray((test.images / 255 - mean) / deviation, jnp.float32)
    variables = jax.tree.map(jnp.asarray, {"params": state.params, **state.model_state})
    logits = task.model.apply(variables, images, train=False)
    counts = np.zeros((11, 11), np.int64)
    np.add.at(counts, (test.arrays["class_map"], np.asarray(logits).argmax(-1)), 1)
    assert np.abs(np.subtract(found["confusion"], counts)).sum() <= 2  # a tie in a pixel
    assert len({*np.asarray(logits).argmax(-1).ravel().tolist()}) > 1  # it has learned something
    assert found["mean_iou"] == pytest.approx(100 * confusion_figures(counts)["mean_iou"], abs=0.1)
    assert found["examples"] == 10
