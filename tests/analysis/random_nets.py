"""Random computations over images [n, h, w, c] out of everything that moves or mixes pixels.

Each operation is made for a shape by a generator. Weights are arguments of the computation, as
parameters are; indices, masks and fixed matrices are constants in it. What an output depends on is
found by changing pixels, and nothing may hide a change: a net either takes any pixel that is nan,
and has no products with constants that are zero in part (nan times zero is nan), or any finite
pixel, and has no maximum and no minimum.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

NHWC = ("NHWC", "HWIO", "NHWC")
Step = Callable[[Any, list], Any]


@dataclass(eq=False)
class Net:
    """A computation of images and weights."""

    steps: list[Step] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    weights: list[np.ndarray] = field(default_factory=list)
    finite: bool = False

    def __call__(self, x: Any, weights: list) -> Any:
        for step in self.steps:
            x = step(x, weights)
        return x


class Maker:
    """Draws an operation's settings; `weight` adds a parameter to the net."""

    def __init__(self, rng: np.random.Generator, net: Net) -> None:
        self.rng, self.net = rng, net

    def weight(self, *shape: int) -> int:
        fan_in = max(1, int(np.prod(shape[:-1])))
        self.net.weights.append(self.rng.uniform(0.5, 1.5, shape).astype(np.float32) / fan_in)
        return len(self.net.weights) - 1

    def pick(self, *options: Any) -> Any:
        return options[self.rng.integers(len(options))]

    def between(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def axis(self) -> int:
        return self.between(1, 2)


def _window(m: Maker, shape: tuple) -> tuple:
    """Kernel, padding, strides, dilation along h and w that fit."""
    kernel, padding, strides, dilation = [], [], [], []
    for size in shape[1:3]:
        dilation.append(m.between(1, 2))
        padding.append((m.between(0, 2), m.between(0, 2)))
        most = (size + sum(padding[-1]) - 1) // dilation[-1] + 1
        kernel.append(m.between(1, min(3, most)))
        strides.append(m.between(1, 2))
    return kernel, padding, strides, dilation


def convolution(m: Maker, shape: tuple) -> Step:
    kernel, padding, strides, dilation = _window(m, shape)
    groups = m.pick(1, 1, shape[3])
    out = shape[3] * m.pick(1, 2) if groups > 1 else m.between(1, 4)
    w = m.weight(*kernel, shape[3] // groups, out)
    return lambda x, ws: lax.conv_general_dilated(
        x, ws[w], strides, padding, rhs_dilation=dilation, dimension_numbers=NHWC,
        feature_group_count=groups)  # fmt: skip


def transposed(m: Maker, shape: tuple) -> Step:
    size, spread = m.between(1, 3), m.between(2, 3)
    w = m.weight(size, size, shape[3], 2)
    padding = m.pick("SAME", "VALID")
    return lambda x, ws: lax.conv_transpose(
        x, ws[w], (spread, spread), padding, dimension_numbers=NHWC
    )


def pooling(m: Maker, shape: tuple) -> Step:
    kernel, padding, strides, dilation = _window(m, shape)
    base = m.pick((1, 1), (1, 1), (2, 1))
    start, op = m.pick((-jnp.inf, lax.max), (0.0, lax.add), (jnp.inf, lax.min))
    if m.net.finite:
        start, op = 0.0, lax.add
    return lambda x, ws: jnp.nan_to_num(lax.reduce_window(
        x, start, op, (1, *kernel, 1), (1, *strides, 1), ((0, 0), *padding, (0, 0)),
        (1, *base, 1), (1, *dilation, 1)), nan=jnp.nan, posinf=1.0, neginf=1.0)  # fmt: skip


def slicing(m: Maker, shape: tuple) -> Step:
    axis = m.axis()
    start, step = m.between(0, (shape[axis] - 1) // 2), m.between(1, 2)
    stop = m.between(start + 1, shape[axis])
    return lambda x, ws: x[(slice(None),) * axis + (slice(start, stop, step),)]


def reversal(m: Maker, shape: tuple) -> Step:
    axis = m.axis()
    return lambda x, ws: jnp.flip(x, axis)


def padding(m: Maker, shape: tuple) -> Step:
    axis, interior = m.axis(), m.pick(0, 0, 1)
    low, high = m.between(-1, 3), m.between(-1, 3)
    if shape[axis] + min(low, 0) + min(high, 0) < 1:
        low = high = 0
    config = [(0, 0, 0)] * 4
    config[axis] = (low, high, interior)
    return lambda x, ws: lax.pad(x, jnp.float32(0), config)


def border(m: Maker, shape: tuple) -> Step:
    mode = m.pick("edge", "reflect", "wrap", "symmetric", "mean")
    most = min(2, min(shape[1:3]) - 1)
    amounts = ((0, 0), (m.between(0, most), most), (most, m.between(0, most)), (0, 0))
    return lambda x, ws: jnp.pad(x, amounts, mode=mode)


def roll(m: Maker, shape: tuple) -> Step:
    axis, by = m.axis(), m.between(-3, 3)
    return lambda x, ws: jnp.roll(x, by, axis)


def swap(m: Maker, shape: tuple) -> Step:
    return lambda x, ws: x.transpose(0, 2, 1, 3)


def repeat(m: Maker, shape: tuple) -> Step:
    axis = m.axis()
    return lambda x, ws: jnp.repeat(x, 2, axis)


def tile(m: Maker, shape: tuple) -> Step:
    repeats = m.pick((1, 2, 1, 1), (1, 1, 2, 1))
    return lambda x, ws: jnp.tile(x, repeats)


def space_to_depth(m: Maker, shape: tuple) -> Step:
    h, w = shape[1] // 2, shape[2] // 2
    if not h or not w:
        return lambda x, ws: x * 2

    def step(x: Any, ws: list) -> Any:
        x = x[:, : 2 * h, : 2 * w].reshape(-1, h, 2, w, 2, x.shape[3])
        return x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, h, w, 4 * x.shape[5])

    return step


def depth_to_space(m: Maker, shape: tuple) -> Step:
    def step(x: Any, ws: list) -> Any:
        n, h, w, c = x.shape
        x = jnp.concatenate([x, x * 2, x * 3, x * 4], 3).reshape(n, h, w, 2, 2, c)
        return x.transpose(0, 1, 3, 2, 4, 5).reshape(n, 2 * h, 2 * w, c)

    return step


def tokens(m: Maker, shape: tuple) -> Step:
    """Flattened, changed and restored."""
    what = m.pick("same", "shift", "drop", "transpose")

    def step(x: Any, ws: list) -> Any:
        n, h, w, c = x.shape
        flat = x.reshape(n, h * w, c)
        if what == "shift":
            flat = jnp.roll(flat, 1, 1)
        if what == "drop":
            token = jnp.ones((n, 1, c))
            flat = jnp.concatenate([token, flat], 1)[:, 1:]
        if what == "transpose":
            return flat.reshape(n, w, h, c)
        return flat.reshape(n, h, w, c)

    return step


def pooled_by_reshape(m: Maker, shape: tuple) -> Step:
    h, by = shape[1] // 2, m.pick("mean", "first" if m.net.finite else "max", "first")

    def step(x: Any, ws: list) -> Any:
        x = x[:, : 2 * h].reshape(x.shape[0], h, 2, *x.shape[2:])
        return x[:, :, 0] if by == "first" else getattr(x, by)(2)

    return step if h else lambda x, ws: x * 2


def gather(m: Maker, shape: tuple) -> Step:
    axis = m.axis()
    places = m.rng.integers(0, shape[axis], m.between(1, shape[axis]))
    if m.rng.random() < 0.5:
        places = np.sort(places)
    return lambda x, ws: jnp.take(x, places, axis)


def gather_both(m: Maker, shape: tuple) -> Step:
    rows = m.rng.integers(0, shape[1], (4, 1))
    columns = m.rng.integers(0, shape[2], (1, 3))
    return lambda x, ws: x[:, rows, columns]


def resize(m: Maker, shape: tuple) -> Step:
    method = m.pick("nearest", "bilinear", "bilinear", "cubic") if m.net.finite else "nearest"
    h, w = (max(1, int(size * m.pick(0.5, 1, 1.5, 2))) for size in shape[1:3])
    return lambda x, ws: jax.image.resize(x, (x.shape[0], h, w, x.shape[3]), method)


def excitation(m: Maker, shape: tuple) -> Step:
    axes = m.pick((1, 2), (1, 2), (1,), (2,))
    w = m.weight(shape[3], shape[3])
    return lambda x, ws: x * (1 + x.mean(axes, keepdims=True) @ ws[w])


def normalisation(m: Maker, shape: tuple) -> Step:
    axes = m.pick((1, 2, 3), (3,), (1, 2))
    return lambda x, ws: x / (1 + (x - x.mean(axes, keepdims=True)) ** 2).mean(axes, keepdims=True)


def cumulative(m: Maker, shape: tuple) -> Step:
    axis, reverse = m.axis(), m.pick(False, True)
    op = m.pick(lax.cumsum, lax.cumsum if m.net.finite else lax.cummax)
    return lambda x, ws: op(x, axis, reverse)


def difference(m: Maker, shape: tuple) -> Step:
    axis = m.axis()
    if shape[axis] < 2:
        return lambda x, ws: -x
    before, after = (slice(None),) * axis + (slice(-1),), (slice(None),) * axis + (slice(1, None),)
    return lambda x, ws: x[after] - 2 * x[before]


def mirrored(m: Maker, shape: tuple) -> Step:
    axis = m.axis()
    return lambda x, ws: x + 2 * jnp.flip(x, axis)


def shared_rows(m: Maker, shape: tuple) -> Step:
    row = m.between(0, shape[1] - 1)
    return lambda x, ws: x + 2 * x[:, row : row + 1]


def mixed_rows(m: Maker, shape: tuple) -> Step:
    """A product along the height, of trained or of fixed weights."""
    kind, out = m.pick("trained", "triangular", "band", "mean"), m.between(1, 6)
    if kind == "trained" or not m.net.finite:
        w = m.weight(shape[1], out)
        return lambda x, ws: jnp.einsum("nhwc,hk->nkwc", x, ws[w])
    size = shape[1]
    matrix = {
        "triangular": np.tril(np.ones((size, size))),
        "band": np.eye(size) + 2 * np.eye(size, k=1),
        "mean": np.full((size, out), 1 / size),
    }[kind].astype(np.float32)
    return lambda x, ws: jnp.einsum("nhwc,hk->nkwc", x, matrix)


def attention(m: Maker, shape: tuple) -> Step:
    def step(x: Any, ws: list) -> Any:
        flat = x.reshape(x.shape[0], -1, x.shape[3])
        scores = jnp.einsum("nqc,nkc->nqk", flat, flat) / flat.shape[1]
        return (flat + jnp.einsum("nqk,nkc->nqc", scores, flat)).reshape(x.shape)

    return step


def branches(m: Maker, shape: tuple) -> Step:
    w = m.weight(3, 3, shape[3], 2)
    return lambda x, ws: jnp.concatenate(
        [x, lax.conv_general_dilated(x, ws[w], (1, 1), "SAME", dimension_numbers=NHWC)], 3
    )


def pyramid(m: Maker, shape: tuple) -> Step:
    """A branch that sees everything beside the map."""
    return lambda x, ws: jnp.concatenate(
        [x, jnp.broadcast_to(x.mean((1, 2), keepdims=True), x.shape)], 3
    )


def apart(m: Maker, shape: tuple) -> Step:
    """Cut along the height and put together in another order, or with constants."""
    at, how = m.between(0, shape[1]), m.pick("same", "swapped", "zeros", "ones")

    def step(x: Any, ws: list) -> Any:
        a, b = x[:, :at], x[:, at:]
        other = jnp.ones((x.shape[0], 2, *x.shape[2:])) * (how == "ones")
        parts = {"same": [a, b], "swapped": [b, a]}.get(how, [a, other, b])
        return jnp.concatenate(parts, 1)

    return step


def stacked(m: Maker, shape: tuple) -> Step:
    """Along a new axis, and summed over it."""
    axis, turn = m.axis(), m.pick(True, False)
    return lambda x, ws: jnp.stack([x, jnp.flip(x, axis) if turn else x * 2], axis).sum(axis)


def interleaved(m: Maker, shape: tuple) -> Step:
    def step(x: Any, ws: list) -> Any:
        n, h, w, c = x.shape
        return jnp.stack([x, 2 * x], 2).reshape(n, 2 * h, w, c)

    return step


def split(m: Maker, shape: tuple) -> Step:
    if shape[2] < 2:
        return lambda x, ws: x * 3
    half = shape[2] // 2

    def step(x: Any, ws: list) -> Any:
        a, b = jnp.split(x[:, :, : 2 * half], 2, axis=2)
        return a * b

    return step


def scatter(m: Maker, shape: tuple) -> Step:
    row, how = m.between(0, shape[1] - 1), m.pick("set", "add", "from", "grid", "max")
    if how == "max" and m.net.finite:
        how = "add"

    def step(x: Any, ws: list) -> Any:
        if how == "set":
            return x.at[:, row:].set(1.0)
        if how == "add":
            return x.at[:, row].add(2 * x[:, 0])
        if how == "max":
            return x.at[:, :, 0].max(x[:, :, -1])
        if how == "from":
            return x.at[:, row].set(x[:, 0])
        n, h, w, c = x.shape
        return jnp.zeros((n, 2 * h, w, c)).at[:, ::2].set(x).at[:, 1::2].set(x[:, ::-1])

    return step


def dynamic(m: Maker, shape: tuple) -> Step:
    size = m.between(1, shape[1])
    start, write = m.between(0, shape[1] - size), m.pick(True, False)

    def step(x: Any, ws: list) -> Any:
        part = lax.dynamic_slice_in_dim(x, jnp.int32(start) + 0, size, 1)
        return lax.dynamic_update_slice_in_dim(x, 2 * part, jnp.int32(0), 1) if write else part

    return step


def scanned(m: Maker, shape: tuple) -> Step:
    """Rows one after another: a recurrence, or windows of two rows."""
    kind, reverse = m.pick("recurrent", "pairs", "counted"), m.pick(True, False)

    def step(x: Any, ws: list) -> Any:
        rows = jnp.moveaxis(x, 1, 0)
        if kind == "recurrent":
            _, out = lax.scan(lambda c, r: (c + r, c + 2 * r), rows[0] * 0 + 1, rows,
                              reverse=reverse)  # fmt: skip
        elif kind == "pairs":
            _, out = lax.scan(lambda c, r: (r, c + 2 * r), jnp.ones(rows[0].shape), rows,
                              reverse=reverse)  # fmt: skip
        else:
            _, out = lax.scan(
                lambda i, _: (i + 1, lax.dynamic_index_in_dim(rows, i, 0, False) * 2),
                jnp.int32(0), None, length=rows.shape[0])  # fmt: skip
        return jnp.moveaxis(out, 0, 1)

    return step


def looped(m: Maker, shape: tuple) -> Step:
    return lambda x, ws: lax.fori_loop(0, 3, lambda i, v: v * 2 + i, x)


def waited(m: Maker, shape: tuple) -> Step:
    """A loop of unknown length that leaves what is seen."""
    return lambda x, ws: lax.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, c[1] * 2), (0, x))[
        1
    ]


