"""Boxes around what hangs together: proposals without any class, nor anything learnt."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cnnjax.ops.pool import max_pool


def connected_components(mask: Bool[Array, "n h w"]) -> Int[Array, "n h w"]:
    """A number for each component of 8 neighbours: 1 + the place of its last pixel in reading
    order; 0 where the mask is False.

    Each round takes the largest number among the neighbours, and then the number that has come to
    where the own one points: a few rounds, however long the component winds.
    """
    count, height, width = mask.shape
    start = jnp.where(mask, jnp.arange(1, height * width + 1).reshape(1, height, width), 0)

    def once(numbers: Array) -> Array:
        # As float32 numbers are exact to 2^24 pixels.
        near = max_pool(numbers[..., None].astype(jnp.float32), 3, 1, padding=1)[..., 0]
        near = jnp.where(mask, near.astype(int), 0).reshape(count, -1)
        there = jnp.take_along_axis(near, jnp.maximum(near - 1, 0), axis=1)
        return jnp.maximum(near, jnp.where(near > 0, there, 0)).reshape(mask.shape)

    def goes_on(carry: tuple[Array, Array]) -> Array:
        return jnp.any(carry[0] != carry[1])

    def step(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        return carry[1], once(carry[1])

    return jax.lax.while_loop(goes_on, step, (start, once(start)))[1]


def component_boxes(
    numbers: Int[Array, "h w"], most: int, smallest: int
) -> tuple[Float[Array, "{most} 4"], Bool[Array, " {most}"]]:
    """Corners of the components of one image with most pixels, and where there is one.

    Args:
      smallest: pixels that a component has at least.
    """
    height, width = numbers.shape
    flat = numbers.reshape(-1)
    rows, columns = jnp.divmod(jnp.arange(height * width), width)
    count = height * width + 1
    pixels = jax.ops.segment_sum(jnp.ones(len(flat), int), flat, count).at[0].set(0)
    size, which = jax.lax.top_k(pixels, most)

    def extent(places: Array) -> tuple[Array, Array]:
        low = jax.ops.segment_min(places, flat, count)[which]
        return low, jax.ops.segment_max(places, flat, count)[which] + 1

    (left, right), (top, bottom) = extent(columns), extent(rows)
    there = size >= smallest
    corners = jnp.stack([left, top, right, bottom], axis=-1)
    return jnp.where(there[:, None], corners, 0).astype(float), there
