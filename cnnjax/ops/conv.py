"""Convolution as cross-correlation, in the form that is fast where it runs.

XLA on CPU runs a convolution fast only in canonical form (NHWC, HWIO, no reversed window); the
automatic gradients are not canonical, and inside a `scan` that costs a factor of fifty. So on CPU
both gradients are written out canonically; the smallest maps and 1x1 kernels become one matrix
product. The choice depends on shapes alone, by the fixed rule in `choose`, because a choice made
by measurement would change results from run to run. Elsewhere XLA's own convolution is used.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnnjax.core.errors import Refused

Formulation = Literal["library", "canonical", "im2col", "product"]
Pads = tuple[tuple[int, int], tuple[int, int]]  # ((top, bottom), (left, right)) in pixels
Padding = Pads | int | Literal["SAME", "VALID"]  # int: on every side, as PyTorch has it

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_IM2COL_MAP = 4  # pixels; larger maps favour the library's convolution
_forced: ContextVar[Formulation | None] = ContextVar("formulation", default=None)


def output_size(
    size: int, kernel_size: int, strides: int, padding: tuple[int, int], dilation: int = 1
) -> int:
    """Output length of a convolution along one axis, in pixels.

    floor((size + padding - dilation (kernel_size - 1) - 1) / strides) + 1 (Dumoulin & Visin 2016,
    relations 6 and 15); `padding` is what is added before and after.

    Raises:
      Refused: the kernel does not fit into the padded input, or a length is impossible.
    """
    if min(size, kernel_size, strides, dilation) < 1 or min(padding) < 0:
        raise Refused(
            f"size {size}, kernel {kernel_size}, strides {strides}, dilation {dilation} must be"
            f" 1 or more and padding {padding} 0 or more"
        )
    padded, extent = size + sum(padding), dilation * (kernel_size - 1) + 1
    if padded < extent:
        raise Refused(
            f"a kernel of {extent} px does not fit {size} px padded by {padding};"
            f" use images of {extent - sum(padding)} px or more"
        )
    return (padded - extent) // strides + 1


def explicit_padding(
    padding: Padding,
    size: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
) -> Pads:
    """`padding` in pixels. SAME pads so that the output is ceil(size / strides), the odd pixel
    at the end: at stride 2 that is not PyTorch's padding=1, and logits differ."""
    if padding == "VALID":
        return (0, 0), (0, 0)
    if isinstance(padding, int):
        return (padding, padding), (padding, padding)
    if padding != "SAME":
        return padding
    pads = []
    for n, k, s, d in zip(size, kernel, strides, dilation, strict=True):
        total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        pads.append((total // 2, total - total // 2))
    return pads[0], pads[1]


@contextmanager
def formulation(name: Formulation | None) -> Iterator[None]:
    """Trace every convolution in the block by one formulation.

    "library" has automatic gradients: for forward mode, for second derivatives, for counting.
    It acts while tracing; functions that were already compiled keep their form.
    """
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)


def choose(
    output: tuple[int, int], kernel: tuple[int, int], pads: Pads, backend: str
) -> Formulation:
    """The formulation for an output map and a kernel of so many pixels on a backend."""
    if backend != "cpu":
        return "library"
    if kernel == (1, 1) and pads == ((0, 0), (0, 0)):
        return "product"
    if max(output) <= _IM2COL_MAP:
        return "im2col"
    return "canonical"


def on_accelerator() -> bool:
    """Whether what is traced will run on one; a trace in a forced form asks for no backend, as
    that would start jax's devices in a process that only checks or counts."""
    return _forced.get() is None and jax.default_backend() != "cpu"


def in_library_form() -> bool:
    """Whether every convolution is traced as XLA's own: on an accelerator, or because forced."""
    forced = _forced.get()
    return forced == "library" if forced else jax.default_backend() != "cpu"


def conv(
    images: Float[Array, "n h w c"],
    kernel: Float[Array, "kh kw cg f"],
    *,
    strides: tuple[int, int] = (1, 1),
    padding: Padding = 0,
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Float[Array, "n h2 w2 f"]:
    """Cross-correlation of `images` with `kernel`; no bias.

    It is what every library calls convolution; `convolve` is the mathematical one.

    Args:
      padding: pixels on every side, ((top, bottom), (left, right)), "SAME" or "VALID".
      dilation: distance of neighbouring taps of the kernel.
      groups: of channels; the kernel has c / groups channels in, and output group g sees input
        group g alone.

    Raises:
      Refused: the kernel does not fit into the padded images, or channels and groups differ.
    """
    channels, size = images.shape[-1], (kernel.shape[0], kernel.shape[1])
    if channels != kernel.shape[2] * groups or kernel.shape[3] % groups:
        raise Refused(
            f"{channels} channels in {groups} groups do not fit a kernel of"
            f" {kernel.shape[2]} channels in and {kernel.shape[3]} out"
        )
    height, width = images.shape[1:3]
    pads = explicit_padding(padding, (height, width), size, strides, dilation)
    output = (
        output_size(images.shape[1], size[0], strides[0], pads[0], dilation[0]),
        output_size(images.shape[2], size[1], strides[1], pads[1], dilation[1]),
    )
    form = _forced.get() or choose(output, size, pads, jax.default_backend())
    if form == "library":
        return _library(images, kernel, strides, pads, dilation, groups)
    if groups > 1:  # canonical form has no groups: one product or convolution for each
        parts = zip(jnp.split(images, groups, -1), jnp.split(kernel, groups, -1), strict=True)
        return jnp.concatenate(
            [conv(x, k, strides=strides, padding=pads, dilation=dilation) for x, k in parts], -1
        )
    if form == "canonical":
        return _canonical(strides, pads, dilation, images, kernel)
    if form == "product":
        return lax.dot_general(
            images[:, :: strides[0], :: strides[1]], kernel[0, 0], (((3,), (0,)), ((), ()))
        )
    patches = _patches(images, size, strides, pads, dilation, output)
    return lax.dot_general(patches, kernel.reshape(-1, kernel.shape[-1]), (((3,), (0,)), ((), ())))


def convolve(
    images: Float[Array, "n h w c"],
    kernel: Float[Array, "kh kw cg f"],
    *,
    strides: tuple[int, int] = (1, 1),
    padding: Padding = 0,
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Float[Array, "n h2 w2 f"]:
    """True convolution: cross-correlation with the kernel turned by 180 degrees. See `conv`."""
    turned = kernel[::-1, ::-1]
    return conv(images, turned, strides=strides, padding=padding, dilation=dilation, groups=groups)


def conv_transpose(
    images: Float[Array, "n h w c"],
    kernel: Float[Array, "kh kw c f"],
    *,
    strides: tuple[int, int] = (1, 1),
    padding: int = 0,
    output_padding: int = 0,
    dilation: tuple[int, int] = (1, 1),
) -> Float[Array, "n h2 w2 f"]:
    """Transposed convolution: the adjoint of `conv` by its images, as PyTorch has it.

    A map of h becomes (h - 1) strides - 2 padding + dilation (kh - 1) + 1 + output_padding; the
    kernel is the one of the convolution from f to c channels with its channel axes swapped.

    Raises:
      Refused: nothing is left of the map, or output_padding is not below strides or dilation.
    """
    lengths = zip(images.shape[1:3], kernel.shape[:2], strides, dilation, strict=True)
    pads = []
    for size, taps, stride, spacing in lengths:
        length = (size - 1) * stride - 2 * padding + spacing * (taps - 1) + 1 + output_padding
        if padding < 0 or not 0 <= output_padding < max(stride, spacing) or length < 1:
            raise Refused(
                f"transposed convolution of {size} px, kernel {taps}, strides {stride}, padding"
                f" {padding}, output_padding {output_padding} leaves {length} px; padding is 0 or"
                f" more, output_padding below strides or dilation"
            )
        low = spacing * (taps - 1) - padding
        pads.append((low, low + output_padding))
    return lax.conv_general_dilated(
        images,
        kernel[::-1, ::-1],
        (1, 1),
        pads,
        lhs_dilation=strides,
        rhs_dilation=dilation,
        dimension_numbers=_LAYOUT,
    )


def _library(
    images: Array,
    kernel: Array,
    strides: tuple[int, int],
    pads: Pads,
    dilation: tuple[int, int],
    groups: int = 1,
) -> Array:
    return lax.conv_general_dilated(
        images,
        kernel,
        strides,
        pads,
        rhs_dilation=dilation,
        dimension_numbers=_LAYOUT,
        feature_group_count=groups,
    )


def _patches(
    images: Array,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    pads: Pads,
    dilation: tuple[int, int],
    output: tuple[int, int],
) -> Array:
    """Every window as one row: [n, h2, w2, kh * kw * c]."""
    padded = jnp.pad(images, ((0, 0), *pads, (0, 0)))
    ends = [(m - 1) * s + 1 for m, s in zip(output, strides, strict=True)]
    windows = [
        padded[:, i : i + ends[0] : strides[0], j : j + ends[1] : strides[1]]
        for i in range(0, kernel[0] * dilation[0], dilation[0])
        for j in range(0, kernel[1] * dilation[1], dilation[1])
    ]
    return jnp.concatenate(windows, axis=-1)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _canonical(
    strides: tuple[int, int], pads: Pads, dilation: tuple[int, int], images: Array, kernel: Array
) -> Array:
    return _library(images, kernel, strides, pads, dilation)


def _canonical_forward(strides, pads, dilation, images, kernel):
    return _library(images, kernel, strides, pads, dilation), (images, kernel)


def _canonical_backward(strides, pads, dilation, residuals, g):
    images, kernel = residuals
    extent = [d * (k - 1) + 1 for k, d in zip(kernel.shape[:2], dilation, strict=True)]
    axes = list(zip(images.shape[1:3], g.shape[1:3], extent, strides, pads, strict=True))
    # The gradient by the images: the cotangent, dilated by the strides, with the kernel turned
    # by 180 degrees and its two channel axes swapped.
    turned = jnp.swapaxes(kernel[::-1, ::-1], 2, 3)
    around = [(e - 1 - p[0], n - ((m - 1) * s + 1) + p[0]) for n, m, e, s, p in axes]
    images_bar = lax.conv_general_dilated(
        g,
        turned,
        (1, 1),
        around,
        lhs_dilation=strides,
        rhs_dilation=dilation,
        dimension_numbers=_LAYOUT,
    )
    # The gradient by the kernel: channels as batch, batch as channels, the cotangent as kernel.
    around = [(p[0], (m - 1) * s + e - n - p[0]) for n, m, e, s, p in axes]
    kernel_bar = lax.conv_general_dilated(
        jnp.transpose(images, (3, 1, 2, 0)),
        jnp.transpose(g, (1, 2, 0, 3)),
        dilation,
        around,
        rhs_dilation=strides,
        dimension_numbers=_LAYOUT,
    )
    return images_bar, jnp.transpose(kernel_bar, (1, 2, 0, 3))


_canonical.defvjp(_canonical_forward, _canonical_backward)
