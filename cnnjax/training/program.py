"""The programs that a run compiles: steps within an epoch, and one evaluation batch.

Seeds, positions, rates and data are arguments, so one compiled program serves every seed, every
schedule and every way of cutting a run into pieces, with the same bits. A set in memory is an
argument too, and many steps are one dispatch; a streamed set hands in a batch for each step.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from cnnjax.data.augment import Augmentation, augment, mix, normalize, ten_crops
from cnnjax.data.order import epoch_order
from cnnjax.tasks.state import TrainState, set_hyperparams
from cnnjax.tasks.task import Metrics, Task
from cnnjax.training.placement import Placement

# What normalises images (see `data.normalization`) and, in memory, the training `examples`.
Source = dict[str, Any]


def train_steps(
    task: Task,
    placement: Placement,
    augmentation: Augmentation,
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
    order = epoch_order(keys["order"], epoch, len(source["examples"]["images"]))

    def goes_on(carry: Any) -> Array:
        index, _, sums = carry
        return (index < last) & (jnp.sum(sums["nonfinite"]) == 0)

    def step(carry: Any) -> Any:
        index, state, sums = carry
        indices = placement.local(
            jax.lax.dynamic_slice_in_dim(order, index * batch_size, batch_size)
        )
        batch = {name: array[indices] for name, array in source["examples"].items()}
        batch |= {"mask": jnp.ones(indices.shape, jnp.float32), "indices": indices}
        state, new = _step(
            task, placement, augmentation, state, batch, source, keys, epoch, index, rates[index]
        )
        return index + 1, state, jax.tree.map(jnp.add, sums, new)

    _, state, metrics = jax.lax.while_loop(goes_on, step, (first, state, metrics))
    return state, metrics


def train_batch(
    task: Task,
    placement: Placement,
    augmentation: Augmentation,
    state: TrainState,
    metrics: Metrics,
    source: Source,
    keys: dict[str, Array],
    epoch: Array,
    index: Array,
    rate: Array,
    batch: dict[str, Array],
) -> tuple[TrainState, Metrics]:
    """Step `index` of an epoch on a replica's part of a stored batch; nothing more after one that
    was not finite."""
    new_state, new = _step(
        task, placement, augmentation, state, batch, source, keys, epoch, index, rate
    )
    good = jnp.sum(metrics["nonfinite"]) == 0
    state = jax.tree.map(lambda n, o: jnp.where(good, n, o), new_state, state)
    return state, jax.tree.map(lambda total, n: total + jnp.where(good, n, 0), metrics, new)


def evaluate_batch(
    task: Task,
    placement: Placement,
    crops: int,
    outputs: bool,
    state: TrainState,
    batch: dict[str, Array],
    source: Source,
) -> tuple[Metrics, dict[str, Array]]:
    """Sums over one stored batch (uint8 images), of one view or ten crops each, and `outputs`.

    A replica has its part of the batch; the sums are of all, the outputs its own.
    """
    images = normalized(batch["images"], source)
    if crops == 10:
        images = ten_crops(images, task.data.image_shape[0])
    sums, found = task.eval_step(state, {**batch, "images": images}, outputs)
    return placement.sum(sums), found


def _step(
    task: Task,
    placement: Placement,
    augmentation: Augmentation,
    state: TrainState,
    batch: dict[str, Array],
    source: Source,
    keys: dict[str, Array],
    epoch: Array,
    index: Array,
    rate: Array,
) -> tuple[TrainState, Metrics]:
    """One update on a replica's part of a stored batch."""
    batch = {**batch, "images": normalized(batch["images"], source)}
    batch = augment(augmentation, batch, keys["augment"], epoch, source.get("colours"))
    batch = mix(augmentation, batch, keys["augment"], epoch)
    state = set_hyperparams(state, learning_rate=rate)
    key = jax.random.fold_in(jax.random.fold_in(keys["dropout"], epoch), index)
    state, sums = task.train_step(state, batch, key, placement)
    return state, placement.sum(sums)


def normalized(images: Array, source: Source) -> Array:
    """Stored images (uint8) as the network takes them."""
    return normalize(images, source["mean"], source["max_value"], source.get("deviation"))
