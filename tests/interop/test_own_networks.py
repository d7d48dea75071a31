"""Weights of a user's own network: PyTorch's net by these names has the same logits, or a refusal.

The nets of `own_nets` are random; those below each show one way to be wrong without a word.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

torch = pytest.importorskip("torch", reason="torch is not installed; it is an oracle of tests only")

from cnnjax import create_model  # noqa: E402
from cnnjax.core.errors import Refused  # noqa: E402
from cnnjax.interop.derive import derive  # noqa: E402
from cnnjax.interop.mapping import from_torch, to_torch  # noqa: E402
from cnnjax.interop.torch_names import family_arrays  # noqa: E402
from cnnjax.interop.variables import template  # noqa: E402
from cnnjax.layers.conv_norm import ConvTranspose  # noqa: E402
from tests.interop.own_nets import Ours, Theirs, random_rows  # noqa: E402

torch.set_num_threads(1)
SHAPES = [(8, 8, 3), (7, 5, 2), (6, 9, 1), (5, 5, 4), (1, 9, 3)]


class Net(nn.Module):
    """`body(x, train)`: a network in one line."""

    body: object

    @nn.compact
    def __call__(self, x, *, train):
        return self.body(x, train)


def at_random(module, shape, seed=0):
    """Every variable at random, running variances positive, so that nothing agrees by chance."""
    rng = np.random.default_rng(seed)
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    shapes = jax.eval_shape(lambda x: module.init(jax.random.key(0), x, train=False), images)

    def draw(path, leaf):
        values = rng.normal(size=leaf.shape) * (leaf.size / max(leaf.shape[-1:], default=1)) ** -0.5
        values = np.abs(values) + 0.5 if path[0].key == "batch_stats" else values
        return jnp.asarray(values, leaf.dtype)

    return jax.tree.map_with_path(draw, dict(shapes))


def logits_of(module, variables, images):
    return np.asarray(jax.jit(lambda v, x: module.apply(v, x, train=False))(variables, images))


def check_parity(module, theirs, shape, seed=0):
    """Export, load strictly, compare logits; import, compare bits."""
    variables = at_random(module, shape, seed)
    images = np.random.default_rng(seed).normal(size=(2, *shape)).astype(np.float32)
    state = to_torch(module, variables, shape)
    places = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        theirs.eval()(places)  # makes its modules
        counts = {name: torch.tensor(0) for name in theirs.state_dict() if "num_batches" in name}
        loaded = {name: torch.from_numpy(array) for name, array in state.items()}
        theirs.load_state_dict({**loaded, **counts}, strict=True)
        expected = theirs(places).numpy()
    found = logits_of(module, variables, images)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
    back = from_torch(module, shape, {k: v.numpy() for k, v in theirs.state_dict().items()})
    assert jax.tree.structure(back) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, back, variables)


def check_random(seed):
    shape = SHAPES[seed % len(SHAPES)]
    rows = random_rows(np.random.default_rng(seed), shape)
    check_parity(Ours(rows), Theirs(rows), shape, seed)


@pytest.mark.parametrize("block", range(8))
def test_random_networks_have_pytorchs_logits(block):
    for seed in range(5 * block, 5 * block + 5):
        check_random(seed)


@pytest.mark.long
@pytest.mark.parametrize("block", range(40))
def test_many_random_networks_have_pytorchs_logits(block):
    for seed in range(1000 + 10 * block, 1010 + 10 * block):
        check_random(seed)


class Lines(torch.nn.Module):
    """Named modules and one line."""

    def __init__(self, body, **modules):
        super().__init__()
        self.body = body
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x):
        return self.body(self, x)


def flat(x):
    return x.reshape(x.shape[0], -1)


def readme(x, train):
    x = nn.relu(nn.BatchNorm(use_running_average=not train)(nn.Conv(4, (3, 3))(x)))
    return nn.Dense(3)(inputs=flat(nn.max_pool(x, (2, 2), (2, 2))))


def test_the_readmes_pattern_loads_strictly_and_is_right():
    def body(net, x):
        x = torch.relu(net.BatchNorm_0(net.Conv_0(x)))
        return net.Dense_0(torch.flatten(torch.nn.functional.max_pool2d(x, 2), 1))

    theirs = Lines(
        body,
        Conv_0=torch.nn.Conv2d(3, 4, 3, padding=1),
        BatchNorm_0=torch.nn.BatchNorm2d(4),
        Dense_0=torch.nn.Linear(4 * 4 * 3, 3),
    )
    check_parity(Net(readme), theirs, (8, 6, 3))


@pytest.mark.parametrize("transpose_kernel", [False, True])
@pytest.mark.parametrize(("padding", "theirs"), [("VALID", (0, 0)), ("SAME", (1, 1))])
def test_transposed_convolution_is_turned_round(transpose_kernel, padding, theirs):
    """Three channels in and out: a kernel in the wrong order would load."""

    def ours(x, train):
        options = {"padding": padding, "transpose_kernel": transpose_kernel, "name": "up"}
        x = nn.ConvTranspose(3, (3, 3) if theirs[1] == 0 else (4, 4), (2, 2), **options)(x)
        return nn.Dense(3, name="head")(nn.relu(x).mean((1, 2)))

    size, pad = (3, 0) if theirs[1] == 0 else (4, 1)
    net = Lines(
        lambda net, x: net.head(torch.relu(net.up(x)).mean((2, 3))),
        up=torch.nn.ConvTranspose2d(3, 3, size, 2, pad),
        head=torch.nn.Linear(3, 3),
    )
    check_parity(Net(ours), net, (5, 4, 3))


def test_our_own_transposed_convolution_is_pytorchs():
    def ours(x, train):
        x = nn.relu(ConvTranspose(3, name="up")(x))
        return nn.Dense(3, name="head")(x[:, 1::2, 1::2].mean((1, 2)))  # one corner of each square

    net = Lines(
        lambda net, x: net.head(torch.relu(net.up(x))[:, :, 1::2, 1::2].mean((2, 3))),
        up=torch.nn.ConvTranspose2d(3, 3, 2, 2),
        head=torch.nn.Linear(3, 3),
    )
    check_parity(Net(ours), net, (5, 4, 3))


def test_rows_of_a_concatenation_are_permuted_part_by_part():
    def ours(x, train):
        maps = nn.Conv(2, (3, 3), name="conv")(x)
        both = jnp.concatenate([flat(maps), x.mean((1, 2)), flat(x)], -1)
        return nn.Dense(3, name="head")(nn.LayerNorm(epsilon=1e-5, name="norm")(both))

    def body(net, x):
        both = torch.cat([net.conv(x).flatten(1), x.mean((2, 3)), x.flatten(1)], 1)
        return net.head(net.norm(both))

    rows = 5 * 4 * 2 + 3 + 5 * 4 * 3
    theirs = Lines(
        body,
        conv=torch.nn.Conv2d(3, 2, 3, padding=1),
        norm=torch.nn.LayerNorm(rows),
        head=torch.nn.Linear(rows, 3),
    )
    check_parity(Net(ours), theirs, (5, 4, 3))


class Scaled(nn.Module):
    """One factor a channel, and a norm of the user's own: arrays that PyTorch has no layer for."""

    @nn.compact
    def __call__(self, x):
        return x * self.param("gamma", nn.initializers.ones, (x.shape[-1],))[None, None, None]


