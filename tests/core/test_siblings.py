"""What a user's file imports from its folder is found, is run from the bytes that were hashed, and
is part of the digest; names of an installed package are resolved and digested too."""

import concurrent.futures
import hashlib
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import typing
from pathlib import Path

import pytest

from cnnjax import Refused, create_model
from cnnjax.core import siblings, user_code
from cnnjax.core.architectures import MODELS
from cnnjax.core.registry import source_digests
from cnnjax.core.user_code import is_own, load_file, load_object, refused, source_digest, user_line

NET = """\
from flax import linen as nn
from blocks import FEATURES
class Net(nn.Module):
    features: int = FEATURES
    @nn.compact
    def __call__(self, images, *, train):
        return nn.Dense(self.features)(images.mean((1, 2)))
"""


def forget():
    """As if the process were new to all users' files."""
    for table in (siblings._sources, siblings._modules, siblings._computed, user_code._loaded):
        table.clear()
    for name, module in list(sys.modules.items()):
        if "pytest-of" in (getattr(module, "__file__", None) or ""):
            del sys.modules[name]


@pytest.fixture(autouse=True)
def _a_process_of_its_own(monkeypatch):
    """Siblings are known by plain names to the whole process; each test starts with none."""
    monkeypatch.setattr(user_code, "_loaded", {})
    yield
    forget()


@pytest.fixture
def write(tmp_path):
    """Write files below a folder; gives the path of the first."""

    def write(**files):
        paths = [tmp_path / f"{name.replace('__in__', '/')}.py" for name in files]
        for path, text in zip(paths, files.values(), strict=True):
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_text(text)
        return str(paths[0])

    return write


def digest(file):
    return source_digest(load_file(file, "model"))


def test_a_sibling_is_found_and_an_edit_of_it_makes_another_digest(write, tmp_path):
    file = write(net=NET, blocks="FEATURES = 3\n")
    name = f"{file}:Net"
    old = create_model(name)
    (before,) = source_digests([(name, type(old))]).values()
    assert create_model(name).__class__ is old.__class__
    write(blocks="FEATURES = 4\n")
    new = create_model(name)
    assert (old.features, new.features) == (3, 4)
    (after,) = source_digests([(name, type(new))]).values()
    assert before != after
    assert source_digests([(name, type(old))]) == {
        file: before
    }  # of what was loaded, not of the disk
    write(blocks="FEATURES = 3\n")
    assert source_digests([(name, type(create_model(name)))]) == {file: before}


def test_the_digest_of_a_file_alone_is_that_of_its_bytes(write):
    file = write(net="value = 1\nimport json, numpy.linalg\n", unused="value = 2\n")
    with open(file, "rb") as opened:
        assert digest(file) == hashlib.sha256(opened.read()).hexdigest()


def test_the_digest_does_not_depend_on_the_place(write, tmp_path):
    files = [
        write(**{f"{place}__in__net": "import blocks_of_it", f"{place}__in__blocks_of_it": ""})
        for place in ("a", "b")
    ]
    first = digest(files[0])
    forget()
    assert digest(files[1]) == first


@pytest.mark.parametrize(
    "net",
    [
        "def late():\n    import blocks\n    return blocks.value\n",
        "def late():\n    from blocks import value\n    return value\n",
        "import importlib\ndef late():\n    return importlib.import_module('blocks').value\n",
        "import heads\ndef late():\n    return heads.late()\n",
        "import parts\ndef late():\n    return parts.late()\n",
        "from parts.deep import inner\ndef late():\n    return inner.late()\n",
    ],
)
def test_what_is_imported_at_last_is_what_was_hashed_at_first(write, tmp_path, net, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    late = "def late():\n    import blocks\n    return blocks.value\n"
    file = write(
        net=net, blocks="value = 1\n", heads=late,
        parts__in____init__=late, parts__in__deep__in__inner=late,
    )  # fmt: skip
    module = load_file(file, "model")
    first = digest(file)
    assert "blocks" not in sys.modules
    before = os.stat(tmp_path / "blocks.py")
    write(blocks="value = 2\n")
    os.utime(tmp_path / "blocks.py", ns=(before.st_atime_ns, before.st_mtime_ns))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: module.late(), range(4))) == [1] * 4
    assert not list(tmp_path.rglob("*.pyc"))
    new = load_file(file, "model")
    assert new is not module
    assert new.late() == 2
    assert digest(file) != first


