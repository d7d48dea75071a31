"""Which examples a batch holds: a pure function of (seed, epoch, index).

There is no iterator and so no iterator state: to resume is arithmetic.
"""

import math
from collections.abc import Iterator

import jax
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

from cnnjax.core.errors import Refused
from cnnjax.core.place import Place
from cnnjax.core.recipe import Recipe
from cnnjax.data.dataset import Examples

MOST_STEPS = 10**8  # a rate is kept for each; 64k are the paper's


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Whole batches in an epoch; the ragged rest is left out (another one each epoch).

    Raises:
      Refused: a batch is larger than the training set.
    """
    if batch_size > examples:
        raise Refused(
            f"batch_size={batch_size} exceeds the {examples:,} training examples;"
            f" set batch_size to {examples} or less"
        )
    return examples // batch_size


def total_steps(recipe: Recipe, examples: int) -> int:
    """Updates in a run over a training set of so many examples.

    Raises:
      Refused: more than `MOST_STEPS`, or a batch is larger than the set.
    """
    per_epoch = steps_per_epoch(examples, recipe.batch_size)
    steps = recipe.steps or recipe.epochs * per_epoch
    if steps > MOST_STEPS:
        given = f"steps={recipe.steps}" if recipe.steps else f"epochs={recipe.epochs}"
        raise Refused(f"{given}: a run of {steps:,} steps; it has {MOST_STEPS:,} at most")
    return steps


def check_batch(place: Place, recipe: Recipe) -> None:
    """Refuse a batch that does not divide over the replicas, or into the groups of batch
    normalisation.

    Args:
      place: resolved.
    """
    size, replicas, parts = recipe.batch_size, place.replicas, place.parts
    in_turn = recipe.compute.accumulate
    pairs = bool(recipe.data.mixup or recipe.data.cutmix) and parts > 1
    unit = math.lcm(replicas * in_turn, 2 * replicas if pairs else 1)
    if rest := size % unit:
        near = " or ".join(str(one) for one in (size - rest, size - rest + unit) if one)
        what = " by whole pairs, which data.mixup and data.cutmix mix" if pairs else ""
        over = [f"over {replicas} replicas"] * (replicas > 1)
        over += [f"into compute.accumulate={in_turn} parts"] * (in_turn > 1)
        raise Refused(
            f"batch_size={size} does not divide {' and '.join(over)}{what}; set batch_size to"
            f" {near}"
        )
    group = recipe.compute.batch_norm_group
    share = size // (replicas * in_turn if in_turn > 1 else parts)
    if group is not None and share % group:
        fit = [str(one) for one in range(2, share + 1) if share % one == 0]
        whose = "a part's " if in_turn > 1 else "a replica's " if parts > 1 else ""
        raise Refused(
            f"compute.batch_norm_group={group} does not divide {whose}{share} examples; give"
            f" {', '.join(fit) or 'none: one example has no statistics'}"
        )


def epoch_order(key: PRNGKeyArray, epoch: Int[Array, ""] | int, examples: int) -> Int[Array, " n"]:
    """The permutation of the training set in an epoch, from the key of stream "order"."""
    return jax.random.permutation(jax.random.fold_in(key, epoch), examples)


def evaluation_batches(
    examples: Examples, batch_size: int, rows: slice = slice(None)
) -> Iterator[dict[str, np.ndarray]]:
    """Every example exactly once, in batches of one shape: every field, `mask` and `indices`.

    `mask` is 0 on the padding; `indices` are the places in the split, int32, 0 on the padding.

    Args:
      rows: of each batch, those that are given.
    """
    for start in range(0, len(examples), batch_size):
        whole = np.arange(start, start + batch_size, dtype=np.int32)[rows]
        indices = whole[whole < len(examples)]
        stored = {
            name: examples.arrays[name][indices].astype(field.dtype, copy=False)
            for name, field in examples.fields.items()
        }
        batch = {**stored, "mask": np.ones(len(indices), np.float32), "indices": indices}
        yield {name: _padded(array, len(whole)) for name, array in batch.items()}


def _padded(array: np.ndarray, length: int) -> np.ndarray:
    return np.pad(array, ((0, length - len(array)), *[(0, 0)] * (array.ndim - 1)))
