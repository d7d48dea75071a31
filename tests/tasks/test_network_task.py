"""The door for tasks of one's own: what it promises, and what it refuses before any compute."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnnjax import Data, Loss, Model, Recipe, Refused, Task
from cnnjax.core.config import assignment, canonical, override_all
from cnnjax.layers.context import Context, in_context
from cnnjax.layers.dropout import Dropout
from cnnjax.layers.scan import apply_blocks, stack_blocks
from cnnjax.tasks.classification import Predictions, label_ranks
from cnnjax.tasks.task import DataSpec, Metric
from cnnjax.training.make import task_for
from tests.runs import classification

ROTATION = """\
from dataclasses import dataclass
import jax, jax.numpy as jnp, optax
from cnnjax import Metric, NetworkTask
@dataclass(frozen=True, kw_only=True)
class Rotation(NetworkTask):
    metrics = (Metric("turn_error", "%", "lower", "turns that are told wrongly", worst=100.0),
               Metric("loss", "nats", "lower", "mean cross-entropy"))
    needs = {"images": "uint8 h h c"}
    turns: int = 4
    @property
    def num_outputs(self):
        return self.turns
    def inputs(self, batch, keys):
        turns = jax.vmap(lambda key: jax.random.randint(key, (), 0, self.turns))(keys)
        def turn(image, number):
            return jax.lax.switch(number, [lambda x, k=k: jnp.rot90(x, k) for k in range(4)], image)
        return {**batch, "images": jax.vmap(turn)(batch["images"], turns), "turns": turns}
    def losses(self, outputs, batch):
        return optax.softmax_cross_entropy_with_integer_labels(outputs, batch["turns"])
    def figures(self, outputs, batch):
        wrong = outputs.argmax(-1) != batch["turns"]
        return {"turn_error": wrong.astype("float32"), "loss": self.losses(outputs, batch)}
