from functools import cache, partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax

from cnnjax import Refused, create_model
from cnnjax.tasks.network import ONE
from cnnjax.tasks.state import set_hyperparams
from tests.runs import classification, small_batch

KEY = jax.random.key(0)


def examples(seed, real, padded_to, num_classes=5):
    rng = np.random.default_rng(seed)
    mask = (np.arange(padded_to) < real).astype(np.float32)
    logits = rng.normal(size=(padded_to, num_classes)).astype(np.float32) * 3
    labels = rng.integers(0, num_classes, padded_to).astype(np.int32)
    return jnp.asarray(logits), jnp.asarray(labels), jnp.asarray(mask)


def metric_sums(logits, labels, mask):
    task = classification(None, (8, 8, 1), logits.shape[1])
    return task.sums(logits, {"labels": labels, "mask": mask})


@pytest.mark.parametrize("num_classes", [2, 10, 1000])
def test_loss_and_error_equal_float64(num_classes):
    logits, labels, mask = examples(0, 7, 7, num_classes)
    wide = log_softmax(np.asarray(logits, np.float64), axis=-1)
    judge = classification(None, (8, 8, 1), num_classes)
    found = judge.summary(metric_sums(logits, labels, mask))
    assert found["loss"] == pytest.approx(-wide[np.arange(7), labels].mean(), rel=1e-5)
    assert found["top1_error"] == pytest.approx(100 * (wide.argmax(-1) != labels).mean())
    if num_classes > 5:
        ranks = (-wide).argsort(axis=-1)[:, :5]
        wrong = ~(ranks == np.asarray(labels)[:, None]).any(axis=1)
        assert found["top5_error"] == pytest.approx(100 * wrong.mean())
    assert ("top5_error" in found) == (num_classes > 5)
    assert found["examples"] == 7


@given(seed=st.integers(0, 2**31), real=st.integers(1, 8))
def test_padding_and_splitting_change_nothing(seed, real):
    logits, labels, mask = examples(seed, real, padded_to=8)
    whole = metric_sums(logits[:real], labels[:real], mask[:real])
    halves = [metric_sums(logits[s], labels[s], mask[s]) for s in (slice(4), slice(4, 8))]
    chex.assert_trees_all_close(jax.tree.map(jnp.add, *halves), whole, rtol=1e-5)


def test_padding_may_hold_anything():
    logits, labels, mask = examples(0, 3, padded_to=4)
    spoilt = logits.at[3].set(jnp.nan)
    chex.assert_trees_all_equal(
        metric_sums(spoilt, labels, mask), metric_sums(logits, labels, mask)
    )


@pytest.fixture(scope="module")
def task():
    return classification(create_model("cifar_resnet8", width=0.25), (8, 8, 1), 10)


@pytest.fixture(scope="module")
def train(task):
    return jax.jit(lambda state, batch: task.train_step(state, batch, KEY, ONE))


@pytest.fixture(scope="module")
def batch():
    return small_batch()


@cache
def initializer(task):
    return jax.jit(task.init)


def start(task, **hyperparams):
    values = {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.01, **hyperparams}
    return set_hyperparams(initializer(task)(KEY), **values)


def test_two_steps_are_sgd_with_momentum_and_weight_decay_on_every_parameter(task, train, batch):
    state = start(task)

    @jax.jit
    def gradient(params, model_state):
        def loss(params):
            logits, _ = task.model.apply(
                {"params": params, **model_state}, batch["images"], train=True,
                mutable=["batch_stats"],
            )  # fmt: skip
            wide = jax.nn.log_softmax(logits)
            return -jnp.take_along_axis(wide, batch["labels"][:, None], 1).mean()

        return jax.grad(loss)(params)

    params = jax.tree.map(np.float64, state.params)
    velocity = jax.tree.map(np.zeros_like, params)
    for _ in range(2):
        single = jax.tree.map(jnp.float32, params)
        grads = jax.tree.map(np.float64, gradient(single, state.model_state))
        grads = jax.tree.map(lambda g, p: g + 0.01 * p, grads, params)
        velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, grads)
        params = jax.tree.map(lambda p, v: p - 0.1 * v, params, velocity)
        state, _ = train(state, batch)
    assert int(state.step) == 2
    chex.assert_trees_all_close(state.params, params, atol=3e-5, rtol=1e-3)


