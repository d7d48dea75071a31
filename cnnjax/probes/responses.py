"""What layers answer: the size of their responses, and units that no longer answer at all."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from cnnjax.layers.conv_norm import Conv
from cnnjax.layers.lenet import PartialConv
from cnnjax.probes.layers import by_path, each_call
from cnnjax.probes.registry import register_probe
from cnnjax.tasks.network import NetworkTask
from cnnjax.tasks.state import TrainState
from cnnjax.tasks.task import Batch

_SEEN = "seen"  # a collection of our own


@register_probe
def response_deviation(task: NetworkTask, state: TrainState, batch: Batch) -> dict[str, Array]:
    """Standard deviation of the responses of each convolution: after its batch normalisation where
    it has one, before ReLU and addition (He et al. 2015, section 4.2 and figure 7)."""
    found = _of_each(task, state, batch, _is_response, jnp.std)
    normalised = {name for name in found if name.endswith("/norm")}
    # Of a convolution and its normalisation the latter, under the name of both.
    return {
        name.removesuffix("/norm") if name in normalised else name.removesuffix("/conv"): value
        for name, value in found.items()
        if f"{name.removesuffix('/conv')}/norm" not in normalised
    }


@register_probe
def dead_channels(task: NetworkTask, state: TrainState, batch: Batch) -> dict[str, Array]:
    """Share of the channels of each part's feature map that are 0 or less at every place of every
    image: where a ReLU is what comes last, it is dead."""

    def silent(output: Array) -> Array:
        return jnp.mean(jnp.all(output <= 0, axis=(0, 1, 2)).astype(jnp.float32))

    return _of_each(task, state, batch, lambda module, depth: depth == 1, silent)


def _is_response(module: nn.Module, depth: int) -> bool:
    return isinstance(module, Conv | PartialConv | nn.Conv | nn.BatchNorm)


def _of_each(
    task: NetworkTask,
    state: TrainState,
    batch: Batch,
    wanted: Callable[[nn.Module, int], bool],
    measure: Callable[[Array], Array],
) -> dict[str, Array]:
    """`measure` of the feature map that each wanted module gives, by its path."""

    def meet(module: nn.Module, output: Any, depth: int) -> Any:
        if wanted(module, depth) and getattr(output, "ndim", 0) == 4:
            module.sow(_SEEN, "value", measure(output), reduce_fn=lambda old, new: new,
                       init_fn=lambda: jnp.zeros(()))  # fmt: skip
        return output

    with each_call(meet):
        _, seen = task.looked_at(state, batch, mutable=[_SEEN])
    return by_path(seen.get(_SEEN, {}), "value")
