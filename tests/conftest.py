"""Eight CPU devices, strict rank promotion, a cache folder of its own, deterministic examples."""

import gc
import os
import resource
import sys
from pathlib import Path

import pytest

os.environ.setdefault("PJRT_NPROC", "1")  # before jax starts; the tests use one thread each
if not os.environ.get("XLA_FLAGS"):
    from importlib.metadata import version

    from cnnjax.core.environment import processor_flags

    quickest = "--xla_backend_optimization_level=0"
    if version("jaxlib").startswith(
        "0.10."
    ):  # quicker to compile; others, and commands, take the users'
        quickest += " --xla_cpu_use_fusion_emitters=false"
    os.environ["XLA_FLAGS"] = processor_flags(quickest)

import hypothesis
import jax

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.devices()  # reads the flags
del os.environ["XLA_FLAGS"]  # a command that a test types in a process of its own runs as a user's
hypothesis.settings.register_profile(
    "cnnjax",
    deadline=None,
    derandomize=True,
    max_examples=20,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("cnnjax")

_MOST_MEMORY = 1.5 * 2**20  # KiB


@pytest.fixture(autouse=True, scope="module")
def _bounded_memory():
    """A process keeps each program that it ever compiled; what a file left goes when it is much."""
    yield
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > _MOST_MEMORY:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """A folder of prepared real sets (mnist, cifar10), if there is one."""
    return _named_by("CNNJAX_TEST_TFDS", "of prepared TFDS sets")


@pytest.fixture(scope="session")
def real_coco() -> Path:
    """A folder with COCO's instances_val2017.json, or a part of it, if there is one."""
    return _named_by("CNNJAX_TEST_COCO", "with instances_val2017.json")


def _named_by(variable: str, what: str) -> Path:
    """The folder that a variable names; without one the test is skipped."""
    folder = os.environ.get(variable)
    if not folder:
        pytest.skip(f"{variable} names no folder {what}")
    return Path(folder)


@pytest.fixture(scope="session")
def digits():
    from cnnjax import load_dataset

    return load_dataset("digits")


@pytest.fixture
def cli(capsys):
    """Run `cnnjax ARGS` in this process; gives (exit code, standard output, standard error)."""
    from cnnjax.cli.main import cnnjax, run

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            run(cnnjax, [str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    return call


@pytest.fixture(scope="session")
def command() -> list[str]:
    """The `cnnjax` of this environment, as a user types it; the same program where the project is
    only on PYTHONPATH."""
    installed = Path(sys.executable).with_name("cnnjax")
    if installed.exists():
        return [str(installed)]
    return [sys.executable, "-c", "from cnnjax.cli.main import main; main()"]
