"""Learning rates over a run, named after their papers; built from optax's schedules."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

from cnnjax.core.recipe import Schedule


@lru_cache(maxsize=64)
def learning_rates(
    schedule: Schedule, learning_rate: float, steps: int
) -> Float[np.ndarray, " steps"]:
    """The learning rate at each step of a run, as float32.

    Args:
      schedule: its positions are fractions of the run.
      learning_rate: the peak.
      steps: the length of the run.
    """
    rates = jax.vmap(optax_schedule(schedule, learning_rate, steps))(jnp.arange(steps))
    return np.asarray(rates, np.float32)


def optax_schedule(schedule: Schedule, learning_rate: float, steps: int) -> optax.Schedule:
    """The schedule as a function of the step."""
    warmup = min(round(schedule.warmup * steps), steps - 1)
    if schedule.name == "cosine":
        if warmup == 0:
            return optax.cosine_decay_schedule(learning_rate, steps)
        return optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup, steps)
    if schedule.name in ("linear", "polynomial"):
        power = schedule.power if schedule.name == "polynomial" else 1.0
        decay = optax.polynomial_schedule(learning_rate, 0.0, power, steps - warmup)
        rise = optax.linear_schedule(0.0, learning_rate, max(warmup, 1))
        return optax.join_schedules([rise, decay], [warmup])
    if schedule.name == "constant":
        if warmup == 0:
            return optax.constant_schedule(learning_rate)
        return optax.linear_schedule(0.0, learning_rate, warmup)
    drops: dict[int, float] = {}
    for boundary in schedule.boundaries:  # in a very short run two may fall on one step
        step = round(boundary * steps)
        drops[step] = 0.1 * drops.get(step, 1.0)
    main = optax.piecewise_constant_schedule(learning_rate, drops)
    if warmup == 0:
        return main
    start = optax.constant_schedule(0.1 * learning_rate)
    return lambda step: jnp.where(jnp.asarray(step) < warmup, start(step), main(step))
