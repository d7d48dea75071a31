"""Residual and plain blocks are one class: `shortcut` is the switch (He et al. 2015, section 3.3).

none  plain: no shortcut
A     identity; where shapes differ, subsampled and padded with zero channels: no parameters
B     identity; a 1x1 convolution where shapes differ
C     a 1x1 convolution everywhere
"""

from collections.abc import Mapping
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from cnnjax.layers.conv_norm import AnyNormalization, Conv, ConvNorm
from cnnjax.layers.layer import Layer
from cnnjax.layers.scan import Runs, apply_blocks

Shortcut = Literal["none", "A", "B", "C"]
Stage = Mapping[str, "Block"]  # unbound blocks by name


class Block(Layer):
    """What the blocks share: the fields and the shortcut."""

    features: int
    strides: int = 1
    shortcut: Shortcut = "A"
    normalization: AnyNormalization = "batch"
    dilation: int = 1  # of its 3x3

    @property
    def out_features(self) -> int:
        return self.features

    def conv_norm(self, features: int, kernel_size: int, strides: int, name: str) -> ConvNorm:
        dilation = self.dilation if kernel_size > 1 else 1
        return ConvNorm(
            features,
            kernel_size,
            strides,
            normalization=self.normalization,
            dilation=dilation,
            **self.numerics,
            name=name,
        )

    def join(
        self, x: Float[Array, "n h w c"], y: Float[Array, "n h2 w2 f"], *, train: bool
    ) -> Float[Array, "n h2 w2 f"]:
        """relu(y + shortcut(x)), or relu(y) without one; y is the residual branch of x."""
        if self.shortcut == "none":
            return nn.relu(y)
        if self.projects(x, y):
            project = self.conv_norm(y.shape[-1], 1, self.strides, "shortcut")
            return nn.relu(y + project(x, train=train))
        return nn.relu(y + self.identity(x, y))

    def projects(self, x: Array, y: Array) -> bool:
        """Whether the shortcut is a 1x1 convolution."""
        return self.shortcut == "C" or (self.shortcut == "B" and x.shape != y.shape)

    def identity(
        self, x: Float[Array, "n h w c"], y: Float[Array, "n h2 w2 f"]
    ) -> Float[Array, "n h2 w2 f"]:
        """x; where shapes differ, subsampled and padded with zero channels (option A)."""
        if x.shape == y.shape:
            return x
        x = x[:, :: self.strides, :: self.strides]
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, y.shape[-1] - x.shape[-1])))