def test_a_package_is_a_sibling_as_a_whole(write, tmp_path):
    file = write(
        net="import parts\nfrom parts import one\nvalue = one.value, parts.there()\n",
        parts__in____init__="import pkgutil\n"
        "def there(): return sorted(m.name for m in pkgutil.iter_modules(__path__))\n",
        parts__in__one="from .deep.two import value\nfrom . import deep\n",
        parts__in__deep__in__two="value = 2\n",  # its folder has no __init__.py
        parts__in__unused="",
    )
    assert load_file(file, "model").value == (2, ["one", "unused"])
    first = digest(file)
    module = load_file(file, "model")
    for name in ("one", "deep.two"):
        assert sys.modules[f"parts.{name}"].__file__.startswith(str(tmp_path))
    write(parts__in__later="value = 1\n")
    with pytest.raises(ModuleNotFoundError, match=r"parts.later is newer than parts as it was"):
        __import__("parts.later")
    assert load_file(file, "model") is not module
    assert digest(file) != first
    write(parts__in__deep__in__two="value = 3\n")
    assert load_file(file, "model").value == (3, ["later", "one", "unused"])


def test_a_package_reads_its_data(write, tmp_path):
    file = write(
        net="from parts import text\n",
        parts__in____init__="from importlib.resources import files\n"
        "import pkgutil\n"
        "text = files(__name__).joinpath('a.txt').read_text()\n"
        "assert pkgutil.get_data(__name__, 'a.txt') == text.encode()\n",
    )
    (tmp_path / "parts" / "a.txt").write_text("data")
    assert load_file(file, "model").text == "data"


def test_a_computed_name_is_in_the_digest_whatever_was_loaded_before(write):
    """A worker loads the network alone, its parent the study's file first."""
    net = "import importlib\nblocks = importlib.import_module('bloc' + 'ks')\n"
    write(net=net, study="import blocks\n", heads="import net\n", blocks="import more\n", more="")
    folder = os.path.dirname(write(net=net))
    alone = digest(f"{folder}/net.py")
    assert alone != hashlib.sha256(net.encode()).hexdigest()
    for first in ("study", "heads"):
        forget()
        load_file(f"{folder}/{first}.py", "study")
        blocks = sys.modules["blocks"]
        siblings._computed.clear()  # as if only its first file had been loaded
        assert digest(f"{folder}/net.py") == alone
        assert sys.modules["blocks"] is blocks  # and it was not run twice
    write(more="value = 1\n")
    assert digest(f"{folder}/net.py") != alone


def test_a_computed_name_inside_a_sibling_counts_for_each_file_that_imports_it(write):
    write(
        one="import heads\n", two="import heads\n",
        heads="import importlib\nblocks = importlib.import_module('bloc' + 'ks')\n",
        blocks="value = 1\n",
    )  # fmt: skip
    folder = os.path.dirname(write(one="import heads\n"))
    load_file(f"{folder}/one.py", "model")
    two = load_file(f"{folder}/two.py", "model")
    write(blocks="value = 2\n")
    assert load_file(f"{folder}/two.py", "model") is not two
    assert sys.modules["heads"].blocks.value == 2


def test_siblings_stand_in_sys_modules_as_python_would_have_them(write):
    file = write(
        net="from blocks import Size, Base\n"
        "class Net(Base):\n    more: Size = None\n",
        blocks="from __future__ import annotations\n"
        "import dataclasses, typing\n"
        "Size = typing.NewType('Size', int)\n"
        "@dataclasses.dataclass\n"
        "class Base:\n    size: Size = 3\n    kind: dataclasses.InitVar[int] = 0\n",
    )  # fmt: skip
    module = load_file(file, "model")
    base = module.Base
    assert typing.get_type_hints(base)["size"] is module.Size
    assert pickle.loads(pickle.dumps(base(4))) == base(4)
    assert base.__module__ == "blocks"
    write(blocks="class Base: pass\nSize = int\n")
    assert load_file(file, "model").Base is not base
    assert base(4).size == 4


