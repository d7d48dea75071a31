"""What is minimised, beside the cross-entropy: smoothing, LeNet's loss, mixing, auxiliary heads."""

import dataclasses
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from cnnjax import Recipe, Refused, create_model
from cnnjax.core.config import override
from cnnjax.core.recipe import Loss
from cnnjax.tasks.classification import example_losses
from cnnjax.tasks.network import ONE
from cnnjax.tasks.state import set_hyperparams
from cnnjax.tasks.task import DataSpec
from cnnjax.training.make import task_for
from tests.runs import classification

RNG = np.random.default_rng(0)
LOGITS = (RNG.normal(size=(6, 5)) * 3).astype(np.float32)
LABELS = RNG.integers(0, 5, 6).astype(np.int32)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_label_smoothing_equals_float64(smoothing):
    wide = log_softmax(LOGITS.astype(np.float64), axis=-1)
    target = np.eye(5)[LABELS] * (1 - smoothing) + smoothing / 5
    loss = Loss(label_smoothing=smoothing)
    found = example_losses(jnp.asarray(LOGITS), jnp.asarray(LABELS), loss)
    np.testing.assert_allclose(found, -(target * wide).sum(-1), rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_label_smoothing_equals_pytorchs(smoothing):
    torch = pytest.importorskip("torch", reason="torch is not installed: an oracle of tests only")
    expected = torch.nn.functional.cross_entropy(
        torch.from_numpy(LOGITS), torch.from_numpy(LABELS).long(),
        label_smoothing=smoothing, reduction="none",
    )  # fmt: skip
    loss = Loss(label_smoothing=smoothing)
    found = example_losses(jnp.asarray(LOGITS), jnp.asarray(LABELS), loss)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5)


def test_lenets_loss_is_the_papers_equation_9():
    distances = np.abs(RNG.normal(size=(6, 10))) * 20
    found = example_losses(
        jnp.asarray(-distances / 2, jnp.float32), jnp.asarray(LABELS), Loss("lecun1998")
    )
    correct = distances[np.arange(6), LABELS]
    expected = correct + np.log(np.exp(-1.0) + np.exp(-distances).sum(-1))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("loss.name", "hinge", "it is one of cross_entropy, lecun1998"),
        ("loss.label_smoothing", 1.0, "from 0 to below 1"),
        ("loss.auxiliary_weight", -0.1, "must be 0 or more"),
    ],
)
def test_impossible_losses_are_refused(path, value, message):
    with pytest.raises(Refused, match=message):
        override(Recipe(), path, value)


@cache
def _program(task):
    @jax.jit
    def run(batch):
        state = task.init(jax.random.key(0))
        state = set_hyperparams(state, learning_rate=1.0, momentum=0.0, weight_decay=0.0)
        new, sums = task.train_step(state, batch, jax.random.key(1), ONE)
        return jax.tree.map(lambda old, later: old - later, state.params, new.params), sums

    return run


def step(task, batch):
    """Gradient step of rate 1 without momentum: the difference is the gradient."""
    return _program(task)(batch)


def batch(size=8, channels=1, n=4):
    images = jax.random.normal(jax.random.key(5), (n, size, size, channels))
    return {
        "images": images,
        "labels": jnp.arange(n) % 3,
        "mask": jnp.ones(n),
        "indices": jnp.arange(n),
    }


@pytest.fixture(scope="module")
def task():
    return classification(create_model("lenet5"), (8, 8, 1), 10)


def close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), a, b)


def test_mixed_labels_split_the_gradient(task):
    one, other = batch(), {**batch(), "labels": jnp.asarray([2, 2, 0, 1])}
    mixed = {**one, "other_labels": other["labels"], "other_share": jnp.asarray(0.3)}
    first, second, both = (step(task, b)[0] for b in (one, other, mixed))
    close(both, jax.tree.map(lambda a, b: 0.7 * a + 0.3 * b, first, second))
    _, sums = step(task, mixed)
    assert sums["loss"] == step(task, one)[1]["loss"]  # what is reported: of the image's own label