class BasicBlock(Block):
    """Two 3x3 convolutions (He et al. 2015, figure 5 left)."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], *, train: bool
    ) -> Float[Array, "n h2 w2 features"]:
        y = nn.relu(self.conv_norm(self.features, 3, self.strides, "conv1")(x, train=train))
        y = self.conv_norm(self.features, 3, 1, "conv2")(y, train=train)
        return self.join(x, y, train=train)


class BottleneckBlock(Block):
    """1x1, 3x3, 1x1 to four times the features (He et al. 2015, figure 5 right).

    `stride_at`: "1x1" is the paper's, "3x3" is v1.5, as torchvision has it.
    """

    stride_at: Literal["1x1", "3x3"] = "3x3"

    @property
    def out_features(self) -> int:
        return 4 * self.features

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], *, train: bool
    ) -> Float[Array, "n h2 w2 features"]:
        first, second = (self.strides, 1) if self.stride_at == "1x1" else (1, self.strides)
        y = nn.relu(self.conv_norm(self.features, 1, first, "conv1")(x, train=train))
        y = nn.relu(self.conv_norm(self.features, 3, second, "conv2")(y, train=train))
        y = self.conv_norm(self.out_features, 1, 1, "conv3")(y, train=train)
        return self.join(x, y, train=train)


class PreactBlock(Block):
    """Normalise, relu, convolve; twice 3x3, or 1x1, 3x3, 1x1 (He et al. 2016, figure 4e).

    Nothing follows the addition, so the shortcut is clean from end to end. A projection starts
    from the activated input and has no normalisation of its own. `first`: the input comes
    activated from the stem, as the paper has it in its first block.
    """

    first: bool = False
    bottleneck: bool = False
    stride_at: Literal["1x1", "3x3"] = "3x3"

    @property
    def out_features(self) -> int:
        return (4 if self.bottleneck else 1) * self.features

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], *, train: bool
    ) -> Float[Array, "n h2 w2 features"]:
        activated = x if self.first else self._activate(x, "norm1", train)
        y = activated
        for index, (features, kernel_size, strides) in enumerate(self._convolutions(), start=1):
            if index > 1:
                y = self._activate(y, f"norm{index}", train)
            y = self._conv(features, kernel_size, strides, f"conv{index}")(y)
        if self.shortcut == "none":
            return y
        if self.projects(x, y):
            return y + self._conv(y.shape[-1], 1, self.strides, "shortcut")(activated)
        return y + self.identity(x, y)

    def _convolutions(self) -> list[tuple[int, int, int]]:
        """Features, kernel size and strides of each convolution."""
        if not self.bottleneck:
            return [(self.features, 3, self.strides), (self.features, 3, 1)]
        first, second = (self.strides, 1) if self.stride_at == "1x1" else (1, self.strides)
        return [(self.features, 1, first), (self.features, 3, second), (self.out_features, 1, 1)]

    def _activate(self, x: Array, name: str, train: bool) -> Array:
        if self.normalization == "none":
            return nn.relu(x)
        return nn.relu(self.batch_norm(name=name)(x, use_running_average=not train))

    def _conv(self, features: int, kernel_size: int, strides: int, name: str) -> Conv:
        bare = self.normalization == "none"
        return Conv(features, kernel_size, strides, use_bias=bare, **self.numerics, name=name)


def make_block(
    net: Any,
    block_class: type[Block],
    features: int,
    stage: int,
    block: int,
    *,
    dilation: int | None = None,
    **options: Any,
) -> Block:
    """The unbound block `block` of stage `stage` (from 1) with the fields of its network.

    Args:
      net: a `Layer` that has shortcut and preactivation, and perhaps normalization.
      block_class: of the post-activation network; options are its own fields.
      dilation: of its 3x3, in a stage that has no stride for it; None: the stage has its stride.
    """
    if net.preactivation:
        bottleneck = block_class is BottleneckBlock
        options |= {"first": stage == block == 1, "bottleneck": bottleneck}
        block_class = PreactBlock
    return block_class(
        features,
        2 if stage > 1 and block == 1 and dilation is None else 1,
        net.shortcut,
        getattr(net, "normalization", "batch"),
        dilation or 1,
        **net.numerics,
        **options,
        parent=None,
    )


def add_blocks(net: nn.Module, stages: list[Stage]) -> None:
    """Make each block a submodule of `net` under its name; for its `setup`."""
    for stage in stages:
        for name, block in stage.items():
            setattr(net, name, block)


def equal_runs(stages: list[Stage], features: int) -> Runs:
    """Stage by stage, the names of the blocks that keep their input's shape.

    Args:
      stages: unbound blocks by name.
      features: channels that enter the first stage.
    """
    runs = []
    for stage in stages:
        kept = {}
        for name, block in stage.items():
            if block.strides == 1 and block.out_features == features:
                kept[name] = block
            features = block.out_features
        # Of those only what equals the last: a first block may lack its activation.
        runs.append([name for name, block in kept.items() if block == list(kept.values())[-1]])
    return [run for run in runs if len(run) > 1]


def run_stages(
    net: nn.Module, stages: list[Stage], x: Float[Array, "n h w c"], *, train: bool
) -> list[Float[Array, "n _ _ _"]]:
    """The map after each stage; blocks of equal shape are scanned.

    Args:
      net: the bound network; it has a submodule for each name in `stages`.
    """
    equal = {run[0]: run for run in equal_runs(stages, x.shape[-1])}
    maps = []
    for stage in stages:
        names = list(stage)
        while names:
            run = equal.get(names[0], names[:1])
            x = apply_blocks(net, stage[run[0]], run, x, train=train)
            names = names[len(run) :]
        maps.append(x)
    return maps
