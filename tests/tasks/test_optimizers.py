"""Each optimiser against its update written by hand in float64; averages, norms, what is frozen."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnnjax import Optimizer, Recipe, Refused, create_model
from cnnjax.core.config import canonical, override
from cnnjax.layers.scan import stack_blocks, unstack_blocks
from cnnjax.tasks.optimizers import OPTIMIZERS, hyperparams_of, kernels, update_of
from cnnjax.tasks.state import set_hyperparams
from tests.runs import classification, small_batch

KEY = jax.random.key(0)
STEPS = 5


def sgd(state, g, w, h):
    v = h["momentum"] * state.get("v", 0.0) + g + h["weight_decay"] * w
    return {"v": v}, w - h["learning_rate"] * v


def nesterov(state, g, w, h):
    g = g + h["weight_decay"] * w
    v = h["momentum"] * state.get("v", 0.0) + g
    return {"v": v}, w - h["learning_rate"] * (g + h["momentum"] * v)


def moments(state, g, h):
    t = state.get("t", 0) + 1
    m = h["b1"] * state.get("m", 0.0) + (1 - h["b1"]) * g
    v = h["b2"] * state.get("v", 0.0) + (1 - h["b2"]) * g**2
    step = m / (1 - h["b1"] ** t) / (np.sqrt(v / (1 - h["b2"] ** t)) + h["eps"])
    return {"t": t, "m": m, "v": v}, step


def adam(state, g, w, h):
    state, step = moments(state, g + h["weight_decay"] * w, h)
    return state, w - h["learning_rate"] * step


def adamw(state, g, w, h):
    state, step = moments(state, g, h)
    return state, w - h["learning_rate"] * (step + h["weight_decay"] * w)


def rmsprop(state, g, w, h):
    g = g + h["weight_decay"] * w
    s = h["decay"] * state.get("s", 0.0) + (1 - h["decay"]) * g**2
    v = h["momentum"] * state.get("v", 0.0) + g / np.sqrt(s + h["eps"])
    return {"s": s, "v": v}, w - h["learning_rate"] * v


def lamb(state, g, w, h):
    state, step = moments(state, g, h)
    step = step + h["weight_decay"] * w
    ratio = np.linalg.norm(w) / np.linalg.norm(step)
    return state, w - h["learning_rate"] * ratio * step


def lion(state, g, w, h):
    m = state.get("m", 0.0)
    step = np.sign(h["b1"] * m + (1 - h["b1"]) * g) + h["weight_decay"] * w
    return {"m": h["b2"] * m + (1 - h["b2"]) * g}, w - h["learning_rate"] * step


BY_HAND = {f.__name__: f for f in (sgd, nesterov, adam, adamw, rmsprop, lamb, lion)}


def parameters(seed):
    rng = np.random.default_rng(seed)
    return {"layer": {"kernel": rng.normal(size=(3, 4)), "bias": rng.normal(size=(4,))}}


def gradients():
    return [parameters(1 + step) for step in range(STEPS)]


def run(optimizer, params, grads, runs=()):
    """`STEPS` updates in float32; the parameters after each."""
    update = update_of(optimizer)
    single = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
    state = update.init(single)
    values = {k: jnp.asarray(v, jnp.float32) for k, v in hyperparams_of(optimizer).items()}
    state = state._replace(hyperparams=values)
    found = []
    for grad in grads:
        grad = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), grad)
        single, state = update.apply(grad, state, single, runs)
        found.append(single)
    return found


def test_every_optimiser_that_ships_is_compared():
    assert set(OPTIMIZERS.names()) == set(BY_HAND)


@pytest.mark.parametrize("decay", [0.0, 0.05])
@pytest.mark.parametrize("name", BY_HAND)
def test_five_updates_equal_those_by_hand_in_float64(name, decay):
    optimizer = Optimizer(name, learning_rate=0.05, weight_decay=decay)
    h = hyperparams_of(optimizer)
    params = parameters(0)
    wide, states = params["layer"], {"kernel": {}, "bias": {}}
    for grad, found in zip(gradients(), run(optimizer, params, gradients()), strict=True):
        after = {}
        for leaf in wide:
            states[leaf], after[leaf] = BY_HAND[name](
                states[leaf], grad["layer"][leaf], wide[leaf], h
            )
        wide = after
        chex.assert_trees_all_close(found["layer"], wide, rtol=1e-5, atol=1e-6)
        scale = max(np.abs(leaf).max() for leaf in wide.values())
        assert max(np.abs(found["layer"][k] - wide[k]).max() for k in wide) < 1e-6 * scale


def test_decay_may_be_of_kernels_alone():
    still = [jax.tree.map(np.zeros_like, grad) for grad in gradients()]
    all_, some = (
        run(Optimizer("adamw", weight_decay=0.5, weight_decay_on=on), parameters(0), still)[-1]
        for on in ("all", "kernels")
    )
    start = parameters(0)["layer"]
    np.testing.assert_allclose(some["layer"]["bias"], start["bias"], rtol=1e-6)
    assert (np.abs(all_["layer"]["bias"]) < np.abs(start["bias"])).all()
    np.testing.assert_array_equal(some["layer"]["kernel"], all_["layer"]["kernel"])
    assert kernels(start) == {"kernel": True, "bias": False}


def test_the_gradient_is_clipped_to_its_norm():
    norm = np.sqrt(sum((leaf**2).sum() for leaf in gradients()[0]["layer"].values()))
    plain = {"learning_rate": 1.0, "momentum": 0.0, "weight_decay": 0.0}
    start = parameters(0)["layer"]
    for limit, scale in ((norm / 4, 0.25), (2 * norm, 1.0)):
        clipped = run(Optimizer(**plain, clip_norm=float(limit)), parameters(0), gradients()[:1])[0]
        for leaf, value in clipped["layer"].items():
            wanted = start[leaf] - scale * gradients()[0]["layer"][leaf]
            np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-6)


BLOCKS = ("stage1_block2", "stage1_block3")


@pytest.mark.parametrize("name", ["lamb", "sgd", "own"])
def test_norms_of_stacked_blocks_are_those_of_each(name, tmp_path):
    """LAMB's ratio, and clipping by block in a user's function, are of one block's parameter."""
    if name == "own":
        file = tmp_path / "mine.py"
        file.write_text(
            "import optax\n"
            "def mine(learning_rate: float, rms: float = 0.1):\n"
            "    return optax.chain(optax.clip_by_block_rms(rms), optax.sgd(learning_rate))\n"
        )
        name = f"{file}:mine"
    params = {block: parameters(i) for i, block in enumerate(BLOCKS)} | {"head": parameters(9)}
    grads = [
        {block: parameters(20 + i + 5 * step) for i, block in enumerate((*BLOCKS, "head"))}
        for step in range(STEPS)
    ]
    optimizer = Optimizer(name, learning_rate=0.1)
    apart = run(optimizer, params, grads)[-1]
    single = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params)
    stacked = run(
        optimizer,
        stack_blocks(single, [BLOCKS]),
        [stack_blocks(jax.tree.map(np.float32, grad), [BLOCKS]) for grad in grads],
        [BLOCKS],
    )[-1]
    chex.assert_trees_all_close(unstack_blocks(stacked, [BLOCKS]), apart, rtol=1e-6)


