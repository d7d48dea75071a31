"""Where a network looks for a class (Selvaraju et al. 2017, arXiv:1610.02391, equations 1, 2)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from cnnjax.core.errors import Refused
from cnnjax.tasks.network import NetworkTask
from cnnjax.tasks.state import TrainState


def grad_cam(
    task: NetworkTask,
    state: TrainState,
    images: Float[Array, "n h w c"],
    classes: Int[Array, " n"] | None = None,
) -> tuple[Float[Array, "n h w"], Int[Array, " n"]]:
    """How much each place of the last feature map speaks for a class, in the images' size.

    The channels of the map, each weighted by the mean gradient of the class's logit, summed; what
    speaks against the class counts as 0.

    Args:
      images: as the network takes them.
      classes: of each image; None: the likeliest.

    Returns:
      The maps, interpolated linearly, and the classes.

    Raises:
      Refused: the network does not call its own `feature_maps`, or the last is one pixel.
    """
    variables = {"params": state.params, **state.model_state}
    seen: list[Array] = []

    def run(added: Array | None) -> Array:
        seen.clear()
        with nn.intercept_methods(_adding(added, seen)):
            return task.model.apply(variables, images, train=False)

    logits = run(None)
    if not seen:
        raise Refused(
            f"{type(task.model).__name__} does not call its own feature_maps(images, *, train):"
            " there is no last feature map to look at"
        )
    last = seen[-1]
    if last.shape[1:3] == (1, 1):
        raise Refused("the last feature map is one pixel: it does not say where the network looks")
    wanted = jnp.argmax(logits, axis=-1) if classes is None else classes

    def total(added: Array) -> Array:
        return jnp.sum(jnp.take_along_axis(run(added), wanted[:, None], axis=1))

    weights = jnp.mean(jax.grad(total)(jnp.zeros_like(last)), axis=(1, 2), keepdims=True)
    heat = nn.relu(jnp.sum(weights * last, axis=-1))
    return jax.image.resize(heat, images.shape[:3], "linear"), wanted


def _adding(added: Array | None, seen: list[Array]) -> Callable[..., Any]:
    """Keeps the last feature map and adds `added` to it."""

    def intercept(call: Callable, arguments: Any, named: Any, method: Any) -> Any:
        output = call(*arguments, **named)
        if method.method_name != "feature_maps" or method.module.path:
            return output
        stride = max(output)
        if added is not None:
            output = {**output, stride: output[stride] + added}
        seen.append(output[stride])
        return output

    return intercept
