import json

import pytest

from cnnjax import Contrast, Preset, Refused, Study, small_images
from cnnjax.core.place import JIT, Place
from cnnjax.study.cells import resolve
from cnnjax.study.outcome import read_outcome
from cnnjax.study.store import Store, place_of, plan_of

pytestmark = pytest.mark.core  # also on every other Python: make test-core

STUDY = Study(
    name="mine",
    question="Is <b>deeper</b> & better?",
    source="a test",
    base=small_images,
    factors={"depth": {"8": {"model.depth": 8}, "14": {"model.depth": 14}}},
    seeds=2,
    metrics=("train_error", "test_error"),
    contrasts=(Contrast("8", "14", "train_error", "lower"),),
    presets={"quick": Preset()},
)
COSTS = {name: {"params": 10, "macs": 20, "input": [8, 8, 1]} for name in ("8", "14")}
DATA = {
    "digits (train, test, own size)": {
        "train": 3, "test": 2, "image_shape": [8, 8, 1], "classes": 10, "source": "x",
        "fingerprint": "f",
    }
}  # fmt: skip


def claim(folder, said=None, *, study=STUDY, place=JIT, mixed_bits=False, **arguments):
    plan = resolve(study, **arguments)
    said = [] if said is None else said
    folder.mkdir(parents=True, exist_ok=True)
    plan, _ = Store(folder).claim(
        plan, DATA, COSTS, "a command", said.append, place=place, mixed_bits=mixed_bits
    )
    return Store(folder), plan


def test_another_placement_is_refused_unless_it_is_meant(tmp_path):
    two = Place("pmap", 2)
    store, _ = claim(tmp_path, place=two)
    assert place_of(store.read()[1]) == two
    claim(tmp_path, place=two)
    with pytest.raises(
        Refused, match=r"pmap over 2 devices.* --placement pmap --devices 2, .*--mixed-bits"
    ):
        claim(tmp_path)
    said = []
    claim(tmp_path, said, mixed_bits=True)
    assert "placement" in said[0]
    assert place_of(store.read()[1]) == two


def identity(store):
    return store.read()[1]["identity"]


def results(store, plan, said):
    return store.results(plan, identity(store), said.append)


def fill(store, plan, *, without=()):
    """Results as a worker leaves them."""
    for cell in plan.cells:
        if cell.name in without:
            continue
        files = store.files(cell)
        files.begin(cell, identity(store))
        error = 10.0 * cell.seed + int(cell.variant.name)
        record = {"epoch": 1, "step": 14, "batch_error": error, "test_error": error}
        files.metrics.write_text(json.dumps(record) + "\n")
        files.finish(
            {
                "status": "done", "steps": 14, "train_error": error, "test_error": error,
                "train_loss": 1.0, "test_loss": 1.0, "train_seconds": 1.0, "init_seconds": 0.5,
                "compile_seconds": 2.0 if cell.seed == 0 else 0.0, "diverged": None,
            }
        )  # fmt: skip


def test_the_document_is_enough_to_read_the_study(tmp_path):
    store, plan = claim(tmp_path)
    read, document = store.read()
    assert read == plan
    assert plan_of(json.loads(json.dumps(document))) == plan
    assert document["versions"]["jax"]
    assert document["bits"]["PJRT_NPROC"]


def test_a_lost_document_forgets_no_seeds_and_says_that_it_was_lost(tmp_path):
    store, plan = claim(tmp_path, seeds=3)
    fill(store, plan)
    store.document.unlink()
    _, again = claim(tmp_path, seeds=2)
    assert len(again.cells) == 6
    (note,) = read_outcome(tmp_path).extension_notes
    assert "was lost and written anew" in note


def test_more_seeds_extend_and_fewer_forget_nothing(tmp_path):
    claim(tmp_path, seeds=2)
    _, more = claim(tmp_path, seeds=3)
    assert len(more.cells) == 6
    _, fewer = claim(tmp_path, seeds=1)
    assert len(fewer.cells) == 6
    (extension,) = Store(tmp_path).read()[1]["extensions"]
    assert (extension["from"], extension["to"]) == (2, 3)


def test_any_other_change_is_refused_with_a_diff(tmp_path):
    claim(tmp_path)
    with pytest.raises(Refused, match=r"optimizer.learning_rate: 0.05 -> 0.01"):
        claim(tmp_path, settings=("optimizer.learning_rate=0.01",))
    assert Store(tmp_path).read()[0].base.optimizer.learning_rate == 0.05


@pytest.mark.parametrize("name", ["result", "metrics", "config"])
def test_a_flipped_bit_in_any_file_of_a_cell_makes_it_run_again(tmp_path, name):
    store, plan = claim(tmp_path)
    fill(store, plan)
    said = []
    assert len(results(store, plan, said)) == 4
    assert said == []
    cell = plan.cells[1]
    path = getattr(store.files(cell), name)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    found = results(store, plan, said)
    assert set(found) == {(c.variant.name, c.seed) for c in plan.cells} - {("14", 0)}
    assert len(said) == 1
    assert str(path) in said[0]
    assert "runs again" in said[0]


def test_a_damaged_study_file_is_written_anew(tmp_path):
    store, plan = claim(tmp_path)
    fill(store, plan)
    store.document.write_bytes(store.document.read_bytes()[:-20])
    with pytest.raises(Refused, match="damaged"):
        store.read()
    said = []
    store, plan = claim(tmp_path, said)
    assert "written anew" in said[0]
    assert len(results(store, plan, said)) == 4


def test_a_damaged_study_file_adopts_no_other_studys_results_and_forgets_no_seeds(tmp_path):
    store, plan = claim(tmp_path, seeds=3)
    fill(store, plan)
    store.document.write_bytes(b"{}")
    other = {"digits (train, test, own size)": {"fingerprint": "another"}}
    said = []
    plan, found = store.claim(resolve(STUDY), other, COSTS, "a command", said.append)
    assert len(plan.cells) == 6
    assert store.results(plan, found, said.append) == {}
    assert sum("other settings, data or sources" in line for line in said) == 6


@pytest.mark.parametrize("where", ["nothing", "file"])
def test_a_folder_that_is_no_study_is_refused(tmp_path, where):
    (tmp_path / "file").touch()
    with pytest.raises(Refused, match="is no study"):
        Store(tmp_path / where).read()


def test_a_failure_is_remembered_until_the_cell_is_done(tmp_path):
    store, plan = claim(tmp_path)
    cell = plan.cells[0]
    files = store.files(cell)
    files.begin(cell, identity(store))
    files.fail("MemoryError: no")
    assert store.failures(plan) == {("8", 0): "MemoryError: no"}
    fill(store, plan)
    assert store.failures(plan) == {}
