"""Documentation is executed: Python blocks run, files are written, `$ cnnjax` lines are typed."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, SkipParser


def _python(example: Example) -> None:
    """A block that begins with "# name.py" becomes that file; others run."""
    folder = example.namespace["folder"]
    if name := re.match(r"# (\w+\.py)\n", example.parsed):
        (folder / name[1]).write_text(example.parsed)
        return
    subprocess.run([sys.executable, "-c", example.parsed], cwd=folder, check=True)


def _console(example: Example) -> None:
    """Each "$ command" must end with exit code 0; the next does not wait for one that ends in &."""
    program, beside = str(Path(sys.executable).with_name("cnnjax")), []
    for line in re.findall(r"^\$ (.*)$", example.parsed, re.MULTILINE):
        words = shlex.split(line.removesuffix(" &"))
        start = words.index("cnnjax")
        given = dict(word.split("=", 1) for word in words[:start])  # VARIABLE=value before it
        process = subprocess.Popen(
            [program, *words[start + 1 :]],
            cwd=example.namespace["folder"],
            env={**os.environ, **given},
        )
        if line.endswith(" &"):
            beside.append(process)
        else:
            assert process.wait() == 0, line
    assert [process.wait() for process in beside] == [0] * len(beside)


def _setup(namespace: dict) -> None:
    import tempfile

    namespace["scratch"] = tempfile.TemporaryDirectory()
    namespace["folder"] = Path(namespace["scratch"].name)


pytest_collect_file = Sybil(
    parsers=[
        CodeBlockParser(language="python", evaluator=_python),
        CodeBlockParser(language="console", evaluator=_console),
        SkipParser(),
    ],
    patterns=["*.md"],
    # docs/python.md is executed as the notebook that is made of it: tests/test_docs.py.
    excludes=["CHANGELOG.md", "CONTRIBUTING.md", "**/python.md"],
    setup=_setup,
    teardown=lambda namespace: namespace["scratch"].cleanup(),
).pytest()


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """The user's cache folder is not touched; workers of pytest-xdist share one, so that what a
    command compiled for one test is there for those that come later.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