def masked(m: Maker, shape: tuple) -> Step:
    mask = np.tril(np.ones(shape[1:3], bool))[None, :, :, None]
    return lambda x, ws: jnp.where(mask, x, 1.0)


def patches(m: Maker, shape: tuple) -> Step:
    size, padding = min(2, *shape[1:3]), m.pick("VALID", "SAME")
    return lambda x, ws: lax.conv_general_dilated_patches(
        x, (size, size), (1, 1), padding, dimension_numbers=NHWC
    )


def blur(m: Maker, shape: tuple) -> Step:
    one = np.array(m.pick([1, 2, 1], [1, 0, 0], [0, 1, 2], [1, 0, 1]), np.float32)
    kernel = (one[:, None] * np.array([1, 2], np.float32))[..., None, None]
    kernel = np.repeat(kernel, shape[3], 3)
    return lambda x, ws: lax.conv_general_dilated(
        x, kernel, (1, 1), ((1, 1), (1, 0)), dimension_numbers=NHWC, feature_group_count=x.shape[3]
    )


def columns_alone(m: Maker, shape: tuple) -> Step:
    """A convolution along the width, the height in the batch."""
    w = m.weight(3, shape[3], 2)

    def step(x: Any, ws: list) -> Any:
        flat = x.reshape(-1, x.shape[2], x.shape[3])
        out = lax.conv_general_dilated(
            flat, ws[w], (1,), ((1, 1),), dimension_numbers=("NWC", "WIO", "NWC"))  # fmt: skip
        return out.reshape(x.shape[0], x.shape[1], *out.shape[1:])

    return step


