"""From stored bytes to what the network sees, in pure JAX.

Each example is augmented by its own key, folded from (seed, epoch, its index in the set): not by
its place in a batch, so another batch size or another number of devices shows the same images.
Mixing needs two examples: neighbours in the batch, each with a share of its own.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray, Shaped, UInt8

OnDevice = Literal["none", "pad_crop_flip", "pad_crop", "flip"]
ON_DEVICE: tuple[OnDevice, ...] = get_args(OnDevice)
PAD = 4  # pixels on each side (He et al. 2015, section 4.2)
MAPS_OUTSIDE = {"class_map": 255, "object_map": 0}  # of no class, of no object
# Names of further streams of an example. Not small numbers: split(key)[1] is fold_in(key, 1).
_COLOUR, _MIX = zlib.crc32(b"pca_colour"), zlib.crc32(b"mix")


@dataclass(frozen=True)
class Augmentation:
    """What happens on the device while training; see `core.recipe.Data`."""

    name: OnDevice = "none"
    padding: int = PAD
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
    centred = images.astype(float) / max_value - mean[None]
    return centred if deviation is None else centred / deviation[None, None, None]


def augment(
    how: Augmentation,
    batch: Mapping[str, Array],
    key: PRNGKeyArray,
    epoch: Int[Array, ""] | int,
    colours: Float[Array, "c c"] | None = None,
) -> dict[str, Array]:
    """Augment the examples of a batch one by one: boxes and maps go where the pixels go.

    Args:
      batch: normalised `images` [n, h, w, c], `indices` [n] in the training set, further fields.
      key: of stream "augment".
      epoch: counts from 0.
      colours: the principal components of colour, each times the square root of its variance, as
        columns; needed for pca_colour.
    """
    batch = dict(batch)
    if how.name == "none" and not how.pca_colour:
        return batch
    epoch_key = jax.random.fold_in(key, epoch)
    keys = jax.vmap(lambda index: jax.random.fold_in(epoch_key, index))(batch["indices"])
    if how.name != "none":
        moved = partial(
            pad_crop_flip,
            padding=0 if how.name == "flip" else how.padding,
            flips=how.name != "pad_crop",
        )
        batch["images"] = jax.vmap(moved)(batch["images"], keys)
        for name, outside in MAPS_OUTSIDE.items():
            if name in batch:
                shifted = jax.vmap(partial(moved, outside=outside))
                batch[name] = shifted(batch[name][..., None], keys)[..., 0]
        if "boxes" in batch:
            size = batch["images"].shape[1:3]
            boxes = partial(_moved_boxes, size=size, **moved.keywords)
            labels = batch.get("box_labels", jnp.zeros(batch["boxes"].shape[:2], jnp.int32))
            batch["boxes"], labels = jax.vmap(boxes)(batch["boxes"], labels, keys)
            batch |= {"box_labels": labels} if "box_labels" in batch else {}
    if how.pca_colour:
        assert colours is not None, "pca_colour needs the components of colour"
        coloured = jax.vmap(pca_colour, (0, 0, None, None))
        batch["images"] = coloured(batch["images"], keys, colours, how.pca_colour)
    return batch


def pad_crop_flip(
    image: Shaped[Array, "h w c"],
    key: PRNGKeyArray,
    padding: int = PAD,
    *,
    flips: bool = True,
    outside: int = 0,
) -> Shaped[Array, "h w c"]:
    """Pad with zeros, crop at random, flip at random (He et al. 2015, section 4.2).

    The mean is subtracted before padding, so zero is the mean's grey. `padding`: in pixels on each
    side; 0: nothing is cropped. `outside`: of a map of classes, what it is padded with.
    """
    top, left, flipped = _drawn(key, padding)
    cropped = image
    if padding:
        around = ((padding, padding), (padding, padding), (0, 0))
        padded = jnp.pad(image, around, constant_values=outside)
        cropped = lax.dynamic_slice(padded, (top, left, 0), image.shape)
    if not flips:
        return cropped
    return jnp.where(flipped, cropped[:, ::-1], cropped)


def _drawn(key: PRNGKeyArray, padding: int) -> tuple[Array, Array, Array]:
    """First row and column of the crop in the padded image, and whether it is mirrored."""
    offset_key, flip_key = jax.random.split(key)
    top, left = jax.random.randint(offset_key, (2,), 0, 2 * padding + 1)
    return top, left, jax.random.bernoulli(flip_key)


def _moved_boxes(
    boxes: Float[Array, "m 4"],
    labels: Int[Array, " m"],
    key: PRNGKeyArray,
    *,
    size: tuple[int, int],
    padding: int,
    flips: bool,
) -> tuple[Float[Array, "m 4"], Int[Array, " m"]]:
    """Boxes as `pad_crop_flip` moves the pixels below them, cut to the image; one whose centre is
    cut off is none any more (-1)."""
    height, width = size
    top, left, flipped = _drawn(key, padding)
    x, y, x2, y2 = (boxes - jnp.tile(jnp.stack([left, top]) - padding, 2)[None]).T
    mirrored = flipped & flips
    x, x2 = jnp.where(mirrored, width - x2, x), jnp.where(mirrored, width - x, x2)
    middle = (x + x2) / 2, (y + y2) / 2
    inside = (middle[0] >= 0) & (middle[0] <= width) & (middle[1] >= 0) & (middle[1] <= height)
    kept = inside & (labels >= 0)
    cut = jnp.stack([x.clip(0, width), y.clip(0, height), x2.clip(0, width), y2.clip(0, height)], 1)
    return jnp.where(kept[:, None], cut, 0), jnp.where(kept, labels, -1)


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


def mix(
    how: Augmentation,
    batch: Mapping[str, Array],
    key: PRNGKeyArray,
    epoch: Int[Array, ""] | int,
) -> dict[str, Array]:
    """A batch with mixup or cutmix: each image with its neighbour, places 2k and 2k + 1.

    The batch gets `other_labels` and `other_share` [n], by which the loss is split. An image's
    share is drawn from its own key, so that a batch may be split over devices by whole pairs; the
    last image of an odd batch stays as it is.

    Args:
      key: of stream "augment".
      epoch: counts from 0.
    """
    if not how.mixup and not how.cutmix:
        return dict(batch)
    count = len(batch["images"])
    pairs = jnp.arange(count) ^ 1
    other = jnp.where(pairs < count, pairs, jnp.arange(count))
    epoch_key = jax.random.fold_in(key, epoch)

    def one(index: Array, image: Array, partner: Array) -> tuple[Array, Array]:
        own = jax.random.fold_in(jax.random.fold_in(epoch_key, index), _MIX)
        choose, draw = jax.random.split(own)
        if how.mixup and how.cutmix:
            return lax.cond(
                jax.random.bernoulli(choose),
                lambda: _mixup(image, partner, draw, how.mixup),
                lambda: _cutmix(image, partner, draw, how.cutmix),
            )
        if how.mixup:
            return _mixup(image, partner, draw, how.mixup)
        return _cutmix(image, partner, draw, how.cutmix)

    images, share = jax.vmap(one)(batch["indices"], batch["images"], batch["images"][other])
    mixed = {"other_labels": batch["labels"][other], "other_share": share}
    return {**batch, "images": images, **mixed}


def _mixup(
    image: Float[Array, "h w c"], partner: Float[Array, "h w c"], key: PRNGKeyArray, alpha: float
) -> tuple[Array, Array]:
    """Two images mixed linearly (Zhang et al. 2018, equation 1), and the share of the other."""
    share = 1 - jax.random.beta(key, alpha, alpha)
    return (1 - share) * image + share * partner, share


def _cutmix(
    image: Float[Array, "h w c"], partner: Float[Array, "h w c"], key: PRNGKeyArray, alpha: float
) -> tuple[Array, Array]:
    """A box of the other image pasted in (Yun et al. 2019, section 3.1), and its share."""
    share_key, place_key = jax.random.split(key)
    share = 1 - jax.random.beta(share_key, alpha, alpha)
    size = jnp.asarray(image.shape[:2])
    half = size * jnp.sqrt(share) / 2
    centre = jax.random.uniform(place_key, (2,)) * size
    low, high = jnp.round(centre - half), jnp.round(centre + half)
    rows, columns = (jnp.arange(n) for n in image.shape[:2])
    inside = ((rows >= low[0]) & (rows < high[0]))[:, None] & (
        (columns >= low[1]) & (columns < high[1])
    )[None]
    mixed = jnp.where(inside[:, :, None], partner, image)
    return mixed, inside.mean(dtype=float)


def ten_crops(images: Float[Array, "n h w c"], size: int) -> Float[Array, "n 10 s s c"]:
    """The four corners and the centre, and their flips (Krizhevsky et al. 2012, section 4.1)."""
    free = images.shape[1] - size, images.shape[2] - size
    places = [(0, 0), (0, free[1]), (free[0], 0), free, (free[0] // 2, free[1] // 2)]
    crops = [images[:, top : top + size, left : left + size] for top, left in places]
    return jnp.stack([*crops, *(crop[:, :, ::-1] for crop in crops)], axis=1)
