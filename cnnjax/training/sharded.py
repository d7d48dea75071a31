"""Data and parameter parallelism by `jax.jit` over a mesh of devices, of one host or of many.

A program is written for the whole batch; the compiler divides it: examples over the axis "data",
parameters and the optimiser's state over "model", for networks that one device does not hold.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cnnjax.core.distributed import process_count, waiting
from cnnjax.core.place import Place
from cnnjax.tasks.network import OneReplica
from cnnjax.training.placement import Argument, Layout, compiled, shapes_of

_WHOLE, _SPLIT = PartitionSpec(), PartitionSpec("data")


@dataclass(frozen=True)
class Sharded(OneReplica):
    """`data` x `model` devices. To a program it is one replica that sees the whole batch."""

    data: int = 1
    model: int = 1

    @property
    def replicas(self) -> int:
        return self.data

    @property
    def shards(self) -> int:
        return self.data

    @property
    def devices(self) -> int:
        return self.data * self.model

    @property
    def place(self) -> Place:
        return Place("sharded", self.devices, self.model)

    def local(self, indices: Any) -> Any:
        return jax.lax.with_sharding_constraint(indices, self._sharding(_SPLIT))

    def rows(self, size: int) -> slice:
        mine = self._sharding(_SPLIT).addressable_devices_indices_map((size,)).values()
        bounds = [index[0].indices(size) for index in mine if index]
        return slice(min(start for start, _, _ in bounds), max(stop for _, stop, _ in bounds))

    def put(self, tree: Any, layout: Layout) -> Any:
        if layout == "host":
            return tree
        shardings = self._shardings(Argument(layout, tree))
        if process_count() == 1:
            return jax.device_put(tree, shardings)
        if layout == "split":
            lay = jax.make_array_from_process_local_data
            return jax.tree.map(lambda leaf: lay(shardings, leaf), tree)
        if layout == "whole":
            shardings = jax.tree.map(lambda _: shardings, tree)
        return jax.tree.map(_laid, tree, shardings)

    def fetch(self, tree: Any, layout: Layout) -> Any:
        if process_count() == 1:
            return jax.device_get(tree)
        return jax.tree.map(_gathered, tree)

    def shapes(self, tree: Any) -> Any:
        return shapes_of(tree)

    def copies(self, leaf: Any) -> list[list[Any]]:
        alike: dict[str, list[Any]] = {}
        for shard in leaf.addressable_shards:
            alike.setdefault(str(shard.index), []).append(np.asarray(shard.data))
        return list(alike.values())

    def compile(
        self,
        function: Callable,
        arguments: Sequence[Argument],
        outputs: Sequence[Layout],
        donate: tuple[int, ...] = (),
    ) -> tuple[Callable, float]:
        states = [argument for argument in arguments if argument.layout == "state"]
        shardings = {"whole": self._sharding(_WHOLE), "split": self._sharding(_SPLIT)}
        jitted = jax.jit(
            function,
            in_shardings=tuple(map(self._shardings, arguments)),
            out_shardings=tuple(
                self._shardings(states[0]) if layout == "state" else shardings[layout]
                for layout in outputs
            ),
            donate_argnums=donate,
        )
        return compiled(jitted, arguments)

    def _shardings(self, argument: Argument) -> Any:
        """One for each leaf of a state, one for all of anything else."""
        if argument.layout == "state":
            return jax.tree.map(self._of_parameter, argument.shapes)
        return self._sharding(_SPLIT if argument.layout == "split" else _WHOLE)

    def _of_parameter(self, leaf: Any) -> NamedSharding:
        """The last axis, that of features, over "model" where it divides; else whole."""
        shape = np.shape(leaf)
        if self.model == 1 or not shape or shape[-1] % self.model:
            return self._sharding(_WHOLE)
        return self._sharding(PartitionSpec(*[None] * (len(shape) - 1), "model"))

    def _sharding(self, spec: PartitionSpec) -> NamedSharding:
        return NamedSharding(self._mesh, spec)

    @cached_property
    def _mesh(self) -> Mesh:
        there = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
        devices = np.array(there[: self.devices]).reshape(self.data, self.model)
        return Mesh(devices, ("data", "model"))


def _laid(leaf: Any, sharding: NamedSharding) -> jax.Array:
    """An array that every process has, each part where it belongs."""
    array = np.asarray(leaf)
    return jax.make_array_from_callback(array.shape, sharding, array.__getitem__)


def _gathered(leaf: Any) -> np.ndarray:
    """The whole of an array that lies in several processes."""
    with waiting():
        if leaf.is_fully_replicated:
            return np.asarray(leaf.addressable_data(0))
        return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))
