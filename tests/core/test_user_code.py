"""What was loaded, what is digested and what is on disk are one thing; errors name their line."""

import hashlib
import importlib
import os
import subprocess
import sys

import pytest

from cnnjax import Refused, create_model
from cnnjax.core.registry import check_sources, source_digests
from cnnjax.core.user_code import load_file, located, paths_from, refused, user_line

NET = """\
from flax import linen as nn
class Net(nn.Module):
    features: int = {features}
    @nn.compact
    def __call__(self, images, *, train):
        return nn.Dense(self.features)(images.mean((1, 2)))
"""


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_edited_file_is_loaded_anew_and_each_model_knows_its_own_digest(tmp_path):
    path = tmp_path / "net.py"
    name = f"{path}:Net"
    path.write_text(NET.format(features=3))
    old, old_digest = create_model(name), sha256(path)
    path.write_text(NET.format(features=4))
    new = create_model(name)
    assert (old.features, new.features) == (3, 4)
    assert source_digests([(name, type(old))]) == {str(path): old_digest}
    assert source_digests([(name, type(new))]) == {str(path): sha256(path)}
    with pytest.raises(Refused, match="was edited while it was read"):
        source_digests([(name, type(old)), (name, type(new))])
    with pytest.raises(Refused, match=r"net.py was edited since runs/first was trained"):
        check_sources(
            {str(path): old_digest}, source_digests([(name, type(new))]), "runs/first was trained"
        )


def test_the_same_size_and_time_do_not_hide_an_edit(tmp_path):
    path = tmp_path / "net.py"
    path.write_text("value = 1\n")
    before = path.stat()
    assert load_file(str(path), "model").value == 1
    path.write_text("value = 2\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert load_file(str(path), "model").value == 2


def test_an_unedited_file_is_one_module_and_a_broken_one_leaves_none(tmp_path):
    path = tmp_path / "net.py"
    path.write_text("value = 1\n")
    assert load_file(str(path), "model") is load_file(str(path), "model")
    modules = set(sys.modules)
    path.write_text("value = 2\n1 / 0\n")
    with pytest.raises(Refused, match=r"does not import: net.py, line 2: ZeroDivisionError"):
        load_file(str(path), "model")
    assert set(sys.modules) == modules
    path.write_text("value = 1\n")
    assert load_file(str(path), "model").value == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"import sys\nsys.exit(0)\n", r"ends the program \(sys.exit\(0\)\)"),
        (b"quit()\n", r"ends the program \(sys.exit\(None\)\)"),
        (b"\n\nimport no_such_module\n", "line 3: ModuleNotFoundError"),
        (b"def f(:\n", r"SyntaxError: .*line 1"),
        (b"x = '\xff'\n", "SyntaxError"),
        (b"from cnnjax import Model\nModel(x=1)\n", "line 2: TypeError"),
    ],
)
def test_a_file_that_does_not_import_is_refused_with_its_line(tmp_path, source, message):
    path = tmp_path / "net.py"
    path.write_bytes(source)
    with pytest.raises(Refused, match=message):
        load_file(str(path), "model")


def test_relative_paths_start_where_they_are_told_to(tmp_path, monkeypatch):
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "net.py").write_text(f"place = {folder!r}\n")
    monkeypatch.chdir(tmp_path / "here")
    assert load_file("net.py", "model").place == "here"
    with paths_from(tmp_path / "there"):
        assert load_file("net.py", "model").place == "there"
        with paths_from(None):  # not known: nothing changes
            assert located("x") == tmp_path / "there" / "x"
    assert load_file("net.py", "model").place == "here"


def test_an_error_in_a_users_code_names_the_innermost_line(tmp_path):
    path = tmp_path / "net.py"
    path.write_text("def outer():\n    inner()\ndef inner():\n    raise KeyError('x')\n")
    module = load_file(str(path), "model")
    with (
        pytest.raises(Refused, match=r"it fails: net.py, line 4: KeyError: 'x'"),
        refused("it fails"),
    ):
        module.outer()
    assert user_line(ValueError("ours")) is None


def test_a_class_that_a_file_imports_has_the_files_digest(tmp_path):
    (tmp_path / "other_file.py").write_text(NET.format(features=3))
    path = tmp_path / "net.py"
    path.write_text(
        "import importlib.util\n"
        f"path = {str(tmp_path / 'other_file.py')!r}\n"
        "spec = importlib.util.spec_from_file_location('other', path)\n"
        "other = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(other)\n"
        "Net = other.Net\n"
    )
    name = f"{path}:Net"
    assert source_digests([(name, type(create_model(name)))]) == {str(path): sha256(path)}


def test_a_field_without_a_default_says_how_to_set_it(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(NET.format(features=3).replace("features: int = 3", "features: int"))
    with pytest.raises(Refused, match=r"no default for features; .* --set model.features=VALUE"):
        create_model(f"{path}:Net")
    assert create_model(f"{path}:Net", features=2).features == 2


def test_a_module_that_was_edited_since_its_import_is_refused(tmp_path, monkeypatch):
    """What runs is what was imported; a digest of the file that lies there now would lie."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    package = tmp_path / "edited_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "nets.py").write_text(NET.format(features=3))
    importlib.import_module("edited_package.nets")
    (package / "nets.py").write_text(NET.format(features=64))
    with pytest.raises(Refused, match=r"nets.py was edited since edited_package.nets was imported"):
        create_model("edited_package.nets:Net")


def test_a_module_alone_is_digested_with_what_lies_beside_it(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    digests = []
    for number in (1, 2):
        (tmp_path / "blocks_beside.py").write_text(f"FEATURES = {number}\n")
        (tmp_path / "nets_alone.py").write_text(
            "from blocks_beside import FEATURES\n" + NET.format(features="FEATURES")
        )
        digests.append(
            subprocess.run(
                [sys.executable, "-c", "from cnnjax import create_model\n"
                 "from cnnjax.core.registry import source_digests\n"
                 "net = create_model('nets_alone:Net')\n"
                 "print(source_digests([('nets_alone:Net', type(net))]))"],
                cwd=tmp_path, capture_output=True, text=True, check=True,
            ).stdout
        )  # fmt: skip
    assert digests[0] != digests[1]
