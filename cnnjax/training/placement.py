"""Where a program runs. A placement turns the pure programs of `program` into compiled ones.

The programs see the placement's collectives and nothing else of it, so neither step nor loop
changes between one device (`Jit`), the devices of a host (`pmap.Pmap`) and a mesh of devices
(`sharded.Sharded`). Batch sizes are global everywhere.
"""

import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

from cnnjax.core import environment
from cnnjax.core.distributed import everyone, process_count
from cnnjax.core.errors import Failed, Refused
from cnnjax.core.place import JIT, Place
from cnnjax.tasks.network import OneReplica
from cnnjax.tasks.state import leaf_names
from cnnjax.tasks.task import Collectives

# state: what is trained; whole: the same with every replica, for many calls; split: a batch, its
# examples divided over the replicas; host: small values, handed in with each call.
Layout = Literal["state", "whole", "split", "host"]


class Argument(NamedTuple):
    """Of a program: shapes, global ones, and how they lie."""

    layout: Layout
    shapes: Any


@runtime_checkable
class Placement(Collectives, Protocol):
    """The contract: collectives for the step, and how programs and arrays are laid out."""

    @property
    def replicas(self) -> int:
        """Among how many a batch is divided."""
        ...

    @property
    def devices(self) -> int: ...

    @property
    def place(self) -> Place:
        """It in words, for a run's record."""
        ...

    def local(self, indices: Any) -> Any:
        """Inside a program: this replica's part of a global batch's indices."""
        ...

    def rows(self, size: int) -> slice:
        """On the host: which examples of a global batch this process hands in."""
        ...

    def put(self, tree: Any, layout: Layout) -> Any:
        """Lay a tree of host arrays where the programs want it; of a batch this process's rows."""
        ...

    def fetch(self, tree: Any, layout: Layout) -> Any:
        """As whole arrays on the host, of every process."""
        ...

    def shapes(self, tree: Any) -> Any:
        """Of what was put as "state" or "whole": the shapes that it had, and dtypes."""
        ...

    def copies(self, leaf: Any) -> list[list[Any]]:
        """Parts of one array of a state that several devices hold alike, as arrays on the host."""
        ...

    def compile(
        self,
        function: Callable,
        arguments: Sequence[Argument],
        outputs: Sequence[Layout],
        donate: tuple[int, ...] = (),
    ) -> tuple[Callable, float]:
        """The function compiled, and the seconds that took."""
        ...


@dataclass(frozen=True)
class Jit(OneReplica):
    """One device, by `jax.jit`: one replica, so there is nothing to split, average or add."""

    @property
    def replicas(self) -> int:
        return 1

    @property
    def devices(self) -> int:
        return 1

    @property
    def place(self) -> Place:
        return JIT

    def local(self, indices: Any) -> Any:
        return indices

    def rows(self, size: int) -> slice:
        return slice(0, size)

    def put(self, tree: Any, layout: Layout) -> Any:
        return tree if layout == "host" else jax.device_put(tree)

    def fetch(self, tree: Any, layout: Layout) -> Any:
        return jax.device_get(tree)

    def shapes(self, tree: Any) -> Any:
        return shapes_of(tree)

    def copies(self, leaf: Any) -> list[list[Any]]:
        return []

    def compile(
        self,
        function: Callable,
        arguments: Sequence[Argument],
        outputs: Sequence[Layout],
        donate: tuple[int, ...] = (),
    ) -> tuple[Callable, float]:
        return compiled(jax.jit(function, donate_argnums=donate), arguments)


def shapes_of(tree: Any) -> Any:
    """Shape and dtype of each leaf."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def compiled(jitted: Any, arguments: Sequence[Argument]) -> tuple[Callable, float]:
    """A jitted function compiled for these shapes, with the seconds that took."""
    start = time.perf_counter()
    lowered = jitted.lower(*(argument.shapes for argument in arguments))
    program = lowered.compile(environment.compiler_options())
    return program, time.perf_counter() - start


def make_placement(place: Place = JIT) -> Placement:
    """The placement that is meant; starts jax's devices.

    Raises:
      Refused: there are fewer devices, or they do not divide.
    """
    processes = process_count()
    if processes > 1 and place.placement != "sharded":
        raise Refused(
            f"--placement {place.placement} is of one process, and {processes} train together;"
            " type: --placement sharded"
        )
    if place.placement == "jit":
        return Jit()
    local = place.placement == "pmap"
    place = place.resolved(len(jax.local_devices() if local else jax.devices()))
    assert place.devices is not None
    if processes > 1 and place.devices < len(jax.devices()):
        raise Refused(
            f"--devices {place.devices}: {processes} processes have {len(jax.devices())} together;"
            " leave it out"
        )
    if local:
        from cnnjax.training.pmap import Pmap

        return Pmap(place.devices)
    from cnnjax.training.sharded import Sharded

    return Sharded(place.replicas, place.model_shards)


def check_agreement(placement: Placement, state: Any) -> None:
    """Compare what several devices hold alike, bit by bit, and processes by a check sum.

    Raises:
      Failed: they differ, and every further step would be of several networks.
    """
    fault, check_sum, together = "", 0, process_count() > 1
    for name, leaf in zip(leaf_names(state), jax.tree.leaves(state), strict=True):
        for alike in placement.copies(leaf):
            first = alike[0].tobytes()
            differing = [n for n, copy in enumerate(alike) if copy.tobytes() != first]
            if differing and not fault:
                fault = f"{name} on replica {differing[0]} is not that of replica 0"
        if together and leaf.is_fully_replicated:
            check_sum = zlib.crc32(np.asarray(leaf.addressable_data(0)).tobytes(), check_sum)
    said = everyone([bool(fault), check_sum])
    if not fault and said[:, 0].any():
        fault = f"two replicas of process {int(np.argmax(said[:, 0]))} are not alike"
    elif not fault and (differing := np.flatnonzero(said[:, 1] != said[0, 1])).size:
        fault = f"the state of process {differing[0]} is not that of process 0"
    if fault:
        raise Failed(
            f"replicas disagree: {fault} (a fault of the device or of the program); nothing was"
            " saved"
        )
