"""What a device can do at best, measured: the scale for every other figure."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

_ROUNDS = 5
_PRODUCTS = 8  # matrix products in one dispatch, each on the last one's result


def name() -> str:
    """Of the first device: "NVIDIA H100 80GB HBM3", "cpu"."""
    return jax.devices()[0].device_kind


def matmul_flops(precision: str, size: int | None = None) -> float:
    """FLOP/s of square matrix products, the best of five rounds; 2 n^3 FLOPs each.

    Args:
      precision: float32 (by jax's default for matrix products: TF32 on recent NVIDIA devices,
        passes of bfloat16 on TPUs) or bfloat16.
      size: rows; default 8192 on an accelerator, 1024 on a processor.
    """
    size = size or (1024 if jax.default_backend() == "cpu" else 8192)
    key = jax.random.key(0)
    matrix = jax.random.normal(key, (size, size), jnp.dtype(precision)) / size**0.5

    @jax.jit
    def products(x: Any) -> Any:
        return jax.lax.fori_loop(0, _PRODUCTS, lambda _, y: y @ matrix, x)

    best = min(seconds(lambda: products(matrix), rounds=_ROUNDS))
    return 2.0 * size**3 * _PRODUCTS / best


def seconds(call: Callable[[], Any], rounds: int) -> list[float]:
    """Of each of so many calls, to the end of their computation, after one that warms up."""
    jax.block_until_ready(call())
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        jax.block_until_ready(call())
        found.append(time.perf_counter() - start)
    return found


def peak_memory_bytes() -> int | None:
    """The most that was taken of the first device's memory; None where jax does not know."""
    stats = jax.devices()[0].memory_stats() or {}
    return stats.get("peak_bytes_in_use")


def spread(values: list[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}
