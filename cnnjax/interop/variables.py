"""A network's variables by their paths, as flat mappings and as the trees that flax takes."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from cnnjax.tasks.checks import AUXILIARY

VariablePath = tuple[str, ...]  # collection, modules, name: ("params", "stem", "conv", "kernel")


def template(module: Any, image_shape: tuple[int, int, int]) -> dict[VariablePath, Any]:
    """Shapes and dtypes of a network's variables, by path; what it only sows is none."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
    shapes = jax.eval_shape(partial(module.init, keys, train=False), images)
    return flat({name: tree for name, tree in shapes.items() if name != AUXILIARY})


def flat(tree: Mapping[str, Any]) -> dict[VariablePath, Any]:
    """Leaves by path; what is sown, which lies in tuples, is left out."""
    leaves = jax.tree.flatten_with_path(dict(tree))[0]
    return {
        tuple(str(key.key) for key in path): leaf
        for path, leaf in leaves
        if all(hasattr(key, "key") for key in path)
    }


def nested(leaves: Mapping[VariablePath, Any]) -> dict[str, Any]:
    """The inverse of `flat`."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        node = tree
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = leaf
    return tree
