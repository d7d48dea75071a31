"""Dropout whose noise belongs to the example, not to its place in a batch."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from cnnjax.core.errors import Refused
from cnnjax.layers.context import example_keys


class Dropout(nn.Module):
    """Drop each value with probability `rate` and scale the others by 1 / (1 - rate).

    Srivastava et al. 2014, in the form that leaves evaluation as it is. Each example has a key of
    its own, from the step's and its index in the training set: however a batch is split over
    devices, an example loses the same values.
    """

    rate: float

    def __post_init__(self):
        if not 0 <= self.rate <= 1:
            raise Refused(f"dropout={self.rate}: 0 to 1")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[Array, "n ..."], *, deterministic: bool) -> Float[Array, "n ..."]:
        if deterministic or self.rate == 0:
            return x
        if self.rate == 1:
            return jnp.zeros_like(x)
        keep = 1 - self.rate
        keys = example_keys(self.make_rng("dropout"), len(x))
        mask = jax.vmap(lambda key: jax.random.bernoulli(key, keep, x.shape[1:]))(keys)
        return jnp.where(mask, x / keep, jnp.zeros((), x.dtype))
