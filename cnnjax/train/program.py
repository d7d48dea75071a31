"""The two programs that a run compiles: some steps within an epoch, and one evaluation batch.

Seeds, positions, rates and data are arguments, so one compiled program serves every seed, every
schedule and every way of cutting a run into pieces, with the same bits.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from cnnjax.data.augment import augment, normalize
from cnnjax.data.order import epoch_order
from cnnjax.tasks.state import TrainState, set_hyperparams
from cnnjax.tasks.task import Metrics, Task
from cnnjax.train.placement import Placement

Source = dict[str, Array]  # images uint8, labels, mean image, max_value: the set on the device


def train_steps(
    task: Task,
    placement: Placement,
    augmentation: str,
    batch_size: int,
    state: TrainState,
    metrics: Metrics,
    source: Source,
    keys: dict[str, Array],
    epoch: Array,
    first: Array,
    last: Array,
    rates: Array,
) -> tuple[TrainState, Metrics]:
    """Steps first .. last - 1 of an epoch; ends early at the first step that is not finite.

    Args:
      state: packed, before step `first`.
      metrics: the epoch's sums so far; the steps' are added.
      keys: one for each random stream.
      epoch: counts from 0.
      rates: the learning rate at each step of the epoch.
    """
    order = epoch_order(keys["order"], epoch, len(source["labels"]))
    dropout = jax.random.fold_in(keys["dropout"], epoch)

    def goes_on(carry: Any) -> Array:
        index, _, sums = carry
        return (index < last) & (jnp.sum(sums["nonfinite"]) == 0)

    def step(carry: Any) -> Any:
        index, state, sums = carry
        indices = placement.local(
            jax.lax.dynamic_slice_in_dim(order, index * batch_size, batch_size)
        )
        images = normalize(source["images"][indices], source["mean"], source["max_value"])
        images = augment(augmentation, images, keys["augment"], epoch, indices)
        labels = source["labels"][indices]
        batch = {"images": images, "labels": labels, "mask": jnp.ones(labels.shape)}
        state = set_hyperparams(state, learning_rate=rates[index])
        key = jax.random.fold_in(dropout, index)
        state, new = task.train_step(state, batch, key, placement.reduce)
        return index + 1, state, jax.tree.map(jnp.add, sums, placement.merge(new))

    _, state, metrics = jax.lax.while_loop(goes_on, step, (first, state, metrics))
    return state, metrics


def evaluate_batch(
    task: Task,
    placement: Placement,
    state: TrainState,
    batch: dict[str, Array],
    source: Source,
) -> Metrics:
    """Sums over one stored batch (uint8 images, labels, mask)."""
    images = normalize(batch["images"], source["mean"], source["max_value"])
    return placement.merge(task.eval_step(state, {**batch, "images": images}))
