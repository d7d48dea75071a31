"""Dropout whose noise belongs to the example, not to its place in a batch."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from cnnjax.layers.context import context


class Dropout(nn.Module):
    """Drop each value with probability `rate` and scale the others by 1 / (1 - rate).

    Srivastava et al. 2014, in the form that leaves evaluation as it is. Each example has a key of
    its own, from the step's and its index in the training set: however a batch is split over
    devices, an example loses the same values.
    """

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "n ..."], *, deterministic: bool) -> Float[Array, "n ..."]:
        if deterministic or self.rate == 0:
            return x
        if self.rate == 1:
            return jnp.zeros_like(x)
        indices = context().indices
        indices = jnp.arange(len(x)) if indices is None else indices
        key, keep = self.make_rng("dropout"), 1 - self.rate

        def mask(index: Array) -> Array:
            return jax.random.bernoulli(jax.random.fold_in(key, index), keep, x.shape[1:])

        return jnp.where(jax.vmap(mask)(indices), x / keep, jnp.zeros((), x.dtype))
