"""Damage is noticed, named, and walked back from; another network's state is never loaded."""

import itertools
import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import Refused
from cnnjax.core.errors import Failed
from cnnjax.training.checkpoint import (
    LightSaves,
    OrbaxSaves,
    check_digests,
    column_digests,
    digest_of_columns,
)

pytestmark = pytest.mark.core  # also on every other Python: make test-core


def tree(value):
    return {
        "kernel": jax.random.normal(jax.random.key(value), (64, 64)),  # hard to compress
        "nested": {"step": jnp.int32(value)},
    }


@pytest.fixture
def saved(tmp_path):
    """Three orbax saves, and what was said."""
    said = []
    saves = OrbaxSaves(tmp_path / "checkpoints", "mine", said.append)
    for step in (1, 2, 3):
        saves.save(step, tree(step), force=True)
    return saves, said


def test_the_newest_is_restored(saved):
    saves, said = saved
    chex.assert_trees_all_equal(saves.restore(tree(0)), tree(3))
    assert said == []


def array_file(folder):
    return max((p for p in folder.rglob("ocdbt*/**/d/*") if p.is_file()),
               key=lambda p: p.stat().st_size)  # fmt: skip


def flip(path):
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 16
    path.write_bytes(damaged)


def test_a_flipped_bit_is_noticed_and_the_save_before_is_used(saved):
    saves, said = saved
    flip(array_file(saves.folder / "3"))
    chex.assert_trees_all_equal(saves.restore(tree(0)), tree(2))
    assert len(said) == 1
    assert str(saves.folder / "3") in said[0]
    saves.save(3, tree(3), force=True)  # the step can be saved again
    chex.assert_trees_all_equal(saves.restore(tree(0)), tree(3))


# After a failed read tensorstore may still call back into the event loop that orbax has closed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", ["cut", "remove", "empty"])
def test_other_damage_is_walked_back_from(saved, damage):
    saves, said = saved
    folder = saves.folder / "3"
    if damage == "cut":
        path = array_file(folder)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "remove":
        shutil.rmtree(folder / "state")
    else:
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    chex.assert_trees_all_equal(saves.restore(tree(0)), tree(2))
    assert len(said) == 1


def test_nothing_intact_is_nothing(tmp_path):
    assert OrbaxSaves(tmp_path / "c", "mine", print).restore(tree(0)) is None
    assert LightSaves(tmp_path / "f", "mine", print).restore(tree(0)) is None


def other_dtype():
    return {**tree(0), "kernel": tree(0)["kernel"].astype(jnp.bfloat16)}


def other_shape():
    return {**tree(0), "kernel": jnp.zeros((32, 64))}


def other_name():
    return {"kernels": tree(0)["kernel"], "nested": tree(0)["nested"]}


@pytest.mark.parametrize("template", [other_dtype, other_shape, other_name])
def test_another_networks_state_is_never_loaded_and_never_lost(saved, tmp_path, template):
    saves, _ = saved
    with pytest.raises(Refused, match="saved from another network: kernel"):
        saves.restore(template())
    chex.assert_trees_all_equal(saves.restore(tree(0)), tree(3))

    said = []
    light = LightSaves(tmp_path / "light", "mine", said.append)
    light.save(1, tree(1), force=True)
    assert light.restore(template()) is None
    assert "saved from another network: kernel" in said[0]


def test_another_runs_checkpoints_are_refused(saved):
    saves, _ = saved
    with pytest.raises(Refused, match="checkpoints of another run"):
        OrbaxSaves(saves.folder, "another", print).restore(tree(0))


def test_reading_touches_nothing(saved):
    saves, said = saved
    flip(array_file(saves.folder / "3"))
    (saves.folder / "4.orbax-checkpoint-tmp").mkdir()  # another process is writing
    before = sorted(saves.folder.rglob("*"))
    reader = OrbaxSaves(saves.folder, "mine", said.append, read_only=True)
    chex.assert_trees_all_equal(reader.restore(tree(0)), tree(2))
    assert sorted(saves.folder.rglob("*")) == before


def test_a_damaged_save_is_set_aside_not_deleted(saved):
    saves, _ = saved
    shutil.rmtree(saves.folder / "3" / "state")
    saves.restore(tree(0))
    assert [p.name[:9] for p in saves.folder.glob("damaged-*")] == ["damaged-3"]


