"""The layers of a network, as probes name them: by the path of a module, in the order of calls."""

from collections.abc import Callable
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import jax
from flax import linen as nn

from cnnjax.tasks.network import NetworkTask

Meet = Callable[[nn.Module, Any, int], Any]  # module, its output, how deep -> the output


@lru_cache(maxsize=16)
def layer_names(task: NetworkTask) -> tuple[str, ...]:
    """Paths of all modules below the network, in the order in which they are called."""
    names: dict[str, None] = {}

    def meet(module: nn.Module, output: Any, depth: int) -> Any:
        names["/".join(module.path)] = None
        return output

    def init(key: Any, image: Any) -> Any:
        with each_call(meet):
            return task.model.init({"params": key}, image, train=False)

    jax.eval_shape(init, jax.eval_shape(lambda: jax.random.key(0)), task.image)
    names.pop("", None)
    return tuple(names)


def ordered(task: NetworkTask, values: dict[str, Any]) -> dict[str, Any]:
    """`values` by layer in the order of calls; what is no layer comes first."""
    place = {name: index for index, name in enumerate(layer_names(task))}
    return dict(sorted(values.items(), key=lambda item: place.get(item[0], -1)))


@contextmanager
def each_call(meet: Meet):
    """Have `meet` see, and replace, what each module gives when it is called.

    The network itself is at depth 0; its parts are at depth 1, in a scan too, where a block has no
    path of its own.
    """
    depth = 0

    def intercept(call: Callable, arguments: Any, named: Any, method: Any) -> Any:
        nonlocal depth
        if method.method_name != "__call__":
            return call(*arguments, **named)
        depth += 1
        try:
            output = call(*arguments, **named)
        finally:
            depth -= 1
        return meet(method.module, output, depth)

    with nn.intercept_methods(intercept):
        yield


def by_path(tree: Any, leaf: str) -> dict[str, Any]:
    """Of a collection of variables the value under `leaf` of each module, by its path."""
    found: dict[str, Any] = {}

    def walk(node: Any, path: tuple[str, ...]) -> None:
        for key, value in node.items():
            if key == leaf:
                found["/".join(path)] = value
            elif isinstance(value, dict):
                walk(value, (*path, key))

    walk(dict(tree), ())
    return found
