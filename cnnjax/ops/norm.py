"""Normalisation without parameters."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.core.errors import Refused

ALPHA = 1e-4  # Krizhevsky et al. 2012, section 3.3


def check_lrn(used: bool, alpha: float) -> None:
    """Refuse a strength of what a network does not have."""
    if not used and alpha != ALPHA:
        raise Refused(f"lrn_alpha={alpha} has no effect: lrn is false")


def local_response_norm(
    images: Float[Array, "n h w c"],
    size: int = 5,
    alpha: float = ALPHA,
    beta: float = 0.75,
    k: float = 2.0,
    *,
    mean: bool = False,
) -> Float[Array, "n h w c"]:
    """x / (k + alpha sum x'^2)^beta, x' being `size` neighbours across channels, x among them.

    Krizhevsky et al. 2012, section 3.3, with its constants. `mean`: alpha is divided by `size`, as
    PyTorch and Caffe have it.
    """
    squares = jnp.pad(images**2, ((0, 0), (0, 0), (0, 0), (size // 2, (size - 1) // 2)))
    channels = images.shape[-1]
    total = squares[..., :channels]
    for shift in range(1, size):  # slices: a window over the last axis is slow on CPU
        total = total + squares[..., shift : shift + channels]
    return images / (k + (alpha / size if mean else alpha) * total) ** beta
