"""What a result depends on beside its recipe: versions, machine, threads.

Bits depend on the size of XLA's CPU thread pool, so it is set and recorded, never left open.
"""

import importlib
import importlib.metadata
import importlib.util
import itertools
import logging
import os
import platform
import re
import sys
from pathlib import Path

from cnnjax.core.errors import Refused, one_line, unknown

# On a processor, level 1 halves compilation and initialisation of these networks.
_LEVEL = "xla_backend_optimization_level"
_XLA_FLAGS = f"--{_LEVEL}=1"
# From jax 0.11 on YNN fuses reductions with the convolutions and products around them. In bfloat16
# (jax 0.11.2, 0.12.0.1) that gives random numbers, of VGG-11 for instance; in float32 the step of
# cifar_resnet20 is a tenth faster without (122 against 137 ms, batch 16).
_FUSIONS = "xla_cpu_experimental_ynn_fusion_type"
_FUSION_FLAGS = f"--{_FUSIONS}=-reduce"
# Of the programs that train and evaluate, from this version of jax on; before the first, that of
# the process. With jax 0.12 a step of cifar_resnet20 takes 802 ms at level 2, 831 at 1, 801 at 3
# (medians of seven, ranges overlap), and 2 compiles a second sooner than 3; with 0.11 no level is
# faster, and with 0.10 others change the bits (benchmarks/optimisation_level.py).
_PROGRAM_LEVELS = {(0, 12): "2"}
# glibc asks the kernel for pages of 2 MiB. Each dispatch of XLA on a processor takes its memory
# anew: steps of cifar_resnet20 are a tenth faster so, and a dispatch begins in 10 ms for 60.
_HUGE_PAGES = "glibc.malloc.hugetlb"
_FIRST_WITH_HUGE_PAGES = (2, 35)
_BEGUN = "CNNJAX_BEGUN_WITH_HUGE_PAGES"  # by which process
_KERNEL_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
PACKAGES = ("cnnjax", "jax", "jaxlib", "flax", "optax", "numpy", "scipy")
_DECIDING = ("cnnjax", "jax", "jaxlib", "flax", "optax")  # of a result's bits
_CUDA, _ROCM, _TPU = ("jax_cuda13_plugin", "jax_cuda12_plugin"), ("jax_rocm7_plugin",), ("libtpu",)
_NO_CARD = ("-1", "NoDevFiles")  # in CUDA_VISIBLE_DEVICES: no card from here on
_PLUGINS = (*_CUDA, *_ROCM, *_TPU)
_PLUGINS_OF = {"cpu": (), "cuda": _CUDA, "gpu": (*_CUDA, *_ROCM), "rocm": _ROCM, "tpu": _TPU}


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_here() -> int:
    """Threads that this process should use: PJRT_NPROC, which a study sets for a worker, or all."""
    return int(os.environ.get("PJRT_NPROC") or cores())


def has_accelerator() -> bool:
    """Whether jax would use more than the processor: a plugin is there, and not switched off."""
    chosen = os.environ.get("JAX_PLATFORMS", "")
    return chosen != "cpu" and any(importlib.util.find_spec(name) for name in _PLUGINS)


def accelerators() -> list[dict[str, str]]:
    """For each accelerator here the variables that show a process that one alone; opens none.

    NVIDIA's, of those in CUDA_VISIBLE_DEVICES if it is set, or TPU's chips; others are not counted.
    """
    if not has_accelerator():
        return []
    chips = os.environ.get("TPU_VISIBLE_CHIPS") or ",".join(
        str(number) for number, _ in enumerate(_device_files("accel[0-9]*", "vfio/[0-9]*"))
    )
    if chips and any(importlib.util.find_spec(name) for name in _TPU):
        alone = {"TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1", "TPU_PROCESS_BOUNDS": "1,1,1"}
        return [{"TPU_VISIBLE_CHIPS": chip, **alone} for chip in chips.split(",")]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        cards = Path("/proc/driver/nvidia/gpus").glob("*/information")
        visible = ",".join(str(number) for number, _ in enumerate(cards))
    seen = itertools.takewhile(lambda card: card and card not in _NO_CARD, visible.split(","))
    return [{"CUDA_VISIBLE_DEVICES": card} for card in seen]


def _device_files(*patterns: str) -> list[Path]:
    return [path for pattern in patterns for path in sorted(Path("/dev").glob(pattern))]


def device_count() -> int:
    """How many devices jax will see here, without starting it; one that is not counted is one."""
    if found := len(accelerators()):
        return found
    forced = re.search(
        r"xla_force_host_platform_device_count=(\d+)", os.environ.get("XLA_FLAGS", "")
    )
    return int(os.environ.get("JAX_NUM_CPU_DEVICES") or (forced[1] if forced else 1))


def module_paths() -> dict[str, str]:
    """For the environment of a child: it finds modules where this process does."""
    return {"PYTHONPATH": os.pathsep.join(os.path.abspath(entry) for entry in sys.path)}