def test_the_loss_of_a_recipe_is_the_one_that_is_minimised(task):
    recipe = override(Recipe(), "model.name", "lenet5")
    smooth = task_for(
        override(recipe, "loss.label_smoothing", 0.2), DataSpec.of_images((8, 8, 1), 10)
    )
    params = jax.jit(task.init)(jax.random.key(0)).params

    @jax.jit
    @jax.grad
    def by_hand(params):
        logits = task.model.apply({"params": params}, batch()["images"], train=True)
        return example_losses(logits, batch()["labels"], Loss(label_smoothing=0.2)).mean()

    close(step(smooth, batch())[0], by_hand(params))


def test_auxiliary_losses_reach_their_heads_and_the_trunk():
    model = create_model("googlenet_torchvision_aux", num_classes=3, dropout=0.0, aux_dropout=0.0)
    wide = classification(model, (32, 32, 3), 3)

    @jax.jit  # the weight is an argument: one program serves both
    def gradient(state, batch, weight):
        loss = Loss()
        object.__setattr__(loss, "auxiliary_weight", weight)
        weighted = dataclasses.replace(wide, loss=loss)
        new, _ = weighted.train_step(state, batch, jax.random.key(1), ONE)
        return jax.tree.map(lambda old, later: old - later, state.params, new.params)

    state = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
        jax.eval_shape(wide.init, jax.random.key(0)),
    )
    rng = np.random.default_rng(0)  # what the paper draws takes longer to compile than the step
    drawn = jax.tree.map(lambda leaf: 0.1 * rng.normal(size=leaf.shape), state.params)
    state = state.replace(params=jax.tree.map(np.float32, drawn))
    state = set_hyperparams(state, learning_rate=1.0, momentum=0.0, weight_decay=0.0)
    with_heads, without = (gradient(state, batch(32, 3, 2), weight) for weight in (0.3, 0.0))
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(with_heads["aux1_head"]))
    assert not any(np.any(leaf != 0) for leaf in jax.tree.leaves(without["aux1_head"]))
    assert np.any(with_heads["conv1"]["conv"]["kernel"] != without["conv1"]["conv"]["kernel"])
    close(with_heads["head"], without["head"])


def test_views_are_judged_by_their_mean_probability(task):
    state = jax.jit(task.init)(jax.random.key(0))
    views = jax.random.normal(jax.random.key(1), (3, 10, 8, 8, 1))
    labels, mask = jnp.asarray([0, 1, 2]), jnp.ones(3)
    found, _ = jax.jit(task.eval_step)(
        state, {"images": views, "labels": labels, "mask": mask, "indices": jnp.arange(3)}
    )
    evaluate = jax.jit(partial(task.model.apply, train=False))
    logits = evaluate({"params": state.params}, views.reshape(-1, 8, 8, 1))
    mean = jax.nn.softmax(logits).reshape(3, 10, -1).mean(1)
    expected = task.sums(jnp.log(mean), {"labels": labels, "mask": mask})
    assert found["loss"] == pytest.approx(float(expected["loss"]), rel=1e-5)
    assert found["top1_error"] == expected["top1_error"]


def test_parameters_in_bfloat16_train_and_stay_bfloat16():
    model = create_model("cifar_resnet8", width=0.25, param_dtype="bfloat16", dtype="bfloat16")
    half = classification(model, (8, 8, 1), 10)
    state = set_hyperparams(jax.jit(half.init)(jax.random.key(0)), learning_rate=0.1, momentum=0.9)
    train = jax.jit(partial(half.train_step, collectives=ONE))
    new, sums = train(state, batch(), jax.random.key(1))
    same = jax.tree.map(lambda a, b: a.dtype == b.dtype, state, new)
    assert all(jax.tree.leaves(same))
    assert jax.tree.leaves(new.params)[0].dtype == jnp.bfloat16
    assert np.isfinite(float(sums["loss"]))
