"""`cnnjax bench`: figures of the right size, with their units and what they depend on."""

import json

import pytest

from cnnjax.bench import study as bench
from cnnjax.study.cells import resolve
from cnnjax.study.runner import Session
from tests.data.test_folder import write
from tests.study.test_launch import STUDY
from tests.test_api import NET

SMALL = ("--model", "cifar_resnet8", "--set", "model.width=0.25", "--batch-size", "8")


def test_a_step_is_timed_and_its_parts_agree(cli):
    code, out, err = cli("bench", "step", *SMALL, "--rounds", 1, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["least_ms"] <= found["step_ms"] <= found["most_ms"]
    assert found["images_per_second"] == pytest.approx(8000 / found["step_ms"])
    assert found["peak_share"] == pytest.approx(found["flops_per_second"] / found["matmul_flops"])
    assert found["bits"]["placement"] == "jit"


def test_compilation_is_timed_and_remat_asks_for_less_memory(cli):
    deep = ("--model", "cifar_resnet20", "--set", "model.width=0.25", "--batch-size", "8")
    sizes = []
    for more in ((), ("--set", "compute.remat=true")):
        code, out, err = cli("bench", "compile", *deep, *more, "--rounds", 1, "--json")
        assert code == 0, err
        found = json.loads(out)
        assert found["compile_seconds"] > 0
        sizes.append(found["program_bytes"])
    assert 0 < sizes[1] < sizes[0]


def test_examples_in_memory_and_in_a_stream_are_timed(cli, tmp_path):
    for place in ("cat/1", "cat/2", "cat/3", "dog/4", "dog/5", "dog/6"):
        write(tmp_path / "train" / f"{place}.jpg", int(place[-1]))
    code, out, err = cli("bench", "data", "digits", "--rounds", 1, "--json")
    assert code == 0, err
    held = json.loads(out)
    assert held["bytes_on_device"] > 1347 * 64
    folder = f"folder:{tmp_path}"
    settings = ("--set", "data.image_size=32", "--set", "data.test_share=0.25")
    words = (folder, "--batch-size", 4, "--rounds", 1, *settings)
    code, out, err = cli("bench", "data", *words, "--json")
    assert code == 0, err
    streamed = json.loads(out)
    assert streamed["streamed"]
    assert streamed["images_per_core_second"] > 0
    assert not held["streamed"]
    code, out, _ = cli("bench", "data", *words)
    assert "of a core" in out
    code, _, err = cli("bench", "data", "digits", "--batch-size", 9999)
    assert code == 2
    assert "batch_size=9999 exceeds the 1,347 training examples" in err


def test_a_study_is_timed_cold_and_warm(tmp_path, monkeypatch):
    """The cold run fills a cache of its own, which the warm one has."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    names: dict = {}
    exec(STUDY, names)
    settings = ("model.name=net.py:Net", "steps=14")
    plan = resolve(names["study"], "quick", settings=settings, seeds=1)
    told = []
    found = bench.bench_study(plan, workers=1, on_status=lambda cache, _: told.append(cache))
    assert [one.cache for one in found] == ["cold", "warm"]
    assert [one.cells for one in found] == [2, 2]
    assert set(told) == {"cold", "warm"}
    assert found[1].compile_seconds < found[0].compile_seconds
    assert all(0 < one.train_seconds < one.seconds for one in found)
    assert list(tmp_path.iterdir()) == [tmp_path / "net.py"]


def test_a_study_whose_cells_fail_has_no_figures(tmp_path, monkeypatch):
    names: dict = {}
    exec(STUDY, names)
    plan = resolve(names["study"], "quick", seeds=1)
    session = Session(1.0, 1, 0, 1.0, 1.0, False)

    def nothing(plan, folder, *, say, **_):
        bench.Store(folder).folder.mkdir(parents=True)
        bench.Store(folder).claim(plan, {}, {}, "", lambda line: None)
        say("low-s0 failed: why")
        return session

    monkeypatch.setattr(bench, "run_study", nothing)
    with pytest.raises(bench.Failed, match="2 cells of tiny have no result: low-s0 failed: why"):
        bench.bench_study(plan)