@pytest.fixture(scope="module")
def batch():
    return small_batch()


def task_with(optimizer, depth=14):
    model = create_model(f"cifar_resnet{depth}", width=0.25)
    task = classification(model, (8, 8, 1), 10, update=update_of(optimizer))
    return task, set_hyperparams(task.init(KEY), **hyperparams_of(optimizer))


def steps(task, state, batch, count=2):
    step = jax.jit(task.train_step)
    for number in range(count):
        state, _ = step(state, batch, jax.random.fold_in(KEY, number))
    return state


def test_the_average_is_of_parameters_and_statistics_and_is_what_is_evaluated(batch):
    optimizer = Optimizer(learning_rate=0.1, ema_decay=0.75)
    task, start = task_with(optimizer, 8)
    states, step = [start], jax.jit(task.train_step)
    for number in range(2):
        states.append(step(states[-1], batch, jax.random.fold_in(KEY, number))[0])
    by_hand = {"params": start.params, "model_state": start.model_state}
    for state in states[1:]:
        new = {"params": state.params, "model_state": state.model_state}
        by_hand = jax.tree.map(lambda a, n: 0.75 * a + 0.25 * n, by_hand, new)
    chex.assert_trees_all_close(states[-1].average, by_hand, rtol=1e-6, atol=1e-7)
    judge = jax.jit(lambda state: task.eval_step(state, batch)[0]["loss"])
    loss = judge(states[-1])
    averaged = states[-1].replace(
        params=by_hand["params"], model_state=by_hand["model_state"], average=None
    )
    np.testing.assert_allclose(loss, judge(averaged), rtol=1e-5)
    assert loss != judge(states[-1].replace(average=None))