def test_every_damaged_byte_of_the_light_form_is_noticed(tmp_path):
    said = []
    saves = LightSaves(tmp_path / "file", "mine", said.append)
    small = {"a": jnp.arange(3.0)}
    saves.save(1, small, force=True)
    whole = saves.path.read_bytes()
    for index in range(len(whole)):
        damaged = bytearray(whole)
        damaged[index] ^= 1
        saves.path.write_bytes(damaged)
        assert saves.restore(small) is None
    assert len(said) == len(whole)


def test_saves_keep_their_distance(tmp_path):
    saves = LightSaves(tmp_path / "file", "mine", print, seconds=3600.0)
    saves.save(1, tree(1))
    assert not saves.path.exists()
    saves.save(2, tree(2), force=True)
    assert saves.path.exists()


def test_a_whole_save_that_orbax_cannot_read_is_left_alone(saved, monkeypatch):
    """A change in orbax is no damage: nothing is set aside, nothing starts at 0."""
    saves, said = saved
    before = sorted(saves.folder.rglob("*"))

    def changed(*arguments, **named):
        raise TypeError("restore() got an unexpected keyword argument 'args'")

    monkeypatch.setattr(saves._manager, "restore", changed)
    with pytest.raises(Failed, match=r"is whole, but orbax cannot read it \(TypeError"):
        saves.restore(tree(0))
    assert sorted(saves.folder.rglob("*")) == before
    assert said == []


def test_an_error_of_the_disk_is_no_damage(saved, monkeypatch):
    saves, said = saved
    before = sorted(saves.folder.rglob("*"))

    def failing(folder):
        raise OSError(5, "Input/output error", str(folder))

    monkeypatch.setattr("cnnjax.training.checkpoint.file_digests", failing)
    with pytest.raises(Failed, match="Input/output error"):
        saves.restore(tree(0))
    assert sorted(saves.folder.rglob("*")) == before
    assert said == []


def test_a_flipped_bit_anywhere_in_a_save_walks_back(tmp_path):
    """In every file of the newest save, its seal too: never a refusal, never the wrong arrays."""
    saves = OrbaxSaves(tmp_path / "c", "mine", lambda line: None, read_only=False)
    for step in (1, 2):
        saves.save(step, tree(step), force=True)
    files = [p for p in (saves.folder / "2").rglob("*") if p.is_file()]
    reader = OrbaxSaves(saves.folder, "mine", lambda line: None, read_only=True)
    for path in [*files, saves.folder / "2.json"]:
        whole = path.read_bytes()
        if not whole:
            continue
        flip(path)
        chex.assert_trees_all_equal(reader.restore(tree(0)), tree(1))
        path.write_bytes(whole)
    chex.assert_trees_all_equal(reader.restore(tree(0)), tree(2))


def test_another_cells_checkpoint_is_not_gone_on_from(tmp_path):
    said = []
    LightSaves(tmp_path / "file", "mine", said.append).save(1, tree(1), force=True)
    assert LightSaves(tmp_path / "file", "yours", said.append).restore(tree(0)) is None
    assert "it is of another run; the run starts again" in said[0]


def test_a_save_whose_process_was_killed_before_its_seal_is_not_lost(saved):
    saves, said = saved
    (saves.folder / "3.json").unlink()
    chex.assert_trees_all_equal(saves.restore(tree(0)), tree(3))
    assert (saves.folder / "3.json").exists()
    (saves.folder / "3.json").unlink()
    flip(array_file(saves.folder / "3"))  # and without a seal damage is damage all the same
    chex.assert_trees_all_equal(saves.restore(tree(0)), tree(2))
    assert len(said) == 1


def test_seals_go_with_their_saves(saved):
    saves, _ = saved
    for step in (4, 5):
        saves.save(step, tree(step), force=True)
    assert sorted(p.name for p in saves.folder.iterdir()) == [
        "3", "3.json", "4", "4.json", "5", "5.json",
    ]  # fmt: skip


@pytest.mark.parametrize("parts", [1, 2, 3, 6, 12])
def test_a_digest_of_columns_is_that_of_any_division(parts):
    kernel = np.random.default_rng(0).normal(size=(3, 5, 12)).astype(np.float32)
    whole = digest_of_columns(column_digests(kernel))
    cut = [column_digests(part) for part in np.split(kernel, parts, axis=-1)]
    assert digest_of_columns(itertools.chain(*cut)) == whole
    expected = {"kernel": ["float32", [3, 5, 12], whole]}
    check_digests(expected, {"kernel": kernel})
    kernel[1, 2, 3] = np.nextafter(kernel[1, 2, 3], np.float32(9))
    with pytest.raises(ValueError, match="kernel is damaged"):
        check_digests(expected, {"kernel": kernel})
