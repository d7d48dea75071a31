"""Damage is noticed, named, and walked back from; another network's state is never loaded."""

import shutil

import chex
import jax
import jax.numpy as jnp
import pytest

from cnnjax.train.checkpoint import LightSaves, OrbaxSaves


def tree(value):
    return {
        "kernel": jax.random.normal(jax.random.key(value), (64, 64)),  # hard to compress
        "nested": {"step": jnp.int32(value)},
    }


@pytest.fixture
def saved(tmp_path):
    """Three orbax saves, and what was said."""
    said = []
    saves = OrbaxSaves(tmp_path / "checkpoints", said.append)
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


def test_a_flipped_bit_is_noticed_and_the_save_before_is_used(saved):
    saves, said = saved
    path = array_file(saves.folder / "3")
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 16
    path.write_bytes(damaged)
    chex.assert_trees_all_equal(saves.restore(tree(0)), tree(2))
    assert len(said) == 1
    assert str(saves.folder / "3") in said[0]
    saves.save(3, tree(3), force=True)  # the step can be saved again
    chex.assert_trees_all_equal(saves.restore(tree(0)), tree(3))


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
    assert OrbaxSaves(tmp_path / "c", print).restore(tree(0)) is None
    assert LightSaves(tmp_path / "f", print).restore(tree(0)) is None


def other_dtype():
    return {**tree(0), "kernel": tree(0)["kernel"].astype(jnp.bfloat16)}


def other_shape():
    return {**tree(0), "kernel": jnp.zeros((32, 64))}


def other_name():
    return {"kernels": tree(0)["kernel"], "nested": tree(0)["nested"]}


@pytest.mark.parametrize("template", [other_dtype, other_shape, other_name])
@pytest.mark.parametrize("form", ["orbax", "light"])
def test_another_networks_state_is_never_loaded(tmp_path, template, form):
    said = []
    cls = {"orbax": OrbaxSaves, "light": LightSaves}[form]
    saves = cls(tmp_path / form, said.append)
    saves.save(1, tree(1), force=True)
    assert saves.restore(template()) is None
    assert "saved from another network: kernel" in said[0]


def test_every_damaged_byte_of_the_light_form_is_noticed(tmp_path):
    said = []
    saves = LightSaves(tmp_path / "file", said.append)
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
    saves = LightSaves(tmp_path / "file", print, seconds=3600.0)
    saves.save(1, tree(1))
    assert not saves.path.exists()
    saves.save(2, tree(2), force=True)
    assert saves.path.exists()
