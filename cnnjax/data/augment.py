"""From stored bytes to what the network sees, in pure JAX.

Each example is augmented by its own key, folded from (seed, epoch, its index in the set): not by
its place in a batch, so another batch size or another number of devices shows the same images.
Mixing needs two examples, and so a batch: its key is the batch's first index.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

PAD = 4  # pixels on each side (He et al. 2015, section 4.2)
# Names of further streams of an example. Not small numbers: split(key)[1] is fold_in(key, 1).
_COLOUR, _MIX = zlib.crc32(b"pca_colour"), zlib.crc32(b"mix")


@dataclass(frozen=True)
class Augmentation:
    """What happens on the device while training; see `core.recipe.Data`."""

    name: Literal["none", "pad_crop_flip"] = "none"
    pca_colour: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0


def normalize(
    images: UInt8[Array, "n h w c"],
    mean: Float[Array, "#h #w c"],
    max_value: Float[Array, ""],
    deviation: Float[Array, " c"] | None = None,
) -> Float[Array, "n h w c"]:
    """Bytes to floats: 0 to 1, minus the mean, divided by the deviation of each channel."""
    centred = images.astype(jnp.float32) / max_value - mean[None]
    return centred if deviation is None else centred / deviation[None, None, None]


def augment(
    how: Augmentation,
    images: Float[Array, "n h w c"],
    key: PRNGKeyArray,
    epoch: Int[Array, ""] | int,
    indices: Int[Array, " n"],
    colours: Float[Array, "c c"] | None = None,
) -> Float[Array, "n h w c"]:
    """Augment normalised images one by one.

    Args:
      key: of stream "augment".
      epoch: counts from 0.
      indices: of each image in the training set.
      colours: the principal components of colour, each times the square root of its variance, as
        columns; needed for pca_colour.
    """
    if how.name == "none" and not how.pca_colour:
        return images
    epoch_key = jax.random.fold_in(key, epoch)
    keys = jax.vmap(lambda index: jax.random.fold_in(epoch_key, index))(indices)
    if how.name == "pad_crop_flip":
        images = jax.vmap(pad_crop_flip)(images, keys)
    if how.pca_colour:
        assert colours is not None, "pca_colour needs the components of colour"
        images = jax.vmap(pca_colour, (0, 0, None, None))(images, keys, colours, how.pca_colour)
    return images


def pad_crop_flip(image: Float[Array, "h w c"], key: PRNGKeyArray) -> Float[Array, "h w c"]:
    """Pad 4 with zeros, crop at random, flip at random (He et al. 2015, section 4.2).

    The mean is subtracted before padding, so zero is the mean's grey.
    """
    offset_key, flip_key = jax.random.split(key)
    top, left = jax.random.randint(offset_key, (2,), 0, 2 * PAD + 1)
    padded = jnp.pad(image, ((PAD, PAD), (PAD, PAD), (0, 0)))
    cropped = lax.dynamic_slice(padded, (top, left, 0), image.shape)
    return jnp.where(jax.random.bernoulli(flip_key), cropped[:, ::-1], cropped)


def pca_colour(
    image: Float[Array, "h w c"],
    key: PRNGKeyArray,
    colours: Float[Array, "c c"],
    deviation: float,
) -> Float[Array, "h w c"]:
    """Add one colour to the whole image: components x N(0, deviation) (Krizhevsky et al. 2012,
    section 4.1)."""
    amounts = deviation * jax.random.normal(jax.random.fold_in(key, _COLOUR), colours.shape[:1])
    return image + (colours @ amounts)[None, None]


def mix(how: Augmentation, batch: Mapping[str, Array], key: PRNGKeyArray) -> dict[str, Array]:
    """A batch with mixup or cutmix: each image with the one at the mirrored place.

    The batch gets `other_labels` and `other_share`, by which the loss is split.

    Args:
      key: of the batch's first example.
    """
    if not how.mixup and not how.cutmix:
        return dict(batch)
    choose, draw = jax.random.split(jax.random.fold_in(key, _MIX))
    if how.mixup and how.cutmix:
        images, share = lax.cond(
            jax.random.bernoulli(choose),
            lambda: _mixup(batch["images"], draw, how.mixup),
            lambda: _cutmix(batch["images"], draw, how.cutmix),
        )
    elif how.mixup:
        images, share = _mixup(batch["images"], draw, how.mixup)
    else:
        images, share = _cutmix(batch["images"], draw, how.cutmix)
    other = {"other_labels": batch["labels"][::-1], "other_share": share}
    return {**batch, "images": images, **other}


def _mixup(images: Array, key: PRNGKeyArray, alpha: float) -> tuple[Array, Array]:
    """Images mixed linearly (Zhang et al. 2018, equation 1), and the share of the other one."""
    share = 1 - jax.random.beta(key, alpha, alpha)
    return (1 - share) * images + share * images[::-1], share


def _cutmix(images: Array, key: PRNGKeyArray, alpha: float) -> tuple[Array, Array]:
    """A box of the other image pasted in (Yun et al. 2019, section 3.1), and its share."""
    share_key, place_key = jax.random.split(key)
    share = 1 - jax.random.beta(share_key, alpha, alpha)
    size = jnp.asarray(images.shape[1:3])
    half = size * jnp.sqrt(share) / 2
    centre = jax.random.uniform(place_key, (2,)) * size
    low, high = jnp.round(centre - half), jnp.round(centre + half)
    rows, columns = (jnp.arange(n) for n in images.shape[1:3])
    inside = ((rows >= low[0]) & (rows < high[0]))[:, None] & (
        (columns >= low[1]) & (columns < high[1])
    )[None]
    mixed = jnp.where(inside[None, :, :, None], images[::-1], images)
    return mixed, inside.mean(dtype=jnp.float32)


def ten_crops(images: Float[Array, "n h w c"], size: int) -> Float[Array, "n 10 s s c"]:
    """The four corners and the centre, and their flips (Krizhevsky et al. 2012, section 4.1)."""
    free = images.shape[1] - size, images.shape[2] - size
    places = [(0, 0), (0, free[1]), (free[0], 0), free, (free[0] // 2, free[1] // 2)]
    crops = [images[:, top : top + size, left : left + size] for top, left in places]
    return jnp.stack([*crops, *(crop[:, :, ::-1] for crop in crops)], axis=1)
