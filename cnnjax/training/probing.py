"""Probes of a run: compiled as a program of their own, run between its dispatches."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from cnnjax.core.errors import Refused
from cnnjax.core.user_code import refused
from cnnjax.probes.layers import ordered
from cnnjax.probes.registry import PROBES, Probe
from cnnjax.tasks.state import TrainState
from cnnjax.training.program import Source, normalized
from cnnjax.training.setup import Training

Values = dict[str, Any]  # by probe a number, or {layer: number}; None: not finite


class Probing:
    """What `fit` calls at its pauses.

    Attributes:
      steps: after how many steps it wants to be called.
    """

    def __init__(
        self,
        training: Training,
        wanted: Mapping[str, tuple[str, Sequence[float | int]]],
        on_record: Callable[[dict], None],
    ):
        """
        Args:
          wanted: by label the name of each probe, and at which shares of the run it looks.
          on_record: takes what was seen, ready to be a JSON line: {"step": 3, "probes":
            {"LABEL@SHARE": ...}, "probe_seconds": ...}, with what was compiled for it.
        """
        self._training, self._on_record, self._probes = training, on_record, dict(wanted)
        self._wanted: dict[int, list[tuple[str, float | int]]] = {}
        for label, (_, shares) in wanted.items():
            for share in shares:
                step = max(int(share > 0), round(share * len(training.rates)))
                self._wanted.setdefault(step, []).append((label, share))
        self.steps = frozenset(self._wanted)

    def __call__(self, step: int, state: TrainState) -> None:
        """Look inside, on one device, at the state as it lies on all."""
        start, training = time.perf_counter(), self._training
        ordinary = training.task.unpack(training.placement.fetch(state, "state"))
        batch, scales = training.feed.examples(training.batch_size)
        names = tuple(name for name, _ in self._probes.values())
        program = _program(training.task, names)
        found = jax.device_get(program(ordinary, batch, training.placement.fetch(scales, "whole")))
        values = {
            label: _plain(training.task, value)
            for label, value in zip(self._probes, found, strict=True)
        }
        seen = {named(label, share): values[label] for label, share in self._wanted[step]}
        seconds = time.perf_counter() - start
        self._on_record({"step": step, "probes": seen, "probe_seconds": seconds})


def named(label: str, share: float | int) -> str:
    """What a probe saw when a share of a run was over: "gradient_norm@0.1"."""
    return f"{label}@{share:g}"


@lru_cache(maxsize=8)
def _program(task: Any, names: tuple[str, ...]) -> Any:
    functions = [PROBES.find(name).make for name in names]

    def look(state: TrainState, batch: dict[str, Any], scales: Source) -> list[Any]:
        batch = {**batch, "images": normalized(batch["images"], scales)}
        return [function(task, state, batch) for function in functions]

    return jax.jit(look)


def check_probe(name: str, probe: Probe, task: Any, batch_size: int) -> tuple[str, ...] | None:
    """The layers that a probe tells of; None: it gives one number. Nothing is computed.

    Raises:
      Refused: it raises, or gives something else.
    """
    with refused(f"probe {name} cannot look at {type(task.model).__name__}"):
        state = jax.eval_shape(task.init, jax.eval_shape(lambda: jax.random.key(0)))
        found = jax.eval_shape(lambda s, b: probe(task, s, b), state, task.batch_shapes(batch_size))
    values = found if isinstance(found, Mapping) else {"": found}
    for layer, value in values.items():
        if tuple(getattr(value, "shape", (1,))) or not isinstance(layer, str):
            where = f" for {layer!r}" if isinstance(found, Mapping) else ""
            shape = getattr(value, "shape", None)
            kind = type(value).__name__ if shape is None else f"an array {list(shape)}"
            raise Refused(
                f"probe {name} gives {kind}{where}; one number is needed, or a dict of a number for"
                " each layer"
            )
    return tuple(ordered(task, dict(found))) if isinstance(found, Mapping) else None


def _plain(task: Any, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {layer: _number(one) for layer, one in ordered(task, dict(value)).items()}
    return _number(value)


def _number(value: Any) -> float | None:
    number = float(np.asarray(value))
    return number if np.isfinite(number) else None
