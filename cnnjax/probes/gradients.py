"""How gradients travel through a network.

The lecture blames vanishing or exploding gradients for the failure of deep plain networks; He et
al. 2015, section 4.1, hold against it that batch normalisation keeps them of healthy size.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from cnnjax.probes.layers import by_path, each_call, layer_names
from cnnjax.probes.registry import register_probe
from cnnjax.tasks.network import NetworkTask
from cnnjax.tasks.state import TrainState
from cnnjax.tasks.task import Batch

_TINY = 1.2e-38  # float32's smallest normal number
_ADDED = "perturbations"  # flax's collection for gradients of what is inside


@register_probe
def gradient_norm(task: NetworkTask, state: TrainState, batch: Batch) -> dict[str, Array]:
    """L2 norm of each example's loss gradient with respect to its image ("images") and to the
    output of each part of the network, mean over the examples."""
    gradients = _gradients(task, state, batch)
    return {name: jnp.mean(_norms(gradient)) for name, gradient in gradients.items()}


@register_probe
def gradient_attenuation(task: NetworkTask, state: TrainState, batch: Batch) -> Float[Array, ""]:
    """log10 of how many times smaller the loss gradient is at the output of the first part of the
    network than at that of the last feature map: 0 where none is lost, above 0 where gradients
    vanish on their way, below 0 where they explode. A norm below 1e-38 counts as that."""
    gradients = _gradients(task, state, batch)
    maps = [g for name in _parts(task) if (g := gradients.get(name)) is not None and g.ndim == 4]
    if len(maps) < 2:
        raise ValueError("the network has fewer than two parts that give feature maps")
    first, last = (jnp.maximum(jnp.mean(_norms(one)), _TINY) for one in (maps[0], maps[-1]))
    return jnp.log10(last) - jnp.log10(first)


@register_probe
def weight_gradient_norm(task: NetworkTask, state: TrainState, batch: Batch) -> dict[str, Array]:
    """L2 norm of the gradient of the mean loss with respect to the parameters of each part of the
    network, over the L2 norm of these parameters."""

    def loss(params: Any) -> Array:
        return jnp.mean(task.looked_at(state.replace(params=params), batch)[0])

    gradients = jax.grad(loss)(state.params)
    return {
        name: _length(gradients[name]) / jnp.maximum(_length(state.params[name]), _TINY)
        for name in gradients
    }


def _parts(task: NetworkTask) -> list[str]:
    return [name for name in layer_names(task) if "/" not in name]


def _gradients(task: NetworkTask, state: TrainState, batch: Batch) -> dict[str, Array]:
    """Each example's gradient with respect to its image and to the output of each part."""

    def meet(module: nn.Module, output: Any, depth: int) -> Any:
        return module.perturb("output", output) if depth == 1 and _is_array(output) else output

    def total(added: Any, images: Array) -> Array:
        with each_call(meet):
            losses, _ = task.looked_at(state, {**batch, "images": images}, {_ADDED: added})
        return jnp.sum(losses)

    def shapes() -> Any:
        with each_call(meet):
            return task.looked_at(state, batch, mutable=[_ADDED])[1].get(_ADDED, {})

    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(shapes))
    added, images = jax.grad(total, argnums=(0, 1))(nothing, batch["images"])
    return {"images": images, **by_path(added, "output")}


def _is_array(output: Any) -> bool:
    return hasattr(output, "ndim") and jnp.issubdtype(output.dtype, jnp.inexact)


def _norms(gradient: Array) -> Float[Array, " n"]:
    return jnp.sqrt(jnp.sum(gradient.reshape(len(gradient), -1) ** 2, axis=1))


def _length(tree: Any) -> Float[Array, ""]:
    return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)))
