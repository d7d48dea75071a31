"""The layers that PyTorch has too: what it calls their arrays, how it lays them out, what differs.

A rule takes a layer as it was called and the axes of its input, and gives the arrays and the axes
of the output. A layer without a rule is refused.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flax import linen as nn

from cnnjax.interop.axis_kinds import FEATURE, AxisKinds, Lost, after_convolution
from cnnjax.interop.layout import (
    Layout,
    as_it_is,
    convolution,
    dense,
    flax_transposed_convolution,
    transposed_convolution,
    vector,
)
from cnnjax.layers.conv_norm import Conv, ConvTranspose
from cnnjax.layers.lenet import PartialConv


@dataclass(frozen=True, eq=False)
class Call:
    """A layer as the network calls it.

    Attributes:
      name: its path, "block1/conv".
      module: the flax module.
      shapes: of its variables by leaf ("kernel", "mean").
      input_shape: of what it is called with.
      running: whether a batch normalisation is told to use its running statistics.
    """

    name: str
    module: Any
    shapes: Mapping[str, tuple[int, ...]]
    input_shape: tuple[int, ...]
    running: bool = True


@dataclass(frozen=True)
class Arrays:
    """PyTorch's leaf and layout of each of a layer's variables, and the axes of its output."""

    leaves: Mapping[str, tuple[str, Layout]]
    output: AxisKinds


class Unlike(Exception):
    """PyTorch has no such layer; the text says what differs."""


def layer_arrays(call: Call, axes: AxisKinds) -> Arrays:
    """What PyTorch calls a layer's variables, and how it lays them out.

    Raises:
      Lost: the order of its input is not known.
      Unlike: PyTorch has no such layer.
    """
    return _RULES[type(call.module)](call, axes)


def is_layer(module_class: type | None) -> bool:
    """Whether PyTorch has a layer of this class."""
    return module_class in _RULES


def _convolution(call: Call, axes: AxisKinds) -> Arrays:
    module, places = call.module, len(call.shapes["kernel"]) - 2
    if isinstance(module, nn.Conv):
        dilation = module.input_dilation or 1
        if any(size != 1 for size in ([dilation] if isinstance(dilation, int) else dilation)):
            raise Unlike("PyTorch's convolutions have no dilation of the input")
        if module.conv_general_dilated is not None or module.conv_general_dilated_cls is not None:
            raise Unlike("it has a conv_general_dilated of its own")
    _refuse_mask(module)
    return _kernel(call, convolution(_places(places)), after_convolution(axes, places))


def _transposed(call: Call, axes: AxisKinds) -> Arrays:
    module, places = call.module, len(call.shapes["kernel"]) - 2
    _refuse_mask(module)
    if module.padding == "CIRCULAR":
        raise Unlike("PyTorch's transposed convolutions have no circular padding")
    layout = flax_transposed_convolution(_places(places), transpose_kernel=module.transpose_kernel)
    return _kernel(call, layout, after_convolution(axes, places))


def _adjoint(call: Call, axes: AxisKinds) -> Arrays:
    return _kernel(call, transposed_convolution(2), after_convolution(axes, 2))


def _partial(call: Call, axes: AxisKinds) -> Arrays:
    """Kernels by number of inputs, under our own names."""
    kernels = {leaf: (leaf, convolution(2)) for leaf in call.shapes if leaf != "bias"}
    return Arrays({**kernels, "bias": ("bias", vector())}, after_convolution(axes, 2))


def _dense(call: Call, axes: AxisKinds) -> Arrays:
    if getattr(call.module, "dot_general", None) or getattr(call.module, "dot_general_cls", None):
        raise Unlike("it has a dot_general of its own")
    if axes[-1].kind == "batch":
        raise Lost("it sums over the images of a batch")
    return _kernel(call, dense(axes[-1].rows), (*axes[:-1], FEATURE))


def _dense_general(call: Call, axes: AxisKinds) -> Arrays:
    if len(call.shapes["kernel"]) != 2 or call.module.axis not in (-1, (-1,)):
        shape = list(call.shapes["kernel"])
        raise Unlike(f"a kernel {shape}; PyTorch's linear layers have [inputs, outputs]")
    return _dense(call, axes)


def _batch_norm(call: Call, axes: AxisKinds) -> Arrays:
    module = call.module
    if not call.running:
        raise Unlike(
            "it uses the statistics of the batch while testing, PyTorch's its running ones"
        )
    if module.use_scale != module.use_bias:
        raise Unlike("it has a scale or a bias alone; PyTorch's has both or none")
    if not isinstance(module.axis, int):
        raise Unlike("it has several axes of features; PyTorch's has one")
    layout = vector(axes[module.axis].rows)
    return _scaled(call, layout, axes)


def _layer_norm(call: Call, axes: AxisKinds) -> Arrays:
    module, last = call.module, (-1, (-1,), len(axes) - 1, (len(axes) - 1,))
    if module.reduction_axes not in last or module.feature_axes not in last:
        raise Unlike("it normalises over other axes than the last, where PyTorch's has its weight")
    if getattr(module, "use_bias", False) and not module.use_scale:
        raise Unlike("it has a bias alone; PyTorch's has both, a weight, or none")
    return _scaled(call, vector(axes[-1].rows), axes)


def _group_norm(call: Call, axes: AxisKinds) -> Arrays:
    module = call.module
    if module.use_scale != module.use_bias:
        raise Unlike("it has a scale or a bias alone; PyTorch's has both or none")
    if axes[-1].kind == "flat":
        raise Lost("it groups the entries of a flattened map, which PyTorch has in another order")
    if getattr(module, "reduction_axes", None) is not None:
        raise Unlike("it names its axes; PyTorch's normalises over all but the batch")
    if getattr(module, "feature_axes", -1) not in (-1, (-1,)):
        raise Unlike("its features are not on the last axis")
    return _scaled(call, vector(), axes)


def _embedding(call: Call, axes: AxisKinds) -> Arrays:
    return Arrays({"embedding": ("weight", as_it_is(2))}, (*axes, FEATURE))


def _kernel(call: Call, layout: Layout, output: AxisKinds) -> Arrays:
    leaves = {"kernel": ("weight", layout), "bias": ("bias", vector())}
    return Arrays({leaf: leaves[leaf] for leaf in call.shapes if leaf in leaves}, output)


def _scaled(call: Call, layout: Layout, output: AxisKinds) -> Arrays:
    names = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
    return Arrays({leaf: (name, layout) for leaf, name in names.items()}, output)


def _places(count: int) -> int:
    if count not in (1, 2, 3):
        raise Unlike(
            f"a kernel of {count + 2} axes; PyTorch's convolutions run over one to three places"
        )
    return count


def _refuse_mask(module: Any) -> None:
    if getattr(module, "mask", None) is not None:
        raise Unlike("its kernel is masked; PyTorch's is not")


_RULES: dict[type, Callable[[Call, AxisKinds], Arrays]] = {
    Conv: _convolution,
    ConvTranspose: _adjoint,
    PartialConv: _partial,
    nn.Conv: _convolution,
    nn.ConvTranspose: _transposed,
    nn.Dense: _dense,
    nn.DenseGeneral: _dense_general,
    nn.Embed: _embedding,
    nn.BatchNorm: _batch_norm,
    nn.LayerNorm: _layer_norm,
    nn.RMSNorm: _layer_norm,
    nn.GroupNorm: _group_norm,
    nn.InstanceNorm: _group_norm,
}
