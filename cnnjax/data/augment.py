"""From stored bytes to what the network sees, in pure JAX.

Each example is augmented by its own key, folded from (seed, epoch, its index in the set): not by
its place in a batch, so another batch size or another number of devices shows the same images.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

PAD = 4  # pixels on each side (He et al. 2015, section 4.2)


def normalize(
    images: UInt8[Array, "n h w c"], mean: Float[Array, "h w c"], max_value: Float[Array, ""]
) -> Float[Array, "n h w c"]:
    """Bytes to floats with the per-pixel mean of the training set subtracted."""
    return images.astype(jnp.float32) / max_value - mean[None]


def augment(
    name: str,
    images: Float[Array, "n h w c"],
    key: PRNGKeyArray,
    epoch: Int[Array, ""] | int,
    indices: Int[Array, " n"],
) -> Float[Array, "n h w c"]:
    """Augment normalised images.

    Args:
      name: "none" or "pad_crop_flip".
      key: of stream "augment".
      epoch: counts from 0.
      indices: of each image in the training set.
    """
    if name == "none":
        return images
    if name != "pad_crop_flip":
        raise ValueError(f"no augmentation {name!r}")
    epoch_key = jax.random.fold_in(key, epoch)
    keys = jax.vmap(lambda index: jax.random.fold_in(epoch_key, index))(indices)
    return jax.vmap(pad_crop_flip)(images, keys)


def pad_crop_flip(image: Float[Array, "h w c"], key: PRNGKeyArray) -> Float[Array, "h w c"]:
    """Pad 4 with zeros, crop at random, flip at random (He et al. 2015, section 4.2).

    The mean is subtracted before padding, so zero is the mean's grey.
    """
    offset_key, flip_key = jax.random.split(key)
    top, left = jax.random.randint(offset_key, (2,), 0, 2 * PAD + 1)
    padded = jnp.pad(image, ((PAD, PAD), (PAD, PAD), (0, 0)))
    cropped = lax.dynamic_slice(padded, (top, left, 0), image.shape)
    return jnp.where(jax.random.bernoulli(flip_key), cropped[:, ::-1], cropped)
