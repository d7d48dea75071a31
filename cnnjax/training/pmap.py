"""Data parallelism over the devices of one host by `jax.pmap`; nothing else depends on this file.

Each device holds the whole state and takes its share of every batch; gradients and sums are added
over the devices, batch normalisation shares its statistics. jax keeps pmap in maintenance, over
jit and shard_map; `sharded.Sharded` is the road to many hosts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cnnjax.core.place import Place
from cnnjax.training.placement import Argument, Layout, compiled

_AXIS = "replica"


@dataclass(frozen=True)
class Pmap:
    """The first `devices` of this host. Arrays have a leading axis of replicas."""

    devices: int

    @property
    def replicas(self) -> int:
        return self.devices

    @property
    def axis(self) -> str:
        return _AXIS

    @property
    def place(self) -> Place:
        return Place("pmap", self.devices)

    @property
    def shards(self) -> int:
        return 1

    def sum(self, tree: Any) -> Any:
        return jax.lax.psum(tree, _AXIS)

    def mean(self, tree: Any) -> Any:
        return jax.lax.pmean(tree, _AXIS)

    def local(self, indices: Any) -> Any:
        share = len(indices) // self.devices
        return jax.lax.dynamic_slice_in_dim(indices, jax.lax.axis_index(_AXIS) * share, share)

    def rows(self, size: int) -> slice:
        return slice(0, size)

    def put(self, tree: Any, layout: Layout) -> Any:
        if layout == "host":
            return tree

        def one(leaf: Any) -> Any:
            if layout == "split":
                leaf = np.asarray(leaf)
                return jax.device_put(leaf.reshape(self.devices, -1, *leaf.shape[1:]), self._each)
            return jax.device_put(np.broadcast_to(leaf, (self.devices, *leaf.shape)), self._each)

        return jax.tree.map(one, jax.device_get(tree))

    def fetch(self, tree: Any, layout: Layout) -> Any:
        if layout == "split":
            return jax.tree.map(
                lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), jax.device_get(tree)
            )
        return jax.tree.map(lambda leaf: np.asarray(leaf.addressable_shards[0].data)[0], tree)

    def shapes(self, tree: Any) -> Any:
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), tree)

    def copies(self, leaf: Any) -> list[list[Any]]:
        return [[np.asarray(shard.data) for shard in leaf.addressable_shards]]

    def compile(
        self,
        function: Callable,
        arguments: Sequence[Argument],
        outputs: Sequence[Layout],
        donate: tuple[int, ...] = (),
    ) -> tuple[Callable, float]:
        mapped = jax.pmap(
            function,
            axis_name=_AXIS,
            in_axes=tuple(None if a.layout == "host" else 0 for a in arguments),
            donate_argnums=donate,
            devices=jax.local_devices()[: self.devices],
        )
        return compiled(mapped, [self._stacked(argument) for argument in arguments])

    def _stacked(self, argument: Argument) -> Argument:
        """The shapes with the axis of replicas."""

        def one(leaf: Any) -> jax.ShapeDtypeStruct:
            shape = leaf.shape
            if argument.layout == "split":
                shape = (shape[0] // self.devices, *shape[1:])
            return jax.ShapeDtypeStruct((self.devices, *shape), leaf.dtype)

        if argument.layout == "host":
            return argument
        return Argument(argument.layout, jax.tree.map(one, argument.shapes))

    @cached_property
    def _each(self) -> NamedSharding:
        mesh = Mesh(np.array(jax.local_devices()[: self.devices]), (_AXIS,))
        return NamedSharding(mesh, PartitionSpec(_AXIS))
