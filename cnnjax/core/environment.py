"""What a result depends on beside its recipe: versions, machine, threads.

Bits depend on the size of XLA's CPU thread pool, so it is set and recorded, never left open.
"""

import importlib.metadata
import importlib.util
import logging
import os
import platform
from pathlib import Path

# On a processor, level 1 halves compilation and initialisation of these networks and leaves their
# speed alone: the time is spent in library convolutions and products.
_XLA_FLAGS = "--xla_backend_optimization_level=1"
PACKAGES = ("cnnjax", "jax", "jaxlib", "flax", "optax", "numpy", "scipy")


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_here() -> int:
    """Threads that this process should use: PJRT_NPROC, which a study sets for a worker, or all."""
    return int(os.environ.get("PJRT_NPROC") or cores())


def has_accelerator() -> bool:
    """Whether jax would use more than the processor: a plugin is there, and not switched off."""
    plugins = ("jax_cuda13_plugin", "jax_cuda12_plugin", "jax_rocm7_plugin", "libtpu")
    chosen = os.environ.get("JAX_PLATFORMS", "")
    return chosen != "cpu" and any(importlib.util.find_spec(name) for name in plugins)


def configure_xla(threads: int | None = None) -> None:
    """Fix XLA's CPU thread pool and flags; works only before jax is imported.

    Args:
      threads: size of the pool; default what PJRT_NPROC says, else all processors.
    """
    os.environ["PJRT_NPROC"] = str(threads or os.environ.get("PJRT_NPROC") or cores())
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_backend_optimization_level" not in flags and not has_accelerator():
        os.environ["XLA_FLAGS"] = f"{flags} {_XLA_FLAGS}".strip()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def quiet_absl() -> None:
    """orbax and TFDS warn through absl about what does not concern a user."""
    logging.getLogger("absl").setLevel(logging.ERROR)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide results."""
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }


def machine() -> dict[str, str | int]:
    """Processor, cores, memory and operating system."""
    return {
        "processor": _processor(),
        "cores": cores(),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
    }


def bits() -> dict[str, str]:
    """What may change the bits of a result although nothing asked for it."""
    return {
        "PJRT_NPROC": os.environ.get("PJRT_NPROC", ""),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        "processor": _processor(),
        "jaxlib": importlib.metadata.version("jaxlib"),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