def reduced(m: Maker, shape: tuple) -> Step:
    """One dimension of the map is lost, and stands there as one pixel."""
    axis, by = m.axis(), "sum" if m.net.finite else m.pick("sum", "max", "min")
    return lambda x, ws: getattr(x, by)(axis, keepdims=True)


def associative(m: Maker, shape: tuple) -> Step:
    axis = m.axis()
    return lambda x, ws: lax.associative_scan(jnp.add, x, axis=axis)


def by_content(m: Maker, shape: tuple) -> Step:
    """No rule: the images decide."""
    if m.pick(True, False):
        return lambda x, ws: jnp.sort(x, 1)
    return lambda x, ws: jnp.take_along_axis(x, jnp.argsort(x, 1), 1)


def elementwise(m: Maker, shape: tuple) -> Step:
    return lambda x, ws: x * 3 + jnp.sqrt(1 + x**2)


OPERATIONS = (
    convolution, convolution, transposed, pooling, pooling, slicing, reversal, padding, border,
    roll, swap, repeat, tile, space_to_depth, depth_to_space, tokens, pooled_by_reshape, gather,
    gather_both, resize, excitation, normalisation, cumulative, difference, mirrored, shared_rows,
    mixed_rows, attention, branches, pyramid, apart, stacked, interleaved, split, scatter, dynamic,
    scanned, looped, waited, masked, columns_alone, reduced, associative, elementwise,
)  # fmt: skip
WITH_ZEROS = (resize, resize, mixed_rows, patches, blur)
LARGEST = 6_000  # elements of a map


def random_net(seed: int, shape: tuple[int, int, int, int]) -> Net:
    """Two to six operations; one in two hundred has no rule."""
    rng = np.random.default_rng(seed)
    net = Net(finite=bool(rng.random() < 0.5))
    maker = Maker(rng, net)
    choice = OPERATIONS + (WITH_ZEROS if net.finite else ())
    for _ in range(rng.integers(2, 7)):
        operation = by_content if rng.random() < 0.005 else choice[rng.integers(len(choice))]
        step = operation(maker, shape)
        weights = [jax.ShapeDtypeStruct(w.shape, w.dtype) for w in net.weights]
        after = jax.eval_shape(step, jax.ShapeDtypeStruct(shape, jnp.float32), weights).shape
        if min(after) == 0 or np.prod(after) > LARGEST:
            continue
        net.steps.append(step)
        net.names.append(operation.__name__)
        shape = after
    return net