def test_one_trace_serves_every_rate_and_stacked_and_ordinary_agree(task, train, batch):
    step = jax.jit(chex.assert_max_traces(lambda s, b: task.train_step(s, b, KEY, ONE), 1))
    first, _ = step(start(task, learning_rate=0.1), batch)
    second, _ = step(start(task, learning_rate=0.05, weight_decay=0.0), batch)
    assert not np.array_equal(first.params["head"]["bias"], second.params["head"]["bias"])
    packed, _ = train(task.pack(start(task)), batch)
    chex.assert_trees_all_close(task.unpack(packed).params, first.params, atol=1e-5)


@pytest.mark.parametrize("where", ["images", "params", "batch_stats"])
def test_a_step_that_is_not_finite_changes_nothing_and_names_the_leaf(task, train, batch, where):
    state = start(task)
    if where == "images":
        batch = {**batch, "images": batch["images"].at[0, 0, 0, 0].set(jnp.inf)}
    elif where == "params":
        state.params["head"]["bias"] = state.params["head"]["bias"].at[0].set(jnp.nan)
    else:
        mean = state.model_state["batch_stats"]["stem"]["norm"]["mean"]
        state.model_state["batch_stats"]["stem"]["norm"]["mean"] = mean.at[0].set(jnp.inf)
    new, metrics = train(state, batch)
    chex.assert_trees_all_equal(new, state)
    bad = np.flatnonzero(metrics["nonfinite"])
    names = task.checked_names(state)
    assert len(names) == len(metrics["nonfinite"])
    assert names[bad[0]] == (
        "state.batch_stats.stem.norm.mean" if where == "batch_stats" else "0_loss"
    )
    assert float(metrics["examples"]) == 0
    assert float(metrics["loss"]) == 0


def test_a_good_step_counts_nothing_as_bad(task, train, batch):
    _, metrics = train(start(task), batch)
    assert not metrics["nonfinite"].any()
    assert float(metrics["examples"]) == 6


def test_collectives_see_counts_gradients_and_statistics(task, train, batch):
    """Two replicas with the same part: counts double, gradients of sums over them stay."""
    seen = []

    class Twice:
        axis, shards = None, 1

        def sum(self, tree):
            seen.append("sum")
            return jax.tree.map(lambda leaf: 2 * leaf, tree)

        def mean(self, tree):
            seen.append("mean")
            return jax.tree.map(lambda leaf: 0 * leaf, tree)

    state = start(task, weight_decay=0.0)
    twice = jax.jit(partial(task.train_step, collectives=Twice()))
    new, sums = twice(state, batch, KEY)
    alone, _ = train(state, batch)
    assert seen == ["sum", "sum", "mean"]
    chex.assert_trees_all_close(new.params, alone.params, atol=1e-6)
    assert (new.model_state["batch_stats"]["stem"]["norm"]["var"] == 0).all()
    assert float(sums["examples"]) == 6  # of this replica's part


def test_a_network_that_rejects_the_images_is_refused():
    task = classification(create_model("resnet18"), (8, 8, 1), 10)
    with pytest.raises(Refused, match="images of 8x8"):
        task.check()


class Wrong(nn.Module):
    """Logits of a given shape and dtype."""

    shape: tuple[int, ...]
    dtype: str = "float32"

    @nn.compact
    def __call__(self, images, *, train):
        return jnp.zeros(self.shape, self.dtype)


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (Wrong((1, 5)), r"float32\[1, 5\] .*float32\[1, 10\] is needed for 10 classes"),
        (Wrong((10,)), r"float32\[10\]"),
        (Wrong((2, 10)), r"float32\[2, 10\]"),
        (Wrong((1, 10), "bfloat16"), r"bfloat16\[1, 10\]"),
    ],
)
def test_logits_that_do_not_fit_the_classes_are_refused(model, found):
    with pytest.raises(Refused, match=found):
        classification(model, (8, 8, 1), 10).check()


def test_a_network_without_parameters_passes_the_check():
    classification(Wrong((1, 10)), (8, 8, 1), 10).check()
