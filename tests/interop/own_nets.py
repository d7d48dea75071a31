"""Networks at random, written twice: in flax, and in PyTorch as the names and layouts say.

A network is a list of rows (kind, options). Maps are [n, h, w, c] in the one and [n, c, h, w] in
the other; the rest is the same line twice.
"""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
from flax import linen as nn
from torch.nn import functional

Rows = tuple[tuple[str, tuple[tuple[str, Any], ...]], ...]
CLASSES = 3


def row(kind: str, **options: Any) -> tuple[str, tuple[tuple[str, Any], ...]]:
    return kind, tuple(options.items())


def random_rows(rng: np.random.Generator, shape: tuple[int, int, int]) -> Rows:
    """A network for images of `shape` that keeps its maps small."""
    *size, channels = shape
    rows = []

    def pick(*values):
        return values[rng.integers(len(values))]

    for _ in range(rng.integers(1, 5)):
        kind = pick("conv", "conv", "transposed", "pool", "norm", "gate", "branches", "activation")
        if kind == "conv":
            groups = pick(1, 1, channels)
            features = groups * int(rng.integers(1, 4)) if groups > 1 else int(rng.integers(2, 6))
            features = min(features, 8) if groups == 1 else features
            kernel, stride, dilation = [pick(1, 2, 3) for _ in size], [1] * len(size), 1
            if pick(True, False):
                stride = [pick(1, 2) for _ in size]
            elif pick(True, False):
                dilation = 2
            padding = [dilation * (k - 1) for k in kernel]
            rows.append(
                row("conv", features=features, kernel=tuple(kernel), stride=tuple(stride),
                    padding=tuple(padding), dilation=dilation, groups=groups,
                    bias=pick(True, False))
            )  # fmt: skip
            size = [
                (n + 2 * p - dilation * (k - 1) - 1) // s + 1
                for n, p, k, s in zip(size, padding, kernel, stride, strict=True)
            ]
            channels = features
        elif kind == "transposed" and math.prod(size) < 150:
            kernel, stride = [pick(1, 2, 3) for _ in size], [pick(1, 2) for _ in size]
            padding = [pick(0, (k - 1) // 2) for k in kernel]
            features = int(rng.integers(2, 5))
            size = [(n - 1) * s - 2 * p + k for n, s, p, k in zip(size, stride, padding, kernel,
                                                                   strict=True)]  # fmt: skip
            rows.append(row("transposed", features=features, kernel=tuple(kernel),
                            stride=tuple(stride), padding=tuple(padding), size=tuple(size),
                            transpose_kernel=pick(True, False)))  # fmt: skip
            channels = features
        elif kind == "pool" and min(size) > 2:
            window = tuple(pick(1, 2, 3) for _ in size)
            stride = tuple(pick(1, 2) for _ in size)
            rows.append(row("pool", window=window, stride=stride, how=pick("max", "avg")))
            size = [(n - k) // s + 1 for n, k, s in zip(size, window, stride, strict=True)]
        elif kind == "norm" and math.prod(size) > 1:
            divisors = [g for g in range(1, channels + 1) if channels % g == 0]
            rows.append(row("norm", how=pick("batch", "group", "instance", "layer", "rms"),
                            groups=pick(*divisors), affine=pick(True, True, False)))  # fmt: skip
        elif kind == "branches":
            rows.append(row("branches", features=int(rng.integers(1, 4))))
            channels += dict(rows[-1][1])["features"]
        elif kind in ("gate", "activation"):
            rows.append(row(kind))
        if len(size) == 2 and rng.random() < 0.15:
            how = pick("line", "volume")
            rows.append(row(how))
            size = [math.prod(size)] if how == "line" else [*size, channels]
            channels = channels if how == "line" else 1
    rows.append(row("head", how=pick("flatten", "flatten", "first", "mean", "both")))
    for _ in range(rng.integers(0, 3)):
        rows.append(row("hidden", how=pick("none", "batch", "layer"),
                        features=int(rng.integers(3, 8))))  # fmt: skip
    return (*rows, row("dense", features=CLASSES))


def _middle(n: int) -> tuple[int, ...]:
    return tuple(range(1, n - 1))


class Ours(nn.Module):
    rows: Rows

    @nn.compact
    def __call__(self, x, *, train):
        for index, (kind, options) in enumerate(self.rows):
            x = getattr(self, f"_{kind}")(x, f"layer{index}", train, **dict(options))
        return x

    @nn.nowrap
    def _conv(self, x, name, train, *, features, kernel, stride, padding, dilation, groups, bias):
        return nn.Conv(features, kernel, stride, tuple((p, p) for p in padding),
                       kernel_dilation=dilation, feature_group_count=groups, use_bias=bias,
                       name=name)(x)  # fmt: skip

    @nn.nowrap
    def _transposed(self, x, name, train, *, features, kernel, stride, padding, size,
                    transpose_kernel):  # fmt: skip
        pads = tuple((k - 1 - p, k - 1 - p) for k, p in zip(kernel, padding, strict=True))
        return nn.ConvTranspose(features, kernel, stride, pads, transpose_kernel=transpose_kernel,
                                name=name)(x)  # fmt: skip

    @nn.nowrap
    def _pool(self, x, name, train, *, window, stride, how):
        return {"max": nn.max_pool, "avg": nn.avg_pool}[how](x, window, stride)

    @nn.nowrap
    def _norm(self, x, name, train, *, how, groups, affine):
        options = {"use_bias": affine, "use_scale": affine, "epsilon": 1e-5, "name": name}
        if how == "batch":
            return nn.BatchNorm(use_running_average=not train, **options)(x)
        if how == "rms":
            return nn.RMSNorm(use_scale=affine, epsilon=1e-5, name=name)(x)
        if how == "group":
            return nn.GroupNorm(groups, **options)(x)
        return {"instance": nn.InstanceNorm, "layer": nn.LayerNorm}[how](**options)(x)

    @nn.nowrap
    def _gate(self, x, name, train):
        y = nn.Dense(x.shape[-1], name=name)(x.mean(_middle(x.ndim), keepdims=True))
        return x * nn.sigmoid(y)

    @nn.nowrap
    def _branches(self, x, name, train, *, features):
        return jnp.concatenate([x, nn.Conv(features, (1,) * (x.ndim - 2), name=name)(x)], -1)

    @nn.nowrap
    def _activation(self, x, name, train):
        return nn.relu(x) + 0.5 * jnp.tanh(x)

    @nn.nowrap
    def _line(self, x, name, train):
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        return nn.Conv(x.shape[-1], (3,), padding=1, name=name)(x)

    @nn.nowrap
    def _volume(self, x, name, train):
        return nn.Conv(1, (3, 1, 3), padding=((1, 1), (0, 0), (1, 1)), name=name)(x[..., None])

    @nn.nowrap
    def _head(self, x, name, train, *, how):
        n, mean = x.shape[0], x.mean(_middle(x.ndim))
        first = x.transpose(0, x.ndim - 1, *_middle(x.ndim)).reshape(n, -1)
        flat = x.reshape(n, -1)
        both = jnp.concatenate([jnp.tanh(flat), mean], -1)
        heads = {"flatten": nn.relu(flat) - flat / 3, "first": first, "mean": mean, "both": both}
        return heads[how]

    @nn.nowrap
    def _hidden(self, x, name, train, *, how, features):
        if how == "batch":
            x = nn.BatchNorm(use_running_average=not train, name=f"{name}_norm")(x)
        if how == "layer":
            x = nn.LayerNorm(epsilon=1e-5, name=f"{name}_norm")(x)
        return nn.relu(nn.Dense(features, name=name)(x))

    @nn.nowrap
    def _dense(self, x, name, train, *, features):
        return nn.Dense(features, name=name)(x)


class Theirs(torch.nn.Module):
    """The same in PyTorch: modules are made at the first call, as their inputs then are known."""

    def __init__(self, rows: Rows):
        super().__init__()
        self.rows = rows

    def forward(self, x):
        for index, (kind, options) in enumerate(self.rows):
            x = getattr(self, f"_{kind}")(x, f"layer{index}", **dict(options))
        return x

    def _own(self, name, make):
        if not hasattr(self, name):
            self.add_module(name, make().eval())
        return getattr(self, name)

    def _by_rank(self, name, x):
        return getattr(torch.nn, f"{name}{x.ndim - 2}d")

    def _conv(self, x, name, *, features, kernel, stride, padding, dilation, groups, bias):
        make = self._by_rank("Conv", x)
        return self._own(name, lambda: make(x.shape[1], features, kernel, stride, padding,
                                            dilation, groups, bias))(x)  # fmt: skip

    def _transposed(self, x, name, *, features, kernel, stride, padding, size, transpose_kernel):
        make = self._by_rank("ConvTranspose", x)
        return self._own(name, lambda: make(x.shape[1], features, kernel, stride, padding))(x)

    def _pool(self, x, name, *, window, stride, how):
        return getattr(functional, f"{how}_pool{x.ndim - 2}d")(x, window, stride)

    def _norm(self, x, name, *, how, groups, affine):
        channels = x.shape[1]
        if how in ("layer", "rms"):
            make = {"layer": torch.nn.LayerNorm, "rms": torch.nn.RMSNorm}[how]
            norm = self._own(name, lambda: make(channels, 1e-5, affine))
            return norm(x.movedim(1, -1)).movedim(-1, 1)
        if how == "group":
            make = torch.nn.GroupNorm
            return self._own(name, lambda: make(groups, channels, affine=affine))(x)
        make = self._by_rank({"batch": "BatchNorm", "instance": "InstanceNorm"}[how], x)
        return self._own(name, lambda: make(channels, affine=affine))(x)

    def _gate(self, x, name):
        linear = self._own(name, lambda: torch.nn.Linear(x.shape[1], x.shape[1]))
        gate = torch.sigmoid(linear(x.flatten(2).mean(2)))
        return x * gate.reshape(*gate.shape, *[1] * (x.ndim - 2))

    def _branches(self, x, name, *, features):
        make = self._by_rank("Conv", x)
        return torch.cat([x, self._own(name, lambda: make(x.shape[1], features, 1))(x)], 1)

    def _activation(self, x, name):
        return torch.relu(x) + 0.5 * torch.tanh(x)

    def _line(self, x, name):
        c = x.shape[1]
        return self._own(name, lambda: torch.nn.Conv1d(c, c, 3, padding=1))(x.flatten(2))

    def _volume(self, x, name):
        x = x.movedim(1, -1)[:, None]
        return self._own(name, lambda: torch.nn.Conv3d(1, 1, (3, 1, 3), padding=(1, 0, 1)))(x)

    def _head(self, x, name, *, how):
        flat, mean = torch.flatten(x, 1), x.flatten(2).mean(2)
        both = torch.cat([torch.tanh(flat), mean], 1)
        return {"flatten": torch.relu(flat) - flat / 3, "first": flat, "mean": mean,
                "both": both}[how]  # fmt: skip

    def _hidden(self, x, name, *, how, features):
        if how != "none":
            make = {"batch": torch.nn.BatchNorm1d, "layer": torch.nn.LayerNorm}[how]
            x = self._own(f"{name}_norm", lambda: make(x.shape[1]))(x)
        return torch.relu(self._dense(x, name, features=features))

    def _dense(self, x, name, *, features):
        return self._own(name, lambda: torch.nn.Linear(x.shape[1], features))(x)
