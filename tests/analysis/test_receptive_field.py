"""What each unit sees, against what changes when a row or a column of the image changes."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from cnnjax.analysis.cost import model_cost
from cnnjax.analysis.intervals import Seen, image
from cnnjax.analysis.layers import walk_layers
from cnnjax.analysis.receptive_field import UNKNOWN_FIELD, Field
from cnnjax.analysis.values import Value
from cnnjax.core.jax_internals import Body
from tests.analysis.random_nets import random_net

pytestmark = pytest.mark.core  # also on every other Python: make test-core

SHAPE = (1, 23, 17, 3)
LOWER = np.tril(np.ones((32, 32), bool))[None, ..., None]


def walked(net, shape=SHAPE):
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    traced = Body(jax.make_jaxpr(net)(images, net.weights))
    inputs = [Value(image(shape)), *(Value(trained=True) for _ in net.weights)]
    return walk_layers(traced, inputs)


def dependence(net, shape=SHAPE):
    """[pixels of a dimension, *output] for the height and the width: which outputs change."""
    rng = np.random.default_rng(0)
    base = rng.uniform(0.5, 1, shape).astype(np.float32)
    copies = [base]
    for axis in (1, 2):
        for place in range(shape[axis]):
            copy = base.copy()
            np.moveaxis(copy, axis, 0)[place] += 1e3 if net.finite else np.nan
            copies.append(copy)
    run = jax.jit(net)  # one by one: in a batch, an image's place decides how sums are rounded
    out = np.concatenate([run(copy, net.weights) for copy in copies])
    differs = out[1:] != out[:1]
    return differs[: shape[1]], differs[shape[1] :]


def ends(reached):
    """First and last pixel of each output, -1 and -2 where it sees none."""
    some = reached.any(0)
    first, last = reached.argmax(0), len(reached) - 1 - reached[::-1].argmax(0)
    return np.where(some, first, -1), np.where(some, last, -2)


def check(net, shape=SHAPE):
    """Whether the net is known; fails where what is known is wrong."""
    sight = walked(net, shape).outputs[0].sight
    if not isinstance(sight, Seen):
        return False
    for span, far, reached in zip(sight.spans, sight.counted, dependence(net, shape), strict=True):
        first, last = ends(reached)
        low, high = (np.broadcast_to(end, sight.shape)[0] for end in (span.low, span.high))
        seen = first >= 0
        assert (low <= first)[seen].all(), net.names
        assert (high >= last)[seen].all(), net.names
        if seen.any():
            assert (high - low)[seen].max() == (last - first)[seen].max(), net.names
        if "border" not in net.names:  # which is seen, but counts as lying beyond itself
            assert (far.low <= span.low).all(), net.names
            assert (far.high >= span.high).all(), net.names
    return True


@pytest.mark.parametrize("part", range(4))
def test_random_nets_see_what_changes_them(part):
    known = [check(random_net(seed, SHAPE)) for seed in range(15 * part, 15 * part + 15)]
    assert np.mean(known) > 0.8


@pytest.mark.long
@pytest.mark.parametrize("part", range(12))
@pytest.mark.parametrize("shape", [SHAPE, (1, 5, 4, 2)])
def test_more_random_nets_see_what_changes_them(part, shape):
    seeds = range(50 * part + 1000, 50 * part + 1050)
    known = [check(random_net(seed, shape), shape) for seed in seeds]
    assert np.mean(known) > 0.9


def field(compute, shape=(32, 32, 3)):
    """Of the widest map of a network that is one function."""

    class Net(nn.Module):
        @nn.compact
        def __call__(self, images, *, train):
            return compute(images)

    return model_cost(Net(), shape).field


def conv(x, size=3, features=4, **options):
    return nn.Conv(features, (size, size), **options)(x)


def excite(x):
    squeezed = nn.relu(nn.Dense(2)(x.mean((1, 2))))
    return x * nn.sigmoid(nn.Dense(x.shape[-1])(squeezed))[:, None, None]


def space_to_depth(x):
    n, h, w, c = x.shape
    x = x.reshape(n, h // 2, 2, w // 2, 2, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(n, h // 2, w // 2, 4 * c)


def tokens(x):
    return x.reshape(x.shape[0], -1, x.shape[-1])


def attend(x):
    scores = nn.softmax(jnp.einsum("nqc,nkc->nqk", x, x))
    return x + jnp.einsum("nqk,nkc->nqc", scores, x)


def pool(x, dilation):
    return lax.reduce_window(
        x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 1, 1, 1), "VALID", None, (1, dilation, dilation, 1)
    )


def turned(state):
    return state[0] + 1, jnp.flip(state[1], 1)


def resize(x, size, method="bilinear"):
    return jax.image.resize(x, (x.shape[0], size, size, x.shape[3]), method)


@pytest.mark.parametrize(
    ("compute", "size", "stride", "offset"),
    [
        (lambda x: x[:, 1:] - x[:, :-1], 2, 1, 0.5),
        (lambda x: conv(x[:, 1:] - x[:, :-1], 1), 2, 1, 0.5),
        (lambda x: pool(x, 4), 9, 1, 4),
        (lambda x: nn.ConvTranspose(4, (2, 2), (2, 2))(conv(conv(x, strides=2))), 7, 1, 1),
        (lambda x: nn.ConvTranspose(4, (3, 3), (2, 2))(conv(conv(x))), 6, 0.5, -0.5),
        (lambda x: conv(conv(space_to_depth(conv(x)))), 12, 2, 0.5),
        (lambda x: excite(conv(conv(x))), 32, 1, 15.5),
        (lambda x: conv(excite(conv(conv(x)))), 32, 1, 15.5),
        (lambda x: conv(nn.GroupNorm(1)(conv(x)), strides=2), 32, 2, 15.5),
        (lambda x: nn.Conv(4, (3,))(conv(x).mean(1)), 32, None, 15.5),  # no axis is the height's
        (lambda x: conv(conv(x).mean(2, keepdims=True)), 5, 1, 0),
        (lambda x: conv(jnp.roll(x, 1, 2)), 3, 1, 0),
        (lambda x: conv(jnp.roll(x, 1, 1)), 32, 1, 15.5),
        (lambda x: conv(x, padding="CIRCULAR"), 32, 1, 15.5),
        (lambda x: conv(jnp.flip(x, 1)), 3, 1, 31),
        (lambda x: conv(conv(x).transpose(0, 2, 1, 3), 5), 7, 1, 0),
        (lambda x: conv(conv(x)[:, 3::2]), 7, 2, 3),
        (lambda x: conv(conv(x)[:, np.array([0, 5, 6])]), 9, None, 2.5),
        (lambda x: conv(conv(x)[:, np.arange(1, 31, 2)], 1), 3, 2, 1),
        (lambda x: conv(jnp.repeat(conv(x), 2, 1)), 4, 0.5, -0.5),
        (lambda x: conv(resize(conv(x), 64)), 5, 0.5, 1),
        (lambda x: conv(resize(conv(x), 64, "nearest")), 4, 0.5, -0.5),
        (lambda x: conv(resize(conv(x), 16)), 10, 2, 2.5),
        (lambda x: conv(resize(excite(conv(x)), 64)), 32, 0.5, 15.5),
        (lambda x: jnp.cumsum(conv(x), 1), 32, 1, 0.5),
        (lambda x: conv(x).reshape(-1, 16, 2, 32, 4).mean(2), 4, 2, 0.5),
        (lambda x: conv(tokens(conv(x)).reshape(-1, 32, 32, 4)), 5, 1, 0),
        (lambda x: attend(tokens(conv(x, 4, strides=4))), 32, None, 15.5),
        (lambda x: conv(jnp.pad(conv(x), ((0, 0), (3, 3), (3, 3), (0, 0))), 7, padding=0), 9, 1, 0),
        (lambda x: jnp.einsum("nhwc,hk->nkwc", conv(x), np.eye(32, k=-1)), 3, 1, 1.0),
        (lambda x: jnp.where(LOWER, conv(x), 0), 3, 1, 0),
        (lambda x: nn.Dense(3)(conv(x).reshape(x.shape[0], -1)), 3, 1, 0),
    ],
)  # fmt: skip
def test_fields_of_what_moves_pixels(compute, size, stride, offset):
    found = field(compute)
    assert (found.size, found.stride, found.offset) == (size, stride, offset)


@pytest.mark.parametrize(
    "mix",
    [
        lambda x: jnp.sort(x, 1),
        lambda x: jnp.fft.fft(x, axis=1).real,
        lambda x: jnp.take_along_axis(x, jnp.argsort(x, 1), 1),
        lambda x: lax.dynamic_slice_in_dim(x, jnp.argmax(x[0, :, 0, 0]), 8, 1),
        lambda x: x.at[:, jnp.argmax(x[0, :, 0, 0])].set(0),
        lambda x: lax.while_loop(lambda c: c[0] < 3, turned, (0, x))[1],
        lambda x: lax.while_loop(lambda v: v.mean() < 3, lambda v: v * 2, x),
        lambda x: x[:, jax.random.permutation(jax.random.key(0), 32)],
    ],
    ids=["sort", "fft", "argsort", "slice", "scatter", "flip", "until", "random"],
)  # fmt: skip
def test_what_no_rule_describes_is_unknown_for_its_row_what_follows_and_the_total(mix):
    class Net(nn.Module):
        @nn.compact
        def __call__(self, images, *, train):
            x = nn.Conv(4, (3, 3), name="before")(images)
            x = nn.Conv(4, (3, 3), name="after")(mix(x))
            return nn.Dense(3, name="head")(x.mean((1, 2)))

    cost = model_cost(Net(), (32, 32, 3))
    assert cost.field == UNKNOWN_FIELD
    assert [row.field for row in cost.layers] == [Field(3, 1, 0.0), UNKNOWN_FIELD, UNKNOWN_FIELD]


def test_what_follows_the_map_needs_no_rule():
    assert field(lambda x: jnp.sort(nn.Dense(9)(conv(x).mean((1, 2))), -1)) == Field(3, 1, 0.0)


def test_branches_of_a_conditional_and_loops():
    def either(x):
        return lax.cond(x.mean() > 0, lambda v: v, lambda v: jnp.flip(v, 1), conv(x))

    def thrice(x):
        kernel = jnp.ones((3, 3, 3, 3))
        return lax.fori_loop(0, 3, lambda _, v: lax.conv_general_dilated(
            v, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")), x)  # fmt: skip

    def known(x):
        return lax.cond(False, lambda v: jnp.sort(v, 1), lambda v: 2 * v, conv(x))

    assert field(either).size == 32  # the mean over the map decides
    assert field(known) == Field(3, 1, 0.0)
    assert field(thrice) == Field(7, 1, 0.0)


def test_a_dropped_unit_is_seen_through():
    assert field(lambda x: conv(nn.Dropout(0.5, deterministic=False)(conv(x)))).size == 5


def test_summary_says_unknown_and_is_empty_without_a_map(cli, tmp_path):
    (tmp_path / "net.py").write_text(
        "import jax.numpy as jnp\nfrom flax import linen as nn\n\n"
        "class Sorted(nn.Module):\n    @nn.compact\n"
        "    def __call__(self, images, *, train):\n"
        "        x = nn.Conv(4, (3, 3))(jnp.sort(images, 1))\n"
        "        return nn.Dense(10)(x.mean((1, 2)))\n"
    )
    arguments = ("summary", f"{tmp_path / 'net.py'}:Sorted", "--input", "8", "8", "1")
    _, out, _ = cli(*arguments, "--json")
    found = json.loads(out)
    for part in (found, *found["layers"]):
        assert (part["receptive_field"], part["stride"], part["offset"]) == ("unknown", None, None)
    _, out, _ = cli(*arguments)
    assert out.rstrip().endswith("receptive field unknown")
    _, out, _ = cli("summary", "lenet5", "--json")
    assert json.loads(out)["layers"][-1]["receptive_field"] is None