"""
SQUARE = DataSpec("squares", (("images", (8, 8, 1), "uint8"),))


@pytest.fixture
def written(tmp_path):
    def write(text=ROTATION):
        file = tmp_path / "rotation.py"
        file.write_text(text)
        return f"{file}:Rotation"

    return write


def recipe_with(name, **changes):
    small = Model("cifar_resnet8", {"width": 0.25})
    return canonical(Recipe(task=Task(name), model=small, **changes))


def test_a_task_of_ones_own_decides_the_outputs_and_needs_no_labels(written):
    task = task_for(recipe_with(written()), SQUARE)
    assert task.model.num_classes == 4
    task.check(4)
    state, judge = jax.jit(task.init)(jax.random.key(0)), jax.jit(task.eval_step)
    batch = {
        "images": jax.random.normal(jax.random.key(1), (4, 8, 8, 1)),
        "mask": jnp.ones(4), "indices": jnp.arange(4),
    }  # fmt: skip
    first, again = (judge(state, batch)[0] for _ in range(2))
    assert first["loss"] == again["loss"]
    assert set(task.summary(first)) == {"turn_error", "loss", "examples"}
    swapped = {key: value[::-1] for key, value in batch.items()}
    other = judge(state, swapped)[0]  # an example's draw goes with its index
    np.testing.assert_allclose(other["loss"], first["loss"], rtol=1e-5)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"turn_error": wrong', '"other": wrong', "declares the metric turn_error and does not"),
        (
            'batch["turns"])\n    def',
            'batch["spins"])\n    def',
            r"rotation.py, line \d+: KeyError",
        ),
        ('metrics = (Metric("turn', 'metrics = () and (Metric("turn', "declares no metric"),
        ("def losses", "def loss", r"does not define losses\(self, outputs, batch\)"),
        ("(NetworkTask)", "", "is no task: give a class that derives from cnnjax.NetworkTask"),
        ("turns: int = 4", "turns: int", "has no default for turns"),
        ("turns: int = 4", "turns: object = [4]", "cannot be made|mutable default"),
        (
            "    @property\n    def num_outputs",
            "    def __post_init__(self):\n        raise ValueError('no')\n"
            "    @property\n    def num_outputs",
            r"cannot be made: rotation.py, line \d+: ValueError: no",
        ),
    ],
)
def test_what_is_wrong_with_it_is_refused_in_one_line(written, old, new, message):
    assert old in ROTATION

    def make():
        task_for(recipe_with(written(ROTATION.replace(old, new))), SQUARE).check(4)

    with pytest.raises(Refused, match=message) as refusal:
        make()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((("pixels", (8, 8, 1), "uint8"),), "needs images, and data set odd has pixels"),
        ((("images", (8, 6, 1), "uint8"),), "h is 8 and 6 in data set odd"),
        ((("images", (8, 8), "uint8"),), r"they are uint8\[8, 8\]"),
    ],
)
def test_data_that_the_task_does_not_take_are_refused_by_the_field(written, fields, message):
    with pytest.raises(Refused, match=message):
        task_for(recipe_with(written()), DataSpec("odd", fields))


def test_data_without_labels_are_refused_by_classification():
    with pytest.raises(Refused, match="classification needs labels, and data set squares has im"):
        task_for(recipe_with("classification"), SQUARE)


@pytest.mark.parametrize("text", ["loss.label_smoothing=0.1", "data.mixup=0.2"])
def test_a_setting_that_the_task_does_not_use_is_refused(written, text):
    name = written()
    both = [assignment(f"task.name={name}"), assignment(text)]
    with pytest.raises(Refused, match=rf"--set {text} has no effect: task.name=.*does not use it"):
        override_all(Recipe(), both)
    changes = {"loss": Loss(label_smoothing=0.1)} if "loss" in text else {"data": Data(mixup=0.2)}
    with pytest.raises(Refused, match=r"has no effect: task\.name="):
        task_for(recipe_with(name, **changes), SQUARE)


def test_a_task_that_there_is_not_is_refused():
    with pytest.raises(Refused, match="no task 'clasification'; did you mean classification"):
        recipe_with("clasification")


def test_dropout_is_of_the_example_wherever_it_stands_in_the_batch():
    x = jnp.ones((6, 5, 5, 3))
    layer = Dropout(0.5)

    def drop(indices):
        with in_context(Context(indices=indices)):
            key = {"dropout": jax.random.key(0)}
            return layer.apply({}, x[: len(indices)], deterministic=False, rngs=key)

    whole = drop(jnp.arange(6))
    np.testing.assert_array_equal(drop(jnp.asarray([4, 2])), whole[jnp.asarray([4, 2])])
    assert not (whole[0] == whole[1]).all()
    assert set(np.unique(whole)) == {0.0, 2.0}
    assert 0.4 < float((whole == 0).mean()) < 0.6
    np.testing.assert_array_equal(layer.apply({}, x, deterministic=True), x)


class Noisy(nn.Module):
    """A block that drops, counts and sows."""

    @nn.compact
    def __call__(self, x, *, train):
        x = x + nn.Conv(x.shape[-1], (1, 1))(x)
        self.sow("intermediates", "mean", x.mean())
        return Dropout(0.5)(x, deterministic=not train)


class Net(nn.Module):
    names: tuple[str, ...] = ("block1", "block2", "block3")

    def setup(self):
        for name in self.names:
            setattr(self, name, Noisy())

    def __call__(self, x, *, train):
        return apply_blocks(self, Noisy(parent=None), self.names, x, train=train)


@pytest.mark.parametrize("stacked", [False, True])
def test_scanned_blocks_drop_each_its_own_and_what_they_sow_comes_back(stacked):
    net, x = Net(), jnp.ones((2, 4, 4, 3))
    variables = {"params": net.init(jax.random.key(0), x, train=False)["params"]}
    if stacked:
        variables = stack_blocks(variables, [net.names])
    rngs = {"dropout": jax.random.key(1)}
    y, sown = net.apply(variables, x, train=True, rngs=rngs, mutable=["intermediates"])
    zero = (y == 0).mean()
    assert 0.4 < float(zero) < 0.75  # half, and what both blocks before had dropped
    found = sown["intermediates"]
    if not stacked:
        assert list(found) == list(net.names)
    means = [float(leaf) for leaf in np.concatenate([np.ravel(v) for v in jax.tree.leaves(found)])]
    assert len(means) == 3
    assert len(set(means)) == 3


def test_predictions_come_in_the_order_of_the_set_and_are_counted_in_whole_numbers():
    first, second = Predictions(3), Predictions(3)
    rows = {"labels": np.array([0, 1]), "predictions": np.array([0, 2])}
    second.add(np.array([3, 1]), {**rows, "probabilities": np.eye(3)[[0, 2]]})
    rows = {"labels": np.array([2, 2]), "predictions": np.array([2, 2])}
    first.add(np.array([0, 2]), {**rows, "probabilities": np.eye(3)[[2, 2]]})
    first.merge(second)
    arrays = first.arrays()
    assert arrays["labels"].tolist() == [2, 1, 2, 0]
    assert arrays["predictions"].tolist() == [2, 2, 2, 0]
    assert arrays["probabilities"].argmax(1).tolist() == [2, 2, 2, 0]
    assert first.finish() == {"confusion": [[1, 0, 0], [0, 0, 1], [0, 0, 2]]}


def test_five_classes_have_no_top_five():
    assert [m.name for m in classification(None, (8, 8, 1), 5).judged] == ["top1_error", "loss"]


@pytest.mark.parametrize("part", ["losses", "figures"])
def test_what_is_not_one_value_for_each_example_is_refused(written, part):
    """[n, 1] would be broadcast to [n, n]: another mean, without a word."""
    old = {
        "losses": 'integer_labels(outputs, batch["turns"])',
        "figures": 'wrong.astype("float32")',
    }[part]
    text = ROTATION.replace(old, f"{old}[:, None]", 1)
    with pytest.raises(Refused, match=r"has the shape \[4, 1\]; one value for each example"):
        task_for(recipe_with(written(text)), SQUARE).check(4)


def test_a_direction_that_is_none_is_refused():
    metric = Metric("size", "", "lower", "?")
    vars(metric)["better"] = "smaller"  # where no type checker stands before it
    with pytest.raises(Refused, match=r"better='smaller'.: say which direction is better"):
        metric.__post_init__()


def test_logits_that_are_no_numbers_are_wrong():
    logits = jnp.full((2, 10), jnp.nan)
    assert label_ranks(logits, jnp.asarray([0, 7])).tolist() == [10, 10]


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ('Metric("seconds", "", "lower", "?")', "a metric cannot be named 'seconds'"),
        ('Metric("a b", "", "lower", "?")', "a metric cannot be named 'a b'"),
        ('"loss"', "which is no Metric"),
        ('Metric("loss", "", "lower", "?")', "named alike"),
    ],
)
def test_metrics_that_are_none_are_refused(written, metrics, message):
    text = ROTATION.replace("metrics = (", f"metrics = ({metrics}, ")
    with pytest.raises(Refused, match=message):
        recipe_with(written(text))