# Depth 14 has two blocks a stage; those of stage 1 are equal and lie stacked: both whole, one of
# them, a part of each.
FROZEN = [("stem", "stage1*"), ("stage1_block1",), ("stage1_block*.conv1", "head.bias")]


@pytest.mark.parametrize("patterns", FROZEN)
@pytest.mark.parametrize("packed", [False, True])
def test_what_is_frozen_keeps_every_bit_and_the_rest_moves(batch, patterns, packed):
    from cnnjax.layers.freeze import Freeze

    optimizer = Optimizer("adamw", learning_rate=0.1, weight_decay=0.1, freeze=patterns)
    task, start = task_with(optimizer)
    state = steps(task, task.pack(start) if packed else start, batch)
    state = task.unpack(state) if packed else state
    fits = Freeze(patterns)
    for collection, old, new in (
        ("params", start.params, state.params),
        ("batch_stats", start.model_state["batch_stats"], state.model_state["batch_stats"]),
    ):
        for path, leaf in jax.tree.leaves_with_path(old):
            names = [key.key for key in path]
            value = new
            for name in names:
                value = value[name]
            same = bool((np.asarray(value) == np.asarray(leaf)).all())
            assert same == fits(names), (collection, names)


def test_frozen_normalisation_uses_its_running_statistics(batch):
    """A step of a network frozen but for its head is a step of a dense layer on evaluated maps."""
    optimizer = Optimizer(learning_rate=0.1, weight_decay=0.0, freeze=("stem", "stage*"))
    task, start = task_with(optimizer, 8)
    moved = jax.tree.map(lambda leaf: leaf + 0.3, start.model_state)
    start = start.replace(model_state=moved)
    state = steps(task, start, batch, 1)
    variables = {"params": start.params, **moved}
    maps = jax.jit(partial(task.model.apply, train=False, method="feature_maps"))
    features = maps(variables, batch["images"])[4].mean((1, 2))

    def loss(head):
        logits = features @ head["kernel"] + head["bias"][None]
        wide = jax.nn.log_softmax(logits)
        return -jnp.take_along_axis(wide, batch["labels"][:, None], 1).mean()

    head = start.params["head"]
    expected = jax.tree.map(lambda w, g: w - 0.1 * g, head, jax.grad(loss)(head))
    chex.assert_trees_all_close(state.params["head"], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer.name": "adamm"}, "no optimizer 'adamm'; did you mean adam"),
        ({"optimizer.name": "adamw", "optimizer.momentum": 0.9}, "no setting 'optimizer.momentum'"),
        ({"optimizer.b1": 0.9}, "no setting 'optimizer.b1'"),
        ({"optimizer.clip_norm": 0}, "clip_norm=0.0: must be above 0"),
        ({"optimizer.ema_decay": 1.0}, "ema_decay=1.0: must be below 1"),
        ({"optimizer.weight_decay_on": "biases"}, "it is one of all, kernels"),
        ({"optimizer.freeze": "stem"}, "optimizer.freeze=stem: give a list"),
    ],
)
def test_what_an_optimiser_has_not_is_refused(changes, message):
    def apply(recipe=Recipe()):  # noqa: B008
        for path, value in changes.items():
            recipe = override(recipe, path, value)
        return canonical(recipe)

    with pytest.raises(Refused, match=message.replace("[", r"\[")) as refusal:
        apply()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (("stemm",), "no parameter that fits optimizer.freeze: 'stemm'; did you mean stem"),
        (("*",), "fits every parameter"),
    ],
)
def test_a_pattern_that_fits_nothing_or_everything_is_refused(patterns, message):
    task, _ = task_with(Optimizer(freeze=patterns), 8)
    with pytest.raises(Refused, match=message):
        task.check(4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def mine(rate): ...", "no parameter learning_rate"),
        ("def mine(learning_rate, freeze=1): ...", "a parameter freeze"),
        ("def mine(learning_rate=None): ...", "its learning_rate=None is no number"),
        ("mine = 3", "is no function"),
        ("def mine(learning_rate: float): return 3", "gives a int, not an optax"),
        ("def mine(learning_rate: float): return 1 / 0", r"mine.py, line 1: ZeroDivisionError"),
    ],
)
def test_a_users_function_that_is_no_optimiser_is_refused(tmp_path, text, message):
    file = tmp_path / "mine.py"
    file.write_text(text)
    optimizer = Optimizer(f"{file}:mine", learning_rate=0.1)

    def begin():
        canonical(Recipe(optimizer=optimizer))
        return update_of(optimizer).init({"a": jnp.ones(3)})

    with pytest.raises(Refused, match=message) as refusal:
        begin()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("return 3", "gives a int, not an optax"),
        ("raise ValueError('no')", r"mine.py, line 2: ValueError: no"),
    ],
)
def test_a_users_optimiser_is_made_before_anything_is_compiled(tmp_path, text, message):
    file = tmp_path / "mine.py"
    file.write_text(f"def mine(learning_rate: float):\n    {text}\n")
    update = update_of(canonical(Recipe(optimizer=Optimizer(f"{file}:mine"))).optimizer)
    with pytest.raises(Refused, match=message):
        classification(create_model("lenet5"), (8, 8, 1), 10, update=update).check(4)


