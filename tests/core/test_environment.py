"""The level at which XLA compiles: recorded, and by jax's version alone."""

import os
import subprocess
import sys

import jax
import pytest

from cnnjax import Place, Refused
from cnnjax.core import environment
from cnnjax.study.runner import worker_environments

LEVEL = "xla_backend_optimization_level"
FUSIONS = "--xla_cpu_experimental_ynn_fusion_type=-reduce"
SHOW = """\
from cnnjax.core.environment import bits, compiler_options, configure_xla
configure_xla(threads=1)
print([compiler_options(), bits()["XLA_FLAGS"], bits()["program_level"]])
import jax
from cnnjax.training.placement import Argument, Jit
import numpy as np
three = Argument("whole", jax.ShapeDtypeStruct((3,), np.float32))
compiled, _ = Jit().compile(lambda x: x * 2, (three,), ("whole",))
assert list(compiled(np.ones(3, np.float32))) == [2, 2, 2]
"""


@pytest.mark.core
@pytest.mark.parametrize(
    ("version", "level"),
    [("0.10.2", ""), ("0.11.2", ""), ("0.12.0.1", "2"), ("0.13.0", "2"), ("1.0", "2")],
)
def test_the_level_of_programs_follows_jaxs_version(monkeypatch, version, level):
    monkeypatch.setattr(environment, "_version", lambda package: version)
    monkeypatch.setattr(environment, "has_accelerator", lambda: False)
    monkeypatch.setenv("XLA_FLAGS", f"--{LEVEL}=1")
    assert environment.compiler_options() == ({LEVEL: level} if level else {})
    assert environment.bits()["program_level"] == level
    monkeypatch.setenv("XLA_FLAGS", f"--{LEVEL}=0")  # by the user
    assert environment.compiler_options() == {}
    monkeypatch.setenv("XLA_FLAGS", f"--{LEVEL}=1")
    monkeypatch.setattr(environment, "has_accelerator", lambda: True)
    assert environment.compiler_options() == {}


@pytest.mark.core
def test_a_process_compiles_at_level_1_and_programs_at_theirs():
    clean = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", SHOW], env=clean, capture_output=True, text=True, check=True
    )
    version = tuple(map(int, jax.__version__.split(".")[:2]))
    level = "2" if version >= (0, 12) else ""
    options = {LEVEL: level} if level else {}
    fusions = f" {FUSIONS}" if version >= (0, 11) else ""
    assert done.stdout.strip() == str([options, f"--{LEVEL}=1{fusions}", level])


def test_flags_that_are_given_are_kept(monkeypatch):
    monkeypatch.setattr(environment, "_version", lambda package: "0.11.2")
    assert environment.processor_flags("") == f"--{LEVEL}=1 {FUSIONS}"
    own = f"--{LEVEL}=3 --xla_cpu_experimental_ynn_fusion_type="
    assert environment.processor_flags(own) == own
    monkeypatch.setattr(environment, "_version", lambda package: "0.10.2")
    assert environment.processor_flags("--x=1") == f"--x=1 --{LEVEL}=1"


@pytest.fixture
def four_cards(monkeypatch):
    monkeypatch.setattr(environment, "has_accelerator", lambda: True)
    monkeypatch.setattr(environment.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,2,5,GPU-77")


def test_each_accelerator_is_shown_alone(four_cards, monkeypatch):
    shown = [one["CUDA_VISIBLE_DEVICES"] for one in environment.accelerators()]
    assert shown == ["0", "2", "5", "GPU-77"]
    assert environment.device_count() == 4
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,-1,2")  # as CUDA reads it
    assert environment.accelerators() == [{"CUDA_VISIBLE_DEVICES": "3"}]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert environment.accelerators() == []
    monkeypatch.setattr(environment, "has_accelerator", lambda: False)
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=6")
    assert environment.device_count() == 6
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "3")
    assert (environment.accelerators(), environment.device_count()) == ([], 3)