class TokenNet(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        x = Scaled(name="scaled")(nn.Conv(4, (2, 2), (2, 2), padding="VALID", name="patches.0")(x))
        x = x.reshape(x.shape[0], -1, 4)
        x = x + nn.Embed(x.shape[1], 4, name="places")(jnp.arange(x.shape[1]))[None]
        q, k = nn.Dense(4, name="query")(x), nn.Dense(4, name="key")(x)
        q, k = (a.reshape(*a.shape[:2], 2, 2) for a in (q, k))
        weights = nn.softmax(jnp.einsum("nqhd,nkhd->nhqk", q, k))
        x = jnp.einsum("nhqk,nkhd->nqhd", weights, k).reshape(x.shape)
        return nn.remat(nn.Dense)(3, name="head")(x.mean(1))


def test_tokens_attention_and_arrays_of_ones_own():
    def body(net, x):
        x = net.patches(x) * net.scaled.gamma[:, None, None]
        x = x.flatten(2).transpose(1, 2) + net.places.weight
        q, k = (layer(x).unflatten(2, (2, 2)) for layer in (net.query, net.key))
        weights = torch.einsum("nqhd,nkhd->nhqk", q, k).softmax(-1)
        return net.head(torch.einsum("nhqk,nkhd->nqhd", weights, k).flatten(2).mean(1))

    scaled = torch.nn.Module()
    scaled.gamma = torch.nn.Parameter(torch.ones(4))
    theirs = Lines(
        body,
        patches=torch.nn.Sequential(torch.nn.Conv2d(3, 4, 2, 2)),
        scaled=scaled,
        places=torch.nn.Embedding(6, 4),
        **{name: torch.nn.Linear(4, 4) for name in ("query", "key")},
        head=torch.nn.Linear(4, 3),
    )
    check_parity(TokenNet(), theirs, (6, 4, 3))
    said = []
    to_torch(TokenNet(), at_random(TokenNet(), (6, 4, 3)), (6, 4, 3), said.append)
    assert said == ["arrays that no layer of PyTorch has, under their own names: scaled.gamma"]


class OwnKernel(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x @ self.param("kernel", nn.initializers.ones, (x.shape[-1], 4))


class Standardized(nn.Conv):
    def param(self, name, *rest, **options):
        value = super().param(name, *rest, **options)
        return value - value.mean() if name == "kernel" else value


class TwoWeights(nn.Module):
    @nn.compact
    def __call__(self, x):
        own = self.param("weight", nn.initializers.ones, (x.shape[-1],))
        return nn.share_scope(self, dense := nn.Dense(4)) or dense(x * own[None])


class Scanned(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return nn.Dense(x.shape[-1], name="dense")(x), None


def scan(x, train):
    run = nn.scan(Scanned, variable_axes={"params": 0}, split_rngs={"params": True}, length=2)
    return nn.Dense(3)(run(name="blocks")(x.mean((1, 2)), None)[0])


def vmapped(x, train):
    conv = nn.vmap(nn.Conv, variable_axes={"params": 0}, split_rngs={"params": True})
    return nn.Dense(3)(flat(conv(4, (3, 3), name="two")(jnp.stack([x, x]))[0]))


def shared(x, train):
    dense = nn.Dense(3, name="shared")
    return dense(flat(x)) + dense(flat(x.transpose(0, 3, 1, 2)))


def stat(x, train):
    return nn.BatchNorm(use_running_average=False, name="norm")(nn.Conv(3, (3, 3))(x)).mean((1, 2))


REFUSED = {
    # what no torch layer has
    "local": (lambda x, t: nn.Dense(3)(flat(nn.ConvLocal(2, (3, 3), name="here")(x))), "here"),
    "4 places": (lambda x, t: flat(nn.Conv(3, (1,) * 4, name="here")(x[..., None, None])), "here"),
    "spread input": (
        lambda x, t: nn.Conv(3, (3, 3), input_dilation=2, padding=1, name="here")(x).mean((1, 2)),
        "here",
    ),
    "masked": (
        lambda x, t: nn.Conv(3, (1, 1), mask=jnp.ones((1, 1, 3, 3)), name="here")(x).mean((1, 2)),
        "here",
    ),
    "wrapped round": (
        lambda x, t: nn.ConvTranspose(3, (3, 3), padding="CIRCULAR", name="here")(x).mean((1, 2)),
        "here",
    ),
    "several axes": (
        lambda x, t: nn.DenseGeneral(3, axis=(-3, -2, -1), name="here")(x), "here",
    ),
    "einsum": (lambda x, t: nn.Einsum((3, 3), "nc,cd->nd", name="here")(x.mean((1, 2))), "here"),
    "attention": (
        lambda x, t: nn.MultiHeadDotProductAttention(1, qkv_features=3, name="here")(
            x.reshape(x.shape[0], -1, 3)
        ).mean(1),
        "here/query",
    ),
    "prelu": (lambda x, t: nn.PReLU(name="here")(x).mean((1, 2)), "here"),
    "weight norm": (lambda x, t: nn.WeightNorm(nn.Dense(3), name="here")(flat(x)), "here"),
    "norm over the map": (
        lambda x, t: nn.LayerNorm(reduction_axes=(1, 2, 3), feature_axes=(1, 2, 3), name="here")(
            x
        ).mean((1, 2)),
        "here",
    ),
    "scale alone": (
        lambda x, t: nn.BatchNorm(use_running_average=True, use_bias=False, name="here")(x).mean(
            (1, 2)
        ),
        "here",
    ),
    "batch's statistics": (stat, "norm"),
    "own kernel": (lambda x, t: nn.Dense(3)(OwnKernel(name="here")(x.mean((1, 2)))), "here"),
    "changed kernel": (lambda x, t: Standardized(3, (3, 3), name="here")(x).mean((1, 2)), "here"),
    "scan": (scan, "blocks/dense"),
    "vmap": (vmapped, "two"),
    "two orders": (shared, "shared"),
    "one name twice": (lambda x, t: TwoWeights(name="here")(x.mean((1, 2)))[:, :3], "here"),
    # a map in another order
    "width first": (lambda x, t: nn.Dense(3, name="here")(flat(x.transpose(0, 2, 1, 3))), "here"),
    "rows": (lambda x, t: nn.Dense(3, name="here")(x.reshape(*x.shape[:2], -1)).mean(1), "here"),
    "batch": (
        lambda x, t: nn.Dense(3, name="here")(x.reshape(-1, x.shape[2] * 3)).reshape(
            x.shape[0], -1, 3
        ).mean(1),
        "here",
    ),
    "tokens": (
        lambda x, t: nn.Dense(3, name="here")(flat(nn.Dense(2)(x).reshape(x.shape[0], -1, 2))),
        "here",
    ),
    "space to depth": (
        lambda x, t: nn.Conv(3, (1, 1), name="here")(
            x.reshape(-1, 2, 2, 2, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(-1, 2, 2, 12)
        ).mean((1, 2)),
        "here",
    ),
    "outputs as a map": (
        lambda x, t: nn.Conv(3, (3, 3), name="here")(
            nn.Dense(32)(flat(x)).reshape(-1, 4, 4, 2)
        ).mean((1, 2)),
        "here",
    ),
    "groups of a flat map": (
        lambda x, t: nn.Dense(3)(nn.GroupNorm(2, name="here")(flat(x))), "here",
    ),
    "part of a flat map": (lambda x, t: nn.Dense(3, name="here")(flat(x)[:, :20]), "here"),
    "outputs meet a flat map": (
        lambda x, t: nn.Dense(3, name="last")(flat(x) * nn.Dense(48, name="here")(flat(x))),
        "last",
    ),
    "in the logits": (
        lambda x, t: (flat(x) * nn.Dense(48, name="here")(flat(x))).reshape(-1, 3, 16).sum(-1),
        "here",
    ),
    "stacked": (
        lambda x, t: nn.Dense(3, name="here")(flat(jnp.stack([x.mean(1), x.max(1)], 1))), "here",
    ),
    "1-D beside rows": (
        lambda x, t: nn.Dense(3, name="here")(flat(nn.Conv(2, (3,), name="line")(x))), "here",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_be_read_in_two_ways_is_refused_by_name(case):
    body, layer = REFUSED[case]
    module, shape = Net(body), (4, 4, 3)
    variables = at_random(module, shape)
    with pytest.raises(Refused, match=rf"\b{layer}\b"):
        to_torch(module, variables, shape)
    with pytest.raises(Refused, match=rf"\b{layer}\b"):
        from_torch(module, shape, {})


@pytest.mark.parametrize("name", ["vgg11", "vgg19_bn", "alexnet", "googlenet_aux",
                                  "googlenet_torchvision", "resnet18", "cifar_preresnet20",
                                  "lenet5", "lenet5_modern"])  # fmt: skip
def test_the_table_of_families_agrees_with_the_computation(name):
    model = create_model(name)
    shape = {"alexnet": (227, 227, 3), "lenet5": (32, 32, 1), "lenet5_modern": (32, 32, 1)}
    shape = shape.get(name, (224, 224, 3) if "aux" in name else (64, 96, 3))
    wanted = template(model, shape)
    table = family_arrays(model, {path: leaf.shape for path, leaf in wanted.items()})
    derived = derive(model, wanted, shape).arrays
    assert {path: array.layout for path, array in table.items()} == {
        path: array.layout for path, array in derived.items()
    }


def test_an_adaptive_pooling_written_out_is_refused_where_the_table_knows_it():
    model = create_model("alexnet_torchvision")
    with pytest.raises(Refused, match="dense6"):
        derive(model, template(model, (224, 224, 3)), (224, 224, 3))


def test_what_a_state_dict_does_not_hold_is_said():
    def ours(x, train):
        x = nn.Conv(3, (3, 3), (2, 2), name="halve")(x)
        x = nn.ConvTranspose(3, (3, 3), (2, 2), padding=((1, 2), (1, 2)), name="double")(x)
        x = nn.BatchNorm(use_running_average=not train, epsilon=1e-3, name="batch")(x)
        return nn.LayerNorm(name="layer")(x).mean((1, 2))

    said = []
    to_torch(Net(ours), at_random(Net(ours), (8, 8, 3)), (8, 8, 3), said.append)
    assert said == [
        "PyTorch's padding=N is the same before and after: pad by hand there, or logits differ:"
        " halve pads [(0, 1), (0, 1)]",
        "padding is not in a state dict: double is PyTorch's padding=(1, 1), output_padding=(1, 1)",
        "epsilon is not in a state dict, and PyTorch's default is 1e-05: batch has 0.001,"
        " layer has 1e-06",
    ]


def test_bfloat16_goes_out_in_float32_and_comes_back():
    module = Net(lambda x, t: nn.Dense(3, param_dtype=jnp.bfloat16)(flat(x)))
    variables = at_random(module, (4, 3, 2))
    state = to_torch(module, variables, (4, 3, 2))
    assert {array.dtype for array in state.values()} == {np.dtype("float32")}
    back = from_torch(module, (4, 3, 2), state)
    assert back["params"]["Dense_0"]["kernel"].dtype == jnp.bfloat16
    jax.tree.map(np.testing.assert_array_equal, back, variables)


def test_running_variance_is_the_biased_estimate():
    """README says by how much it differs from PyTorch's."""
    values = np.asarray([0.0, 1.0, 2.0, 2.0], np.float32)[:, None]
    norm = nn.BatchNorm(use_running_average=False, momentum=0.9)
    _, changed = norm.init_with_output(jax.random.key(0), values)
    _, changed = norm.apply(changed, values, mutable=["batch_stats"])
    theirs = torch.nn.BatchNorm1d(1)
    theirs(torch.from_numpy(values))
    ours = float(changed["batch_stats"]["var"][0])
    assert ours == pytest.approx(0.9 + 0.1 * values.var()) == pytest.approx(0.969, abs=5e-4)
    unbiased = 0.9 + 0.1 * values.var() * 4 / 3
    assert float(theirs.running_var) == pytest.approx(unbiased) == pytest.approx(0.992, abs=5e-4)