def test_a_users_learning_rate_is_a_number_whatever_its_annotation_says(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("import optax\ndef mine(learning_rate: int = 1):\n"
                    "    return optax.sgd(learning_rate)\n")  # fmt: skip
    recipe = canonical(Recipe(optimizer=Optimizer(f"{file}:mine")))
    assert hyperparams_of(recipe.optimizer) == {"learning_rate": 1.0}


class Wrapped(nn.Module):
    """A network that ships inside a user's own."""

    @nn.compact
    def __call__(self, images, *, train):
        trunk = create_model("cifar_resnet14", width=0.25).clone(name="trunk", parent=self)
        return nn.Dense(10, name="head")(trunk(images, train=train))


def test_a_frozen_network_inside_another_keeps_its_statistics(batch):
    optimizer = Optimizer(learning_rate=0.1, freeze=("trunk",))
    task = classification(Wrapped(), (8, 8, 1), 10, update=update_of(optimizer))
    start = set_hyperparams(task.init(KEY), **hyperparams_of(optimizer))
    state = steps(task, start, batch, 1)
    chex.assert_trees_all_equal(state.model_state, start.model_state)
    chex.assert_trees_all_equal(state.params["trunk"], start.params["trunk"])
    assert (state.params["head"]["kernel"] != start.params["head"]["kernel"]).any()
