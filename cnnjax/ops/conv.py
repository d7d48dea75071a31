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
Padding = tuple[tuple[int, int], tuple[int, int]]  # ((top, bottom), (left, right)) in pixels

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_IM2COL_MAP = 4  # pixels; larger maps favour the library's convolution
_forced: ContextVar[Formulation | None] = ContextVar("formulation", default=None)


def output_size(size: int, kernel_size: int, strides: int, padding: tuple[int, int]) -> int:
    """Output length of a convolution along one axis, in pixels.

    floor((size + padding - kernel_size) / strides) + 1 (Dumoulin & Visin 2016, relation 6).

    Raises:
      Refused: the kernel does not fit into the padded input.
    """
    padded = size + sum(padding)
    if padded < kernel_size:
        raise Refused(
            f"a kernel of {kernel_size} px does not fit {size} px padded by {padding};"
            f" use images of {kernel_size - sum(padding)} px or more"
        )
    return (padded - kernel_size) // strides + 1


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
    output: tuple[int, int], kernel: tuple[int, int], padding: Padding, backend: str
) -> Formulation:
    """The formulation for an output map and a kernel of so many pixels on a backend."""
    if backend != "cpu":
        return "library"
    if kernel == (1, 1) and padding == ((0, 0), (0, 0)):
        return "product"
    if max(output) <= _IM2COL_MAP:
        return "im2col"
    return "canonical"


def conv(
    images: Float[Array, "n h w c"],
    kernel: Float[Array, "kh kw c f"],
    *,
    strides: tuple[int, int] = (1, 1),
    padding: Padding = ((0, 0), (0, 0)),
) -> Float[Array, "n h2 w2 f"]:
    """Cross-correlation of `images` with `kernel`; no bias.

    Raises:
      Refused: the kernel does not fit into the padded images.
    """
    size = kernel.shape[0], kernel.shape[1]
    output = (
        output_size(images.shape[1], size[0], strides[0], padding[0]),
        output_size(images.shape[2], size[1], strides[1], padding[1]),
    )
    form = _forced.get() or choose(output, size, padding, jax.default_backend())
    if form == "library":
        return _library(images, kernel, strides, padding)
    if form == "canonical":
        return _canonical(strides, padding, images, kernel)
    if form == "product":
        return lax.dot_general(
            images[:, :: strides[0], :: strides[1]], kernel[0, 0], (((3,), (0,)), ((), ()))
        )
    patches = _patches(images, size, strides, padding, output)
    return lax.dot_general(patches, kernel.reshape(-1, kernel.shape[-1]), (((3,), (0,)), ((), ())))


def _library(images: Array, kernel: Array, strides: tuple[int, int], padding: Padding) -> Array:
    return lax.conv_general_dilated(images, kernel, strides, padding, dimension_numbers=_LAYOUT)


def _patches(
    images: Array,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    padding: Padding,
    output: tuple[int, int],
) -> Array:
    """Every window as one row: [n, h2, w2, kh * kw * c]."""
    padded = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    ends = [(m - 1) * s + 1 for m, s in zip(output, strides, strict=True)]
    windows = [
        padded[:, i : i + ends[0] : strides[0], j : j + ends[1] : strides[1]]
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]
    return jnp.concatenate(windows, axis=-1)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _canonical(strides: tuple[int, int], padding: Padding, images: Array, kernel: Array) -> Array:
    return _library(images, kernel, strides, padding)


def _canonical_forward(strides, padding, images, kernel):
    return _library(images, kernel, strides, padding), (images, kernel)


def _canonical_backward(strides, padding, residuals, g):
    images, kernel = residuals
    size = kernel.shape[:2]
    axes = list(zip(images.shape[1:3], g.shape[1:3], size, strides, padding, strict=True))
    # The gradient by the images: the cotangent, dilated by the strides, with the kernel turned
    # by 180 degrees and its two channel axes swapped.
    turned = jnp.swapaxes(kernel[::-1, ::-1], 2, 3)
    pads = [(k - 1 - p[0], n - ((m - 1) * s + 1) + p[0]) for n, m, k, s, p in axes]
    images_bar = lax.conv_general_dilated(
        g, turned, (1, 1), pads, lhs_dilation=strides, dimension_numbers=_LAYOUT
    )
    # The gradient by the kernel: channels as batch, batch as channels, the cotangent as kernel.
    pads = [(p[0], (m - 1) * s + k - n - p[0]) for n, m, k, s, p in axes]
    kernel_bar = lax.conv_general_dilated(
        jnp.transpose(images, (3, 1, 2, 0)),
        jnp.transpose(g, (1, 2, 0, 3)),
        (1, 1),
        pads,
        rhs_dilation=strides,
        dimension_numbers=_LAYOUT,
    )
    return images_bar, jnp.transpose(kernel_bar, (1, 2, 0, 3))


_canonical.defvjp(_canonical_forward, _canonical_backward)
