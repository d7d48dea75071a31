"""What in docs/ is made by a program is current, and the notebook of the Python interface runs."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cnnjax.cli.study import installed_studies
from cnnjax.report.study_page import filled
from cnnjax.report.summary import read_summary

DOCS = Path(__file__).parents[1] / "docs"

# As a notebook's kernel does it: every cell of code, in one namespace.
CELLS = """
import json, sys
names = {}
for cell in json.load(open(sys.argv[1]))["cells"]:
    if cell["cell_type"] == "code":
        exec("".join(cell["source"]), names)
shown = names["outcome"]._repr_html_()
assert names["outcome"].complete
assert names["outcome"].contrasts[0]["sentence"] in shown
assert shown.count("<table>") == 2
assert "<th>test_error (%)</th>" in shown
"""


@pytest.fixture(scope="module")
def made():
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.files()


@pytest.mark.parametrize("name", ["python.ipynb", "reference/settings.md", "reference/metrics.md"])
def test_what_is_made_is_current(made, name):
    assert made[name] == (DOCS / name).read_text(), "type: make docs"


def test_nothing_else_is_made(made):
    assert len(made) == 3


def test_the_notebook_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CELLS, DOCS / "python.ipynb"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


PAGES = sorted(
    page.relative_to(DOCS.parent)
    for page in (DOCS.parent / "README.md", *DOCS.rglob("*.md"))
    if re.search(r"<!-- \S+\.json \w+ -->", page.read_text())
)


@pytest.mark.parametrize("name", PAGES, ids=str)
def test_no_figure_of_a_study_is_typed_by_hand(name):
    """Every block is what its summary says; a summary is sealed by its digest."""
    page = DOCS.parent / name
    text = page.read_text()
    read = [read_summary(page.parent / path) for path in re.findall(r"<!-- (\S+\.json) ", text)]
    assert read
    assert filled(text, lambda path: read_summary(page.parent / path)) == text, (
        f"type: cnnjax study page --into {name}"
    )


def test_every_study_that_ships_has_its_page_and_its_place_in_the_lecture():
    lecture = (DOCS / "lecture.md").read_text()
    for name in installed_studies():
        page = (DOCS / "studies" / f"{name}.md").read_text()
        assert f"summaries/{name}-" in page
        assert f"studies/{name}.md" in lecture
        assert f"](../../experiments/{name}.py)" in page
