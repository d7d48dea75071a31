"""What batch normalisation takes its statistics over: of any network, a user's own too.

By itself flax's takes them over the examples that it sees, which under `pmap` are one device's;
so the meaning of a network would depend on the number of devices. Here it is the recipe's: over
the whole batch, or over groups of so many consecutive examples, wherever they lie.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import canonicalize_dtype
from jaxtyping import Array

from cnnjax.core.errors import Refused
from cnnjax.layers.context import Context, context


def in_training(
    call: Callable, arguments: Any, named: dict[str, Any], method: nn.module.InterceptorContext
) -> Any:
    """For `nn.intercept_methods` around a network that is trained.

    Frozen normalisation uses its running statistics and keeps them.
    """
    module, here = method.module, context()
    if method.method_name != "__call__":
        return call(*arguments, **named)
    if isinstance(module, nn.Dropout) and (here.norm_axis or here.part is not None):
        return _of_this_part(module, call, arguments, named, here)
    if not isinstance(module, nn.BatchNorm):
        return call(*arguments, **named)
    if here.frozen(module.path):
        # Given as a field or with the call; a bound module is a copy that is thrown away.
        object.__setattr__(module, "use_running_average", None)
        return call(arguments[0], use_running_average=True, mask=named.get("mask"))
    averaged = module.use_running_average or named.get("use_running_average", *arguments[1:2])
    if averaged or module.is_initializing():
        return call(*arguments, **named)
    if here.norm_group is not None:
        return _by_groups(module, arguments[0], here, named.get("mask"))
    if here.norm_axis is not None and module.axis_name is None:
        object.__setattr__(module, "axis_name", here.norm_axis)
    return call(*arguments, **named)


def _of_this_part(
    module: nn.Dropout, call: Callable, arguments: Any, named: dict[str, Any], here: Context
) -> Any:
    """flax's dropout draws by place in the batch: replicas, or parts, would all drop the same."""
    silent = named.get("deterministic", *arguments[1:2]) or module.deterministic
    if silent or "rng" in named or len(arguments) > 2:
        return call(*arguments, **named)
    key = module.make_rng(module.rng_collection)
    if here.norm_axis is not None:
        key = jax.random.fold_in(key, jax.lax.axis_index(here.norm_axis))
    if here.part is not None:
        key = jax.random.fold_in(key, here.part)
    return call(*arguments, **named, rng=key)


def _by_groups(module: nn.BatchNorm, x: Array, here: Context, mask: Any) -> Array:
    """Each group by its own mean and variance; the running ones take the average of all groups'.

    Hoffer et al. 2017, section 4 ("ghost" batches), where they take each group's in turn.
    """
    assert here.norm_group is not None
    # A network may look at several parts of each example: its group is that of the examples.
    examples = len(x) if here.indices is None else len(here.indices)
    group = here.norm_group * max(len(x) // examples, 1)
    if module.axis not in (-1, x.ndim - 1) or mask is not None or len(x) % group:
        raise Refused(
            f"compute.batch_norm_group={here.norm_group}: {'.'.join(module.path)} normalises"
            f" {list(x.shape)} over axis {module.axis}{' with a mask' if mask is not None else ''};"
            " groups are of whole examples with the features on the last axis"
        )
    kind = jnp.promote_types(x.dtype, jnp.float32)
    parts = x.astype(kind).reshape(-1, group, *x.shape[1:])
    axes = tuple(range(1, parts.ndim - 1))
    mean = parts.mean(axes, keepdims=True)
    var = jnp.square(parts - mean).mean(axes, keepdims=True)
    y = ((parts - mean) * jax.lax.rsqrt(var + module.epsilon)).reshape(x.shape)
    features = (1,) * (x.ndim - 1) + (-1,)
    learned = [x]
    if module.use_scale:
        learned.append(module.get_variable("params", "scale"))
        y = y * learned[-1].reshape(features)
    if module.use_bias:
        learned.append(module.get_variable("params", "bias"))
        y = y + learned[-1].reshape(features)
    for name, values in (("mean", mean), ("var", var)):
        new = values.mean(0).reshape(-1)
        if here.norm_axis is not None:
            new = jax.lax.pmean(new, here.norm_axis)
        old = module.get_variable("batch_stats", name)
        kept = module.momentum * old + (1 - module.momentum) * new
        module.put_variable("batch_stats", name, kept.astype(old.dtype))
    return y.astype(canonicalize_dtype(*learned, dtype=module.dtype))