def test_a_study_has_a_worker_for_each_accelerator(four_cards):
    one_each = worker_environments()
    assert [one["CUDA_VISIBLE_DEVICES"] for one in one_each] == ["0", "2", "5", "GPU-77"]
    assert {one["XLA_PYTHON_CLIENT_MEM_FRACTION"] for one in one_each} == {"0.900"}
    shared = worker_environments(per_device=3)
    assert [one["CUDA_VISIBLE_DEVICES"] for one in shared[:5]] == ["0", "2", "5", "GPU-77", "0"]
    assert len(shared) == 12
    assert {one["XLA_PYTHON_CLIENT_MEM_FRACTION"] for one in shared} == {"0.300"}
    assert len(worker_environments(workers=6)) == 6
    assert worker_environments(place=Place("pmap")) == ({},)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"per_device": 2}, "--workers-per-device is for accelerators, and there is none here"),
        ({"workers": 2, "place": Place("pmap")}, "--placement pmap trains one cell at a time"),
    ],
)
def test_workers_that_cannot_be_are_refused(monkeypatch, asked, message):
    monkeypatch.setattr(environment, "has_accelerator", lambda: False)
    with pytest.raises(Refused, match=message):
        worker_environments(**asked)


PAGES = "glibc.malloc.hugetlb=1"


@pytest.mark.parametrize(
    ("given", "kernel", "expected"),
    [
        ("", "always [madvise] never", PAGES),
        ("glibc.malloc.check=1", "always [madvise] never", f"glibc.malloc.check=1:{PAGES}"),
        ("glibc.malloc.hugetlb=0", "always [madvise] never", ""),  # a user's own wish
        ("", "[always] madvise never", ""),
        ("", "always madvise [never]", ""),
    ],
)
def test_huge_pages_are_asked_for_where_the_kernel_gives_them_on_demand(
    monkeypatch, tmp_path, given, kernel, expected
):
    monkeypatch.setattr(environment, "has_accelerator", lambda: False)
    monkeypatch.setattr(environment, "_glibc_version", lambda: (2, 35))
    monkeypatch.setenv("GLIBC_TUNABLES", given)
    assert environment.huge_pages_tunables(tmp_path / "absent") == ""
    (tmp_path / "enabled").write_text(kernel)
    assert environment.huge_pages_tunables(tmp_path / "enabled") == expected
    monkeypatch.setattr(environment, "_glibc_version", lambda: (2, 34))
    assert environment.huge_pages_tunables(tmp_path / "enabled") == ""
    monkeypatch.setattr(environment, "_glibc_version", lambda: (2, 36))
    monkeypatch.setattr(environment, "has_accelerator", lambda: True)
    assert environment.huge_pages_tunables(tmp_path / "enabled") == ""


def test_a_program_is_begun_again_once_with_all_its_arguments(monkeypatch):
    begun = []
    monkeypatch.setattr(environment, "huge_pages_tunables", lambda: PAGES)
    monkeypatch.setattr(environment.os, "execv", lambda *call: begun.append(call))
    monkeypatch.setattr(sys, "orig_argv", ["python", "-X", "dev", "a b", "--set", "c=d e"])
    monkeypatch.setenv("GLIBC_TUNABLES", "")
    environment.begin_with_huge_pages()
    environment.begin_with_huge_pages()  # glibc has dropped them
    monkeypatch.delenv("CNNJAX_BEGUN_WITH_HUGE_PAGES")
    assert begun == [(sys.executable, [sys.executable, "-X", "dev", "a b", "--set", "c=d e"])]


def test_a_command_that_computes_begins_once_more_with_its_arguments(command, tmp_path):
    if not environment.huge_pages_tunables():
        pytest.skip("the kernel has no huge pages on demand, or they are asked for already")
    (tmp_path / "own.py").write_text(
        "import os, sys\nprint('begun with', os.environ['GLIBC_TUNABLES'], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [*command, "train", "--model", "own.py:Absent", "--workdir", "run"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert f"begun with {PAGES}" in done.stderr
    assert "Absent" in done.stderr