def test_two_siblings_of_one_name_are_refused_with_both_paths(write, tmp_path):
    a = write(a__in__net="import blocks\n", a__in__blocks="")
    b = write(b__in__net="import blocks\n", b__in__blocks="")
    load_file(a, "model")
    with pytest.raises(Refused, match="rename one of them") as error:
        load_file(b, "model")
    for place in ("a", "b"):
        assert str(tmp_path / place / "blocks.py") in str(error.value)
    assert "\n" not in str(error.value)
    os.remove(tmp_path / "b" / "blocks.py")
    with pytest.raises(Refused, match="No module named 'blocks'"):  # not that of the other folder
        load_file(b, "model")
    load_file(a, "model")


@pytest.mark.parametrize("name", ["random", "sys", "jax", "flax", "PIL", "this", "wheel_or_so"])
def test_a_sibling_with_the_name_of_another_module_is_refused(write, tmp_path, monkeypatch, name):
    if name == "wheel_or_so":  # installed, not yet imported
        (tmp_path / "site").mkdir()
        (tmp_path / "site" / f"{name}.py").write_text("")
        monkeypatch.syspath_prepend(tmp_path / "site")
    file = write(net=f"def late():\n    import {name}\n", **{name: "value = 1\n"})
    with pytest.raises(Refused, match=f"net.py imports {name}, and .*rename that file") as error:
        load_file(file, "model")
    assert str(tmp_path / f"{name}.py") in str(error.value)
    assert "\n" not in str(error.value)
    write(net=f"import importlib\nmodule = importlib.import_module('{name[:1]}' + '{name[1:]}')\n")
    if name in sys.modules:  # what Python gives, too
        assert load_file(file, "model").module is sys.modules[name]
    else:
        with pytest.raises(Refused, match="rename that file"):
            load_file(file, "model")


def test_a_file_of_an_installed_modules_name_is_itself_loaded_and_ignored_beside_others(write):
    file = write(flax="from flax import linen\n", random="1 / 0\n", net="import tempfile\n")
    assert load_file(file, "model").linen.Module
    assert load_file(file.replace("flax.py", "net.py"), "model").tempfile


