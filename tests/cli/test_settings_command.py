"""cnnjax settings, as a user types it."""

import json
import subprocess
import sys

from cnnjax.training.recipes import RECIPES

MINE = """
def slow(learning_rate: float, patience: int, names: tuple[str, ...] = ()):
    '''A step.

    Args:
      patience: how long
        it waits.
    '''
"""


def test_the_settings_of_an_optimiser(cli):
    code, out, err = cli("settings", "optimizer", "--optimizer", "adamw", "--json")
    assert (code, err) == (0, "")
    found = {one.pop("path"): one for one in json.loads(out)["settings"]}
    assert found["optimizer.weight_decay"]["default"] == 0.01
    assert found["optimizer.weight_decay_on"]["allowed"] == ["all", "kernels"]
    assert found["optimizer.clip_norm"]["type"] == "float or null"
    assert "optimizer.b2" in found
    assert "optimizer.momentum" not in found


def test_every_recipe_is_named_in_the_help(cli):
    for command in ("settings", "train"):
        told = cli(command, "--help")[1]
        assert [name for name in RECIPES if name not in told] == [], command


def test_a_network_s_settings_are_told_by_its_bases_too(cli):
    code, out, _ = cli("settings", "model", "--model", "tiny_faster_rcnn", "--json")
    assert code == 0
    assert [one["path"] for one in json.loads(out)["settings"] if not one["sentence"]] == []


def test_a_user_s_own_are_read_from_its_docstring(cli, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    _, out, _ = cli("settings", "optimizer.patience", "--optimizer", "mine.py:slow", "--json")
    assert json.loads(out)["settings"] == [
        {
            "path": "optimizer.patience",
            "type": "int",
            "default": None,
            "allowed": None,
            "sentence": "how long it waits.",
        }
    ]
    _, out, _ = cli("settings", "optimizer", "--optimizer", "mine.py:slow")
    assert "(needed)" in out
    assert "optimizer.ema_decay" in out


def test_unknown_names_are_refused_with_the_nearest(cli):
    for arguments, word in (
        (["optimiser"], "did you mean optimizer"),
        (["--recipe", "small_image"], "did you mean small_images"),
        (["--optimizer", "adamx"], "did you mean adam"),
        (["model", "--model", "resnet51"], "resnet50"),
    ):
        code, out, err = cli("settings", *arguments)
        assert (code, out) == (2, "")
        assert word in err
        assert err.count("\n") == 1


def test_what_needs_no_jax_does_not_import_it():
    code = "import sys; from cnnjax.cli.main import cnnjax; cnnjax(['settings', 'data'],"
    code += " standalone_mode=False); assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
