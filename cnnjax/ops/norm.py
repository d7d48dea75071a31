"""Normalisation without parameters."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def local_response_norm(
    images: Float[Array, "n h w c"],
    size: int = 5,
    alpha: float = 1e-4,
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