def test_a_file_of_the_name_of_a_module_that_is_not_yet_imported(write, tmp_path, monkeypatch):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "wheel_or_so.py").write_text("place = 'site'\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    file = write(wheel_or_so="from wheel_or_so import place\n")
    assert load_file(file, "model").place == "site"


def test_pythons_own_names_are_refused_where_a_script_would_find_the_file(
    write, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(tmp_path)
    assert "this" not in sys.modules
    with pytest.raises(Refused, match="Python's own module this; rename that file"):
        load_file(write(net="import this\n", this="value = 1\n"), "model")


def test_an_installed_module_does_not_find_the_users_files(write, tmp_path, monkeypatch):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "installed_one.py").write_text(
        "try:\n    import tools\nexcept ImportError:\n    tools = None\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "site")
    file = write(net="import installed_one\n", tools="1 / 0\n")
    module = load_file(file, "model")
    assert module.installed_one.tools is None
    assert digest(file) == hashlib.sha256(b"import installed_one\n").hexdigest()


def test_a_folder_of_names_is_no_rival(write, tmp_path, monkeypatch):
    (tmp_path / "site" / "blocks").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert load_file(write(net="import blocks\n", blocks="value = 1\n"), "model").blocks.value == 1


def test_a_circle_is_run_once_as_in_python(write):
    file = write(
        net="import a\nvalue = a.value\n",
        a="value = 1\nimport b\nruns = globals().get('runs', 0) + 1\n",
        b="import a\nbefore = a.value, hasattr(a, 'runs')\n",
    )
    module = load_file(file, "model")
    assert (module.a.runs, sys.modules["b"].before) == (1, (1, False))
    write(a="from b import value\n", b="from a import value\n")
    with pytest.raises(Refused, match=r"b.py, line 1: ImportError: cannot import name 'value'"):
        load_file(file, "model")


def test_a_file_that_imports_itself_is_run_once(write, tmp_path):
    file = write(
        own_net="with open(__file__ + '.runs', 'a') as opened: opened.write('x')\n"
        "WIDTH = 3\nimport heads\nimport own_net\nme = own_net\n",
        heads="from own_net import WIDTH\n",
    )
    module = load_file(file, "model")
    assert module.me is module is sys.modules["own_net"]
    assert (tmp_path / "own_net.py.runs").read_text() == "x"
    assert load_file(file, "model") is module
    write(own_net="WIDTH = 4\nimport heads\nimport own_net\nme = own_net\n")
    new = load_file(file, "model")
    assert new.me is new is sys.modules["own_net"]
    assert new.heads.WIDTH == 4


def test_a_failed_load_leaves_nothing_and_names_the_siblings_line(write):
    file = write(net="import good\nimport blocks\n", good="value = 1\n", blocks="\n1 / 0\n")
    modules = set(sys.modules)
    with pytest.raises(Refused, match=r"net.py does not import: blocks.py, line 2: ZeroDiv") as e:
        load_file(file, "model")
    assert "\n" not in str(e.value)
    assert set(sys.modules) == modules
    write(blocks="def f(:\n")
    with pytest.raises(Refused, match=r"SyntaxError: .*\(blocks.py, line 1\)"):
        load_file(file, "model")
    assert set(sys.modules) == modules
    write(blocks="value = 1\n")
    module = load_file(file, "model")
    held = dict(sys.modules)
    write(blocks="value = 2\n", net="import good, blocks\nimport more\n1 / 0\n", more="")
    with pytest.raises(Refused, match=r"net.py, line 3: ZeroDivisionError"):
        load_file(file, "model")
    assert dict(sys.modules) == held
    write(blocks="value = 1\n", net="import good\nimport blocks\n")
    assert load_file(file, "model") is module
    write(net="import good\nimport blocks\nother = 1\n")
    assert load_file(file, "model").blocks is module.blocks


def test_a_sibling_that_another_file_had_loaded_anew_is_loaded_as_it_is_now(write, monkeypatch):
    net = "import blocks, os\nif 'CNNJAX_TEST_FAIL' in os.environ: 1 / 0\n"
    file = write(net=net, other="import blocks\n", blocks="value = 1\n")
    module = load_file(file, "model")
    write(blocks="value = 2\n")
    assert load_file(file.replace("net.py", "other.py"), "model").blocks.value == 2
    write(blocks="value = 1\n")
    with monkeypatch.context() as patch:
        patch.setenv("CNNJAX_TEST_FAIL", "1")
        with pytest.raises(Refused, match="ZeroDivisionError"):
            load_file(file, "model")
    assert sys.modules[module.__name__] is module
    assert sys.modules["blocks"].value == 2
    assert load_file(file, "model") is not module
    assert sys.modules["blocks"].value == 1


def test_what_a_file_does_not_import_stays_imported(write, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    file = write(net="import blocks\n", other="value = 1\n", blocks="", pythons="")
    load_file(file, "model")
    __import__("pythons")
    before = dict(sys.modules)
    load_file(file.replace("net.py", "other.py"), "model")
    assert before.items() <= sys.modules.items()


def test_an_error_later_names_the_siblings_line(write):
    file = write(
        net="from parts import f\n",
        parts__in____init__="from .deep import f\n",
        parts__in__deep="def f():\n    assert False\n",
    )
    module = load_file(file, "model")
    with (
        pytest.raises(
            Refused, match=r"it fails: deep.py, line 2: AssertionError \(assert False\)"
        ) as error,
        refused("it fails"),
    ):
        module.f()  # fmt: skip
    assert user_line(error.value) == "deep.py, line 2"


def test_a_load_inside_a_load_shares_its_siblings(write):
    file = write(
        my_study="import blocks\nfrom cnnjax.core.user_code import load_file\n"
        "net = load_file(__file__.replace('my_study', 'net'), 'model')\n"
        "import late\n",
        net="import blocks, late\n",
        blocks="value = object()\n",
        late="import cnnjax.core.user_code as loads\n"
        "net = loads.load_file(__file__.replace('late', 'circle'), 'model')\n",
        circle="import late\n",
    )
    module = load_file(file, "study")
    assert module.late.net.late is module.late
    assert module.net.blocks is module.blocks is sys.modules["blocks"]
    assert module.net.late is module.late


SCRIPT = """\
import sys
from blocks import VALUE
import blocks
import heads
from cnnjax.core.user_code import load_file, source_digest
if __name__ == "__main__":
    net = load_file("net.py", "model")
    assert net.blocks is blocks and net.heads is heads, "one module"
    assert net.extra is sys.modules["extra"]
    print(source_digest(net))
    open("blocks.py", "a").write("MORE = 1\\n")
    assert load_file("net.py", "model").blocks.MORE == 1
    assert sys.modules["heads"] is not heads
"""


def test_a_script_has_imported_its_siblings_already(write, tmp_path):
    file = write(
        net="import blocks, heads, extra\n", blocks="VALUE = 1\n", heads="import blocks\n",
        extra="", my_study=SCRIPT,
    )  # fmt: skip
    here = digest(file)
    for _ in range(2):  # Python's own .pyc is there at the second
        write(blocks="VALUE = 1\n")
        done = subprocess.run(
            [sys.executable, "my_study.py"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == here


def test_what_python_imported_before_an_edit_is_not_taken_for_the_file(
    write, tmp_path, monkeypatch
):
    file = write(net="import blocks, heads\n", blocks="VALUE = 1\n", heads="import blocks\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    import blocks  # type: ignore[reportMissingImports]

    assert blocks.VALUE == 1
    write(blocks="VALUE = 1_000\n")
    module = load_file(file, "model")
    assert module.blocks.VALUE == module.heads.blocks.VALUE == 1000


def test_a_spawned_process_finds_siblings_and_the_same_digest(write, tmp_path):
    file = write(net=NET, blocks="FEATURES = 3\n")
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        assert pool.submit(digest, file).result() == digest(file)


def test_threads_that_load_at_once_get_one_module(write):
    file = write(net="import time, blocks\n", blocks="import time\ntime.sleep(0.05)\n")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(lambda _: load_file(file, "model"), range(4)))) == 1


def test_a_thread_imports_while_another_file_is_loaded(write):
    """What is hidden from the file that is loaded is there for everybody else."""
    file = write(
        net="def late():\n    import blocks\n    return blocks\n",
        blocks="",
        other="import threading, __main__\n__main__.go.set()\n__main__.seen.wait(10)\n",
    )
    module, main = load_file(file, "model"), sys.modules["__main__"]
    blocks = module.late()
    main.go, main.seen = threading.Event(), threading.Event()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        loaded = pool.submit(load_file, file.replace("net.py", "other.py"), "model")
        main.go.wait(10)
        assert "blocks" not in sys.modules
        assert module.late() is blocks
        main.seen.set()
        loaded.result()
    assert sys.modules["blocks"] is blocks
    del main.go, main.seen


def test_cnnjax_beside_a_file_is_no_part_of_it(write):
    file = write(net="import cnnjax\n", cnnjax__in____init__="1 / 0\n")
    assert load_file(file, "model").cnnjax is sys.modules["cnnjax"]
    assert digest(file) == hashlib.sha256(b"import cnnjax\n").hexdigest()


def test_a_sibling_that_cannot_be_read_is_refused(write, monkeypatch):
    file = write(net="import blocks\n", blocks="")

    def read_bytes(path):
        if path.name == "blocks.py":
            raise PermissionError(13, "Permission denied", str(path))
        with open(path, "rb") as opened:
            return opened.read()

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(Refused, match=r"blocks.py cannot be read \(Permission denied\)"):
        load_file(file, "model")


# Names.


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("net.py:Net", True),
        ("~/a b/net.py:Net", True),
        ("/a:b/net.py:Net", True),
        ("lab:Net", True),
        ("lab.nets.wide:Net", True),
        ("net.py", False),
        ("resnet50", False),
        ("lab.nets", False),
        (":Net", False),
        ("lab:", False),
        ("lab..nets:Net", False),
        ("a:b:c", False),
        ("folder:/tmp/x", False),
    ],
)
def test_two_forms_are_a_users_own(name, own):
    assert is_own(name) is own


@pytest.mark.parametrize(
    "name", ["a:b:c", ":x", "x:", "", ":", "x", "net.py", "net.py:", "net.py:a.b", "a-b:c", ".a:c"]
)
def test_other_forms_are_refused_in_one_line(name):
    with pytest.raises(Refused, match=r"^task '.*': give FILE.py:NAME or package.module:NAME"):
        load_object(name, "task")


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A package `lab` that is installed."""
    folder = tmp_path / "site" / "lab"
    (folder / "deep").mkdir(parents=True)
    for name in ("__init__", "deep/__init__", "blocks"):
        (folder / f"{name}.py").write_text("")
    (folder / "nets.py").write_text(
        "from lab.blocks import *\nimport json\nfrom flax import linen as nn\n"
        "from flax.linen import Dense\n"
        "class Net(nn.Module):\n"
        "    width: int = 3\n"
        "    @nn.compact\n"
        "    def __call__(self, images, *, train):\n"
        "        return Dense(self.width)(images.mean((1, 2)))\n"
        "SIZE = 3\n_hidden = 4\n"
        "def fails():\n    raise KeyError('x')\n"
    )
    (folder.parent / "lone.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(folder.parent)
    monkeypatch.setattr(user_code, "_digests", {})
    monkeypatch.setattr(user_code, "_packages", set())
    return folder


def test_an_object_of_a_package_has_the_digest_of_its_folder(lab):
    net, first = load_object("lab.nets:Net", "model")
    assert net is sys.modules["lab.nets"].Net
    assert load_object("lab.nets:SIZE", "task") == (3, first)

    def anew(name):
        user_code._digests.clear()
        return load_object(name, "model")[1]

    assert anew("lab.nets:Net") == first
    (lab / "deep" / "__init__.py").write_text("value = 1\n")
    assert load_object("lab.nets:Net", "model")[1] == first  # as it was first loaded
    second = anew("lab.nets:Net")
    assert second != first
    (lab / "data.txt").write_text("no source")
    assert anew("lab.nets:Net") == anew("lab:nets") == second
    alone = hashlib.sha256(b"value = 1\n").hexdigest()
    assert load_object("lone:value", "data") == (1, alone)
    (lab.parent / "other.py").write_text("")
    assert anew("lone:value") == alone


def test_a_class_of_a_package_is_a_model(lab):
    name = "lab.nets:Net"
    model = create_model(name, width=5)
    assert model.width == 5
    assert source_digests([(name, type(model))]) == {"lab.nets": load_object(name, "model")[1]}
    with pytest.raises(Refused, match=r"no model in lab.nets: 'Nat'; did you mean Net\?"):
        MODELS.find("lab.nets:Nat")
    with pytest.raises(Refused, match=r"lab.nets:SIZE is no network"):
        MODELS.find("lab.nets:SIZE")


def test_an_object_of_a_file(write):
    file = write(net="import os\nfrom json import loads, dumps\nvalue = 1\ndef load(): pass\n")
    assert load_object(f"{file}:value", "data") == (1, digest(file))
    with pytest.raises(Refused, match=r"no data in .*net.py: 'loadz'; did you mean load\?"):
        load_object(f"{file}:loadz", "data")
    with pytest.raises(Refused, match=r"no data in .*net.py: 'x'; there is load, value$"):
        load_object(f"{file}:x", "data")
    with pytest.raises(Refused, match=r"no optimizer file none.py"):
        load_object("none.py:x", "optimizer")


@pytest.mark.parametrize("name", ["labb.nets:Net", "lab.netz:Net", "lab.nets.more:Net"])
def test_a_module_that_is_not_there_says_what_to_do(lab, name):
    module = name.partition(":")[0]
    with pytest.raises(
        Refused, match=rf"^no task module '{module}'; install it, or give FILE.py:Net$"
    ):
        load_object(name, "task")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("\n1 / 0\n", r"lab.broken does not import: broken.py, line 2: ZeroDivisionError"),
        ("import sys\nsys.exit(1)\n", r"broken.py, line 2: it ends the program"),
        ("import no_such_thing\n", r"broken.py, line 1: ModuleNotFoundError: .*no_such_thing"),
        ("def f(:\n", r"SyntaxError: .*\(broken.py, line 1\)"),
    ],
)
def test_a_module_that_does_not_import_is_refused_with_its_line(lab, source, message):
    (lab / "broken.py").write_text(source)
    with pytest.raises(Refused, match=message) as error:
        load_object("lab.broken:Net", "model")
    assert "\n" not in str(error.value)


def test_an_error_in_a_package_names_the_innermost_line(lab):
    fails, _ = load_object("lab.nets:fails", "task")
    with pytest.raises(Refused, match=r"it fails: nets.py, line 13: KeyError"), refused("it fails"):
        fails()


def test_a_module_without_a_file_is_refused(lab):
    (lab.parent / "spread").mkdir()
    for name in ("spread:x", "sys:path"):
        with pytest.raises(Refused, match="has no file"):
            load_object(name, "task")
