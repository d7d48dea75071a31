"""What a state dict does not say about a layer, where PyTorch's default is another."""

from typing import Any

import jax
from flax import linen as nn

from cnnjax.interop.torch_layers import Call

_EPSILON = 1e-5  # PyTorch's default, of every normalisation but RMSNorm
_UNLIKE_PADDING = (
    "PyTorch's padding=N is the same before and after: pad by hand there, or logits differ"
)


def note(call: Call) -> tuple[str, str] | None:
    """(what is not said, the layer's name with its value), or None."""
    module = call.module
    if isinstance(module, nn.RMSNorm):
        return "epsilon is not in a state dict", f"{call.name} has {module.epsilon:g}"
    epsilon = getattr(module, "epsilon", _EPSILON)
    if epsilon != _EPSILON:
        return (
            f"epsilon is not in a state dict, and PyTorch's default is {_EPSILON:g}",
            f"{call.name} has {epsilon:g}",
        )
    if isinstance(module, nn.Conv | nn.ConvTranspose):
        return _padding_note(call)
    return None


def _each(value: Any, places: int) -> tuple[int, ...]:
    return (value or 1,) * places if value is None or isinstance(value, int) else tuple(value)


def _padding_note(call: Call) -> tuple[str, str] | None:
    """Where PyTorch's `padding` is another number than ours, or cannot say it."""
    module, places = call.module, len(call.shapes["kernel"]) - 2
    strides, spread = _each(module.strides, places), _each(module.kernel_dilation, places)
    kernel = call.shapes["kernel"][:places]
    extent = tuple(d * (k - 1) + 1 for d, k in zip(spread, kernel, strict=True))
    padding, size = module.padding, call.input_shape[-1 - places : -1]
    if isinstance(padding, str) and padding not in ("SAME", "VALID"):
        return "padding is not in a state dict", f"{call.name} has {padding}"
    pads = _pairs(padding, places)
    if isinstance(module, nn.ConvTranspose):
        pads = pads or [
            _transposed_pads(e, s, padding) for e, s in zip(extent, strides, strict=True)
        ]
        said = [(e - 1 - low, high - low) for e, (low, high) in zip(extent, pads, strict=True)]
        if all(pair == (0, 0) for pair in said):
            return None
        below = [max(pair) for pair in zip(strides, spread, strict=True)]
        if all(p >= 0 and 0 <= o < most for (p, o), most in zip(said, below, strict=True)):
            values = [tuple(pair[i] for pair in said) for i in (0, 1)]
            text = f"{call.name} is PyTorch's padding={values[0]}, output_padding={values[1]}"
            return "padding is not in a state dict", text
        return _UNLIKE_PADDING, f"{call.name} pads {pads} between its pixels"
    pads = pads or jax.lax.padtype_to_pads(size, extent, strides, padding)
    if all(low == high for low, high in pads):
        return None
    return _UNLIKE_PADDING, f"{call.name} pads {pads}"


def _pairs(padding: Any, places: int) -> list[tuple[int, int]] | None:
    """Padding that is given in pixels, before and after along each axis."""
    if isinstance(padding, str):
        return None
    each = (padding,) * places if isinstance(padding, int) else tuple(padding)
    each = each * places if len(each) == 1 else each
    return [(p, p) if isinstance(p, int) else tuple(p) for p in each]


def _transposed_pads(extent: int, stride: int, padding: str) -> tuple[int, int]:
    """What `jax.lax.conv_transpose` pads the spread map by."""
    if padding == "VALID":
        return extent - 1, extent - 1 + max(stride - extent, 0)
    total = extent + stride - 2
    before = extent - 1 if stride > extent - 1 else -(-total // 2)
    return before, total - before
