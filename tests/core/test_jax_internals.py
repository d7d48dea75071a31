"""Each thing that is read of jax and flax: a new release that changes one breaks here."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax
from jax.extend.core import Primitive, primitives

from cnnjax.analysis import constants, receptive_field
from cnnjax.core.errors import Failed
from cnnjax.core.jax_internals import (
    PARAMETERS,
    Body,
    DependsOnInput,
    Opaque,
    all_but_params,
    apply_initializing,
    bytes_of,
    is_literal,
    literal,
    same_computation,
    shape_of,
    use_compilation_cache,
    without_input,
)
from cnnjax.interop import axis_kinds

pytestmark = pytest.mark.core  # also on every other Python: make test-core

IMAGES = jnp.arange(2.0 * 4 * 6 * 3).reshape(2, 4, 6, 3)
KERNEL = jnp.ones((2, 3, 3, 4))
ROWS = jnp.asarray([[1], [0]])


def equations(body):
    """Of a computation and of all that it runs."""
    for equation in body.equations:
        yield equation
        for inner in equation.held:
            yield from equations(inner)


def traced(function, *arguments):
    return Body(jax.make_jaxpr(function)(*arguments))


def find(name, function, *arguments):
    return next(e for e in equations(traced(function, *arguments)) if e.name == name)


def fused(a, b):
    """No primitive has a name for it."""
    return a * b + a


def scattered(lax_scatter):
    numbers = lax.ScatterDimensionNumbers((1, 2, 3), (0,), (0,))
    mode = lax.GatherScatterMode.CLIP
    expected = {"dimension_numbers": numbers, "mode": mode}
    return lambda x: lax_scatter(x, ROWS, x + 1, numbers, mode=mode), expected


def windowed(value, operator):
    expected = {
        "window_dimensions": (1, 2, 3, 1),
        "window_strides": (1, 1, 2, 1),
        "padding": ((0, 0), (1, 0), (0, 2), (0, 0)),
        "window_dilation": (1, 2, 1, 1),
        "base_dilation": (1, 1, 3, 1),
    }
    names = ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")
    return lambda x: lax.reduce_window(x, value, operator, *(expected[n] for n in names)), expected


CONVOLUTION = {
    "window_strides": (2, 1),
    "padding": ((1, 0), (0, 2)),
    "lhs_dilation": (1, 2),
    "rhs_dilation": (2, 1),
    "dimension_numbers": lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)),
    "feature_group_count": 1,
    "batch_group_count": 1,
}
GATHER = {
    "dimension_numbers": lax.GatherDimensionNumbers((1, 2, 3), (0,), (0,)),
    "slice_sizes": (1, 4, 6, 3),
    "mode": lax.GatherScatterMode.CLIP,
}
PADDING = ((0, 0, 0), (1, 2, 0), (-1, 0, 3), (0, 0, 0))


def convolve(x):
    named = {key: value for key, value in CONVOLUTION.items() if key != "dimension_numbers"}
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, KERNEL, dimension_numbers=layout, **named)


EXAMPLES = {
    "argmax": (lambda x: lax.argmax(x, 2, jnp.int32), {"axes": (2,)}),
    "argmin": (lambda x: lax.argmin(x, 2, jnp.int32), {"axes": (2,)}),
    "broadcast_in_dim": (
        lambda x: lax.broadcast_in_dim(x, (2, 5, 4, 6, 3), (0, 2, 3, 4)),
        {"shape": (2, 5, 4, 6, 3), "broadcast_dimensions": (0, 2, 3, 4)},
    ),
    "concatenate": (lambda x: lax.concatenate([x, x], 2), {"dimension": 2}),
    "conv_general_dilated": (convolve, CONVOLUTION),
    "convert_element_type": (lambda x: x.astype(jnp.int8), {"new_dtype": jnp.dtype("int8")}),
    "cumlogsumexp": (lambda x: lax.cumlogsumexp(x, 2), {"axis": 2, "reverse": False}),
    "cummax": (lambda x: lax.cummax(x, 2), {"axis": 2, "reverse": False}),
    "cummin": (lambda x: lax.cummin(x, 2), {"axis": 2, "reverse": False}),
    "cumprod": (lambda x: lax.cumprod(x, 2), {"axis": 2, "reverse": False}),
    "cumsum": (lambda x: lax.cumsum(x, 2, reverse=True), {"axis": 2, "reverse": True}),
    "dot_general": (
        lambda x: lax.dot_general(x, x, (((3,), (3,)), ((0, 1), (0, 1)))),
        {"dimension_numbers": (((3,), (3,)), ((0, 1), (0, 1)))},
    ),
    "gather": (
        lambda x: lax.gather(
            x, ROWS, GATHER["dimension_numbers"], GATHER["slice_sizes"], mode=GATHER["mode"]
        ),
        GATHER,
    ),
    "iota": (
        lambda x: x + lax.broadcasted_iota(jnp.float32, x.shape, 2),
        {"shape": (2, 4, 6, 3), "dimension": 2, "dtype": jnp.dtype("float32")},
    ),
    "pad": (lambda x: lax.pad(x, 0.0, PADDING), {"padding_config": PADDING}),
    "reduce": (lambda x: lax.reduce(x, 0.0, fused, (1, 2)), {"dimensions": (1, 2)}),
    "reduce_and": (lambda x: lax.reduce_and(x > 1, (1, 2)), {"axes": (1, 2)}),
    "reduce_max": (lambda x: x.max((1, 2)), {"axes": (1, 2)}),
    "reduce_min": (lambda x: x.min((1, 2)), {"axes": (1, 2)}),
    "reduce_or": (lambda x: lax.reduce_or(x > 1, (1, 2)), {"axes": (1, 2)}),
    "reduce_prod": (lambda x: x.prod((1, 2)), {"axes": (1, 2)}),
    "reduce_sum": (lambda x: x.sum((1, 2)), {"axes": (1, 2)}),
    "reduce_xor": (lambda x: lax.reduce_xor(x.astype(jnp.int32), (1, 2)), {"axes": (1, 2)}),
    "reduce_window": windowed(0.0, fused),
    "reduce_window_max": windowed(-jnp.inf, lax.max),
    "reduce_window_min": windowed(jnp.inf, lax.min),
    "reduce_window_sum": windowed(0.0, lax.add),
    "reshape": (lambda x: x.reshape(2, 24, 3), {"new_sizes": (2, 24, 3)}),
    "rev": (lambda x: lax.rev(x, (1, 2)), {"dimensions": (1, 2)}),
    "scatter": scattered(lax.scatter),
    "scatter-add": scattered(lax.scatter_add),
    "scatter-max": scattered(lax.scatter_max),
    "scatter-min": scattered(lax.scatter_min),
    "scatter-mul": scattered(lax.scatter_mul),
    "scatter-sub": scattered(lax.scatter_sub),
    "slice": (
        lambda x: lax.slice(x, (0, 1, 1, 0), (2, 4, 6, 3), (1, 1, 2, 1)),
        {"start_indices": (0, 1, 1, 0), "strides": (1, 1, 2, 1)},
    ),
    "sort": (lambda x: lax.sort(x, dimension=2), {"dimension": 2}),
    "split": (lambda x: lax.split(x, (2, 4), 2), {"sizes": (2, 4), "axis": 2}),
    "squeeze": (lambda x: lax.squeeze(x[:, :1], (1,)), {"dimensions": (1,)}),
    "stack": (lambda x: jnp.stack([x, x], 1), {"axis": 1}),
    "tile": (lambda x: jnp.tile(x, (1, 2, 1, 3)), {"reps": (1, 2, 1, 3)}),
    "transpose": (lambda x: x.transpose(0, 3, 1, 2), {"permutation": (0, 3, 1, 2)}),
    "unstack": (lambda x: jnp.unstack(x, axis=1), {"axis": 1}),
}


def test_each_parameter_that_is_read_has_an_example():
    runs = {"cond", "while"}  # below
    assert set(EXAMPLES) | runs == set(PARAMETERS)
    for name, (_, expected) in EXAMPLES.items():
        assert set(expected) == set(PARAMETERS[name])


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_parameters_of_primitives(name):
    function, expected = EXAMPLES[name]
    equation = find(name, function, IMAGES)
    for parameter, value in expected.items():
        found = equation[parameter]
        assert (tuple(found) if isinstance(found, list) else found) == value


def test_the_specifications_of_a_convolution_are_its_axes():
    numbers = find("conv_general_dilated", convolve, IMAGES)["dimension_numbers"]
    assert (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec) == (
        (0, 3, 1, 2),
        (3, 2, 0, 1),
        (0, 3, 1, 2),
    )


def test_a_parameter_that_is_gone_is_said(monkeypatch):
    equation = find("tile", EXAMPLES["tile"][0], IMAGES)
    with pytest.raises(KeyError, match="not in PARAMETERS"):
        equation["axis"]
    monkeypatch.setitem(PARAMETERS, "tile", ("copies",))
    with pytest.raises(Failed, match=r"has no 'copies' in tile; cnnjax reads jax 0\.10 to 0\.12"):
        equation["copies"]


def test_primitives_that_have_a_rule_are_jaxs():
    """A name that jax has changed would have no rule, and nobody would notice."""
    known = {one.name for one in vars(primitives).values() if isinstance(one, Primitive)}
    known |= {name for name, (run, _) in EXAMPLES.items() if find(name, run, IMAGES)}
    others = {
        "mulhi": lambda x: lax.mulhi(x.astype(jnp.int32), x.astype(jnp.int32)),
        "optimization_barrier": lax.optimization_barrier,
    }
    known |= {name for name, run in others.items() if find(name, run, IMAGES)}
    tables = (
        *(receptive_field._RULES, receptive_field._ELEMENTWISE),
        *(axis_kinds._RULES, axis_kinds._ELEMENTWISE, constants._IN_NUMPY),
    )
    assert set().union(*tables) - known == set()


def test_atoms():
    body = traced(lambda x: x.astype(jnp.int8) + jnp.int8(3), IMAGES)
    add = body.equations[-1]
    assert [is_literal(atom) for atom in add.inputs] == [False, True]
    assert literal(add.inputs[1]) == 3
    assert (shape_of(add.inputs[0]), shape_of(add.inputs[1])) == ((2, 4, 6, 3), ())
    assert [bytes_of(atom) for atom in (*body.inputs, *body.outputs)] == [576, 144]
    assert body.outputs == add.outputs


def test_constants_of_a_computation():
    table = np.arange(5.0)
    body = traced(lambda i: jnp.asarray(table)[i] * jnp.sin(jnp.asarray(table)).sum(), 1)
    found = [array for equation in equations(body) for array in equation.inputs]
    arrays = [array for _, array in body.constants]
    assert arrays
    assert all(np.array_equal(array, table) for array in arrays)
    assert {atom for atom, _ in body.constants} & {a for a in found if not is_literal(a)}


@pytest.mark.parametrize("reverse", [False, True])
def test_scan(reverse):
    weights = jnp.ones(3)

    def run(x, weights):
        def step(carry, row):
            a, b = carry
            return (a * weights, b + row.sum()), (row * 2, a)

        return lax.scan(step, (jnp.ones(3), 0.0), x, reverse=reverse)

    equation = find("scan", run, jnp.ones((7, 5)), weights)
    scan = equation.scan
    assert list(scan.order) == (list(range(7))[::-1] if reverse else list(range(7)))
    assert (scan.kept, scan.carried) == (1, 2)
    assert [shape_of(atom) for atom in scan.body.inputs] == [(3,), (3,), (), (5,)]
    assert [shape_of(atom) for atom in equation.inputs] == [(3,), (3,), (), (7, 5)]
    assert [shape_of(atom) for atom in equation.outputs] == [(3,), (), (7, 5), (7, 3)]
    assert [len(body.equations) for body in equation.bodies] == [len(scan.body.equations)]


def test_while():
    def run(x, limit, step):
        return lax.while_loop(
            lambda c: c[0].sum() < limit.sum(), lambda c: (c[0] + step, c[1] + 1), x
        )

    limit, steps = jnp.ones((3, 2)), jnp.ones(4)
    equation = find("while", run, (jnp.zeros(4), 0), limit, steps)
    loop = equation.loop
    assert (loop.condition_consts, loop.body_consts) == (1, 1)
    assert [shape_of(atom) for atom in loop.condition.inputs] == [(3, 2), (4,), ()]
    assert [shape_of(atom) for atom in loop.body.inputs] == [(4,), (4,), ()]
    assert [shape_of(atom) for atom in equation.inputs] == [(3, 2), (4,), (4,), ()]
    assert len(equation.bodies) == 1


def test_cond():
    branches = [lambda x: x, lambda x: x * 2, lambda x: jnp.sin(x * 2)]
    equation = find("cond", lambda i, x: lax.switch(i, branches, x), 1, IMAGES)
    assert [len(body.equations) for body in equation.branches] == [0, 1, 2]
    assert [shape_of(atom) for atom in equation.inputs] == [(), IMAGES.shape]
    assert [len(body.equations) for body in equation.bodies] == [0, 1, 2]


@jax.custom_jvp
def _custom(x):
    return x * 2


_custom.defjvp(lambda x, t: (_custom(*x), t[0] * 2))


@jax.custom_vjp
def _backward(x):
    return x * 2


_backward.defvjp(lambda x: (x * 2, None), lambda _, g: (g * 2,))


@pytest.mark.parametrize("call", [jax.jit, jax.checkpoint, lambda f: _custom, lambda f: _backward])
def test_calls(call):
    (equation,) = traced(call(lambda x: x * 2), IMAGES).equations
    assert equation.called is not None
    assert [inner.name for inner in equation.called.equations] == ["mul"]
    assert [len(body.equations) for body in equation.bodies] == [1]


def test_the_operator_of_a_reduction_is_no_call():
    equation = find("reduce", EXAMPLES["reduce"][0], IMAGES)
    assert equation.called is None
    assert equation.bodies == []
    assert [len(body.equations) for body in equation.held] == [2]


@pytest.mark.parametrize(
    ("name", "function"),
    [("random_bits", lambda x: jax.random.bits(jax.random.key(0))),
     ("debug_print", lambda x: jax.debug.print("{}", x))],
)  # fmt: skip
def test_what_draws_or_acts(name, function):
    found = list(equations(traced(function, IMAGES)))
    assert any(equation.random_or_effect for equation in found)
    assert not any(e.random_or_effect for e in equations(traced(jnp.sin, IMAGES)))


@pytest.mark.parametrize("name", ["split", "cumsum", "scatter-add", "reduce_window", "pad"])
def test_an_equation_is_evaluated(name):
    function, _ = EXAMPLES[name]
    equation = find(name, function, IMAGES)
    given = {"pad": [0.0], "reduce_window": [0.0], "scatter-add": [ROWS, IMAGES + 1]}
    expected = jax.tree.leaves(function(IMAGES))
    found = equation.evaluate([IMAGES, *given.get(name, [])])
    assert len(found) == len(equation.outputs) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


class Inner(nn.Module):
    @nn.compact
    def __call__(self, x):
        return self.twice(nn.Dense(3, name="dense")(x))

    def twice(self, x):
        return x * 2


class Outer(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        x = Inner(name="inner")(x)
        if self.is_initializing():
            x = nn.Dense(2, name="auxiliary")(x)
        return nn.Sequential([jnp.cos])(x)


def test_the_modules_of_an_equation():
    model, x = Outer(), jnp.ones((2, 3))
    variables = model.init(jax.random.key(0), x, train=False)
    body = traced(lambda v, x: model.apply(v, x, train=False), variables, x)
    found = {equation.name: equation.modules for equation in equations(body)}
    assert found["dot_general"] == ["Outer", "inner", "dense"]
    assert found["mul"] == ["Outer", "inner"]  # in a method of it
    assert found["cos"] == ["Outer", "Sequential_0"]


def test_a_network_runs_as_when_it_is_initialised():
    model, x = Outer(), jnp.ones((2, 3))
    variables = model.init(jax.random.key(0), x, train=False)
    keys = {"params": jax.random.key(1)}
    assert model.apply(variables, x, train=False).shape == (2, 3)
    out = apply_initializing(model, variables, x, keys)
    assert out.shape == (2, 2)
    hidden = 2 * (x @ variables["params"]["inner"]["dense"]["kernel"])
    expected = jnp.cos(hidden @ variables["params"]["auxiliary"]["kernel"])
    np.testing.assert_allclose(out, expected, rtol=1e-6)


def test_an_opaque_equation():
    opaque = Opaque("whole", lambda about: ValueError(f"{about} is mapped"))
    output = jax.ShapeDtypeStruct((5,), jnp.int8)
    run = lambda x: opaque(x, x + 1, about="layer one", output=output)  # noqa: E731
    equation = find("whole", run, IMAGES)
    assert equation.about == "layer one"
    assert [shape_of(atom) for atom in equation.inputs] == [IMAGES.shape] * 2
    assert [(atom.aval.shape, atom.aval.dtype) for atom in equation.outputs] == [((5,), jnp.int8)]
    with pytest.raises(ValueError, match="layer one is mapped"):
        jax.make_jaxpr(jax.vmap(run))(IMAGES)


def test_equal_computations():
    def make(factor, table):
        def run(x):
            return jax.pure_callback(lambda x: x, x, x * factor) + jnp.asarray(table)

        return jax.make_jaxpr(run)(IMAGES)

    ones, twos = (np.full(IMAGES.shape, value, np.float32) for value in (1, 2))
    assert " at 0x" in str(make(2, ones).jaxpr)  # an address, another each time
    assert same_computation(make(2, ones), make(2, ones))
    assert not same_computation(make(2, ones), make(3, ones))
    assert not same_computation(make(2, ones), make(2, twos))

    def noise(seed):
        key = jax.random.key(seed)
        return jax.make_jaxpr(lambda x: x + jax.random.normal(key))(1.0)

    assert same_computation(noise(0), noise(0))
    assert not same_computation(noise(0), noise(1))


class Remembering:
    def __init__(self):
        self.programs, self.asked = {}, []

    def get(self, key):
        self.asked.append(key)
        return self.programs.get(key)

    def put(self, key, program):
        self.programs[key] = program


def test_jax_asks_the_cache_that_it_was_given(tmp_path):
    names = (
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
    )
    saved = {name: getattr(jax.config, name) for name in names}

    def compiled(factor):
        return jax.jit(lambda x: x * factor)(IMAGES)

    try:
        jax.config.update(names[1], 0.0)
        jax.config.update(names[2], -1)
        cache = Remembering()
        use_compilation_cache(tmp_path, cache)
        first = compiled(1.5)
        kept = dict(cache.programs)
        assert len(kept) == 1
        assert cache.asked == list(kept)
        assert isinstance(kept[cache.asked[0]], bytes)
        np.testing.assert_array_equal(compiled(1.5), first)
        assert (cache.programs, len(cache.asked)) == (kept, 2)
        use_compilation_cache(None)
        compiled(2.5)
        assert (cache.programs, len(cache.asked)) == (kept, 2)
    finally:
        for name, value in saved.items():
            jax.config.update(name, value)
        use_compilation_cache(None)


@pytest.mark.parametrize("mutable", [["params", "state"], True])
def test_of_what_may_change_the_parameters_are_left_out(mutable):
    class Counter(nn.Module):
        @nn.compact
        def __call__(self, x):
            count = self.variable("state", "count", lambda: jnp.zeros(()))
            count.value += 1
            return x + self.param("bias", nn.initializers.zeros, ())

    variables = Counter().init(jax.random.key(0), 0.0)
    kept = all_but_params(mutable)
    _, changed = Counter().apply(variables, 0.0, mutable=kept)
    assert set(changed) == {"state"}


def test_what_depends_on_shapes_alone_is_computed_without_the_input():
    ran = []

    def look(x):
        ran.append(x)
        return x

    def init(key, image):
        kernel = jax.random.normal(key, image.shape[-1:])
        jax.pure_callback(look, jax.ShapeDtypeStruct(image.shape, image.dtype), image)
        jax.debug.callback(look, image)
        jax.jit(lambda x: jax.debug.print("{}", x))(image)
        return {"params": {"kernel": kernel}, "stats": {"mean": jnp.zeros(3)}}

    image = jax.ShapeDtypeStruct((1, 2, 2, 3), jnp.float32)
    found = without_input(init, jax.random.key(0), image)
    np.testing.assert_array_equal(
        found["params"]["kernel"], jax.random.normal(jax.random.key(0), (3,))
    )
    assert not ran
    shapes = jax.eval_shape(lambda key: without_input(init, key, image), jax.random.key(0))
    assert shapes["stats"]["mean"].shape == (3,)
    with pytest.raises(DependsOnInput, match=r"^stats$"):
        without_input(lambda key, x: {**init(key, x), "stats": x.mean()}, jax.random.key(0), image)