def configure_xla(threads: int | None = None) -> None:
    """Fix XLA's CPU thread pool and flags; works only before jax is imported.

    Args:
      threads: size of the pool; default what PJRT_NPROC says, else all processors.
    """
    os.environ["PJRT_NPROC"] = str(threads or os.environ.get("PJRT_NPROC") or cores())
    if not has_accelerator():
        os.environ["XLA_FLAGS"] = processor_flags(os.environ.get("XLA_FLAGS", ""))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def begin_with_huge_pages() -> None:
    """Begin this program again with memory in huge pages, where that makes a difference.

    glibc looks at its tunables when a program begins; children have them from their parent.
    """
    tunables = huge_pages_tunables()
    # Where glibc drops the tunables (a program with capabilities) it is begun again only once.
    if tunables and os.environ.get(_BEGUN) != str(os.getpid()):
        os.environ |= {"GLIBC_TUNABLES": tunables, _BEGUN: str(os.getpid())}
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def huge_pages_tunables(kernel: Path = _KERNEL_PAGES) -> str:
    """GLIBC_TUNABLES with huge pages; "" where they are set or bring nothing.

    Args:
      kernel: its setting: whether it gives them to all, to those that ask, or to none.
    """
    given = os.environ.get("GLIBC_TUNABLES", "")
    if has_accelerator() or _HUGE_PAGES in given or _glibc_version() < _FIRST_WITH_HUGE_PAGES:
        return ""
    try:
        asked_for = "[madvise]" in kernel.read_text()
    except OSError:
        return ""
    return ":".join(filter(None, [given, f"{_HUGE_PAGES}=1"])) if asked_for else ""


def _glibc_version() -> tuple[int, ...]:
    """() where the C library is another."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (AttributeError, ValueError, OSError):
        return ()
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if name == "glibc" and found else ()


def processor_flags(flags: str) -> str:
    """XLA_FLAGS for a processor: those that are given, and ours where they say nothing."""
    found = [flags] if flags else []
    if _LEVEL not in flags:
        found.append(_XLA_FLAGS)
    if _FUSIONS not in flags and _jax_version() >= (0, 11):
        found.append(_FUSION_FLAGS)
    return " ".join(found)


def compiler_options() -> dict[str, str | bool]:
    """Of XLA, for the programs that train and evaluate on a processor.

    A function of jax's version alone, as bits may depend on it; a level in XLA_FLAGS is kept.
    """
    level = _program_level()
    return {_LEVEL: level} if level else {}


def _program_level() -> str:
    """The level of programs where it is not that of the process, else ""."""
    if _LEVEL in os.environ.get("XLA_FLAGS", "").replace(_XLA_FLAGS, "") or has_accelerator():
        return ""
    levels = [level for first, level in _PROGRAM_LEVELS.items() if _jax_version() >= first]
    return levels[-1] if levels else ""


def check_platform() -> None:
    """Refuse settings of jax under which nothing here can run, without starting it.

    Raises:
      Refused: 64-bit mode (dtypes and bits would be others), or a platform that is not installed.
    """
    if os.environ.get("JAX_ENABLE_X64", "").lower() in ("1", "true", "t", "yes", "on"):
        raise Refused("JAX_ENABLE_X64 is set, but networks here compute in float32; unset it")
    for chosen in filter(None, os.environ.get("JAX_PLATFORMS", "").split(",")):
        plugins = _PLUGINS_OF.get(chosen)
        if plugins is None:
            raise unknown("platform in JAX_PLATFORMS", chosen, _PLUGINS_OF)
        if plugins and not any(importlib.util.find_spec(name) for name in plugins):
            raise Refused(
                f"JAX_PLATFORMS={chosen} needs {' or '.join(plugins)}, which is not installed;"
                " unset it, or type: JAX_PLATFORMS=cpu"
            )


def start_backend() -> None:
    """Start jax's devices.

    Raises:
      Refused: the chosen platform has none, or see `check_platform`.
    """
    check_platform()
    import jax

    if jax.config.read("jax_enable_x64"):
        raise Refused("jax's 64-bit mode is on; networks here compute in float32: switch it off")
    try:
        jax.devices()
    except RuntimeError as error:
        raise Refused(
            f"JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')} does not start"
            f" ({one_line(error)}); unset it, or type: JAX_PLATFORMS=cpu"
        ) from None


def use_processor() -> None:
    """For a process that counts, reads or waits: it opens no accelerator, and needs none.

    Raises:
      Refused: see `check_platform`.
    """
    check_platform()
    import jax

    jax.config.update("jax_platforms", "cpu")


def quiet_absl() -> None:
    """orbax and TFDS warn through absl about what does not concern a user."""
    logging.getLogger("absl").setLevel(logging.ERROR)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide results."""
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
    }


def machine() -> dict[str, str | int]:
    """Processor, cores, memory and operating system."""
    return {
        "processor": _processor(),
        "cores": cores(),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
    }


def bits(placement: object = "jit", threads: int | None = None) -> dict[str, str]:
    """What may change the bits of a result although its recipe does not name it.

    Args:
      placement: where it was trained, in words or as such a thing.
      threads: of a process that is not this one.
    """
    return {
        "placement": str(placement),
        "PJRT_NPROC": str(threads or os.environ.get("PJRT_NPROC", "")),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        "program_level": _program_level(),
        "processor": _processor(),
        "accelerator": _accelerator(),
        **{name: _version(name) for name in _DECIDING},
    }


def _jax_version() -> tuple[int, ...]:
    """Its first two parts; nothing is imported."""
    return tuple(int(part) for part in _version("jax").split(".")[:2])


def _version(package: str) -> str:
    """Of cnnjax by its own word: it may run from its folder without being installed."""
    if package == "cnnjax":
        return importlib.import_module(package).__version__
    return importlib.metadata.version(package)


def _accelerator() -> str:
    """The accelerators that jax would use, without opening one; "" where it uses the processor."""
    if not has_accelerator():
        return ""
    about = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    models = [
        line.partition(":")[2].strip()
        for path in about
        for line in path.read_text().splitlines()
        if line.startswith("Model")
    ]
    plugins = [name for name in _PLUGINS if importlib.util.find_spec(name)]
    versions = [f"{name} {importlib.metadata.version(name)}" for name in plugins]
    return ", ".join([*dict.fromkeys(models), *versions])


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
