"""The page at any moment of a study: complete in itself, honest about what is missing."""

import csv
import io
import math
import re
from dataclasses import asdict, replace

import pytest

from cnnjax.core.files import append_line, read_sealed
from cnnjax.core.words import counted
from cnnjax.report.latex import escaped
from cnnjax.report.page import write_report
from cnnjax.report.study_page import write_page
from cnnjax.report.summary import summary_of
from cnnjax.report.tables import difference_table, metric_table, spread_table
from cnnjax.study.outcome import as_json, read_outcome
from cnnjax.study.runner import Session
from cnnjax.study.spec import Spread
from tests.study.test_store import DATA, STUDY, claim, fill


@pytest.fixture
def half_done(tmp_path):
    store, plan = claim(tmp_path)
    fill(store, plan, without=("14-s1",))
    return tmp_path


def test_a_half_done_study_opens_and_names_what_is_missing(half_done):
    page = write_report(half_done).html.read_text()
    assert re.search(r"class=\"alarm\".*Missing.*14-s1", page)
    assert "3 of 4 cells done" in page
    assert "not judged with 1 paired seed" in page


def test_what_differs_is_told_of_every_variant(half_done):
    """Of the one that is the base, too."""
    table = difference_table(read_outcome(half_done))
    assert table.rows == [("8", "model.depth = 8"), ("14", "model.depth = 14")]


def test_an_empty_study_opens_too(tmp_path):
    claim(tmp_path)
    page = write_report(tmp_path).html.read_text()
    assert "0 of 4 cells done" in page
    assert "<svg" not in page


def test_the_page_is_one_file_and_loads_nothing(half_done):
    page = write_report(half_done).html.read_text()
    assert len(re.findall(r'<svg [^>]*role="img" aria-label="[^"]+"', page)) == 4
    assert page.count("<svg") == page.count("</svg>") == 4
    sources = re.findall(r"(?:src|href)=\"([^\"]{1,30})", page)
    assert all(source.startswith("#") for source in sources)  # of what is drawn in the page
    named = re.findall(r' id="([^"]+)"', page)
    assert len(set(named)) == len(named)
    assert page.count("<style") == 1
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', page)) <= set(named)
    assert "default-src 'none'" in page
    assert not re.search(r"https?://(?!www\.w3\.org)", page)


def test_what_a_user_wrote_is_escaped(half_done):
    page = write_report(half_done).html.read_text()
    assert "Is &lt;b&gt;deeper&lt;/b&gt; &amp; better?" in page
    assert "<b>deeper" not in page


def test_figures_are_files_and_the_same_bytes_each_time(half_done):
    write_report(half_done)
    first = {p.name: p.read_bytes() for p in (half_done / "figures").iterdir()}
    assert {"final-train_error.png", "final-train_error.svg", "curves-all.png"} <= set(first)
    write_report(half_done)
    assert {p.name: p.read_bytes() for p in (half_done / "figures").iterdir()} == first


def test_the_csv_has_a_row_a_cell_and_marks_time(half_done):
    write_report(half_done)
    text = (half_done / "results.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["variant"] + "-s" + row["seed"] for row in rows] == [
        "8-s0", "14-s0", "8-s1", "14-s1",
    ]  # fmt: skip
    assert [row["status"] for row in rows] == ["done", "done", "done", "missing"]
    assert rows[0]["train_error"] == "8.0"
    assert rows[3]["train_error"] == ""
    times = [name for name in rows[0] if name.endswith("_seconds")]
    assert times == ["train_seconds", "compile_seconds", "init_seconds"]


def test_markdown_has_every_table_whole(half_done):
    write_report(half_done)
    text = (half_done / "report.md").read_text()
    tables = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    assert len(tables) == 5
    for table in tables:
        assert len({line.count(" | ") for line in table.splitlines()[2:]}) == 1
    assert "![" in text


def test_the_json_has_the_keys_that_scripts_rely_on(half_done):
    found = as_json(read_outcome(half_done), half_done / "report.html")
    assert {"study", "workdir", "cells_total", "cells_done", "cells_diverged", "report"} <= set(
        found
    )
    assert (found["cells_total"], found["cells_done"]) == (4, 3)
    contrast_keys = {
        "name", "n", "mean_difference", "ci_low", "ci_high", "p", "p_holm", "verdict",
    }  # fmt: skip
    assert contrast_keys <= set(found["contrasts"][0])
    cell = found["cells"][0]
    assert cell["variant"] == {"depth": "8"}
    assert set(cell) == {
        "variant", "seed", "status", "train_error", "test_error", "train_loss", "test_loss",
        "train_seconds", "compile_seconds",
    }  # fmt: skip
    assert found["cells"][3]["status"] == "missing"
    assert found["cells"][3]["train_error"] is None


def put_result(store, cell, **changed):
    """Seal a cell's result anew with other keys."""
    files = store.files(cell)
    result = {k: v for k, v in read_sealed(files.result).items() if k != "seals"}
    files.finish({**result, **changed})


def test_results_of_two_programs_are_an_alarm_that_says_what_differs(tmp_path):
    store, plan = claim(tmp_path)
    fill(store, plan)
    assert read_outcome(tmp_path).mixed_bits == []
    flags = {"XLA_FLAGS": "", "processor": "one"}
    for cell in plan.cells[:3]:  # older: jax is among the versions only
        put_result(store, cell, versions={"jax": "0.10.2", "numpy": "2.2"}, bits=flags)
    assert read_outcome(tmp_path).mixed_bits == []
    put_result(store, plan.cells[3], versions={"jax": "0.12.0", "numpy": "2.4"},
               bits={**flags, "jax": "0.12.0", "accelerator": "cpu"})  # fmt: skip
    (line,) = read_outcome(tmp_path).mixed_bits
    assert line == (
        "Cells were run under 2 different sets of versions: jax 0.10.2 (3 cells), 0.12.0 (1)."
    )
    page = write_report(tmp_path).html.read_text()
    assert re.search(rf'class="alarm".*{re.escape(line)}', page)
    assert line in (tmp_path / "report.md").read_text()


def test_an_extension_is_told_in_the_page_and_in_markdown(tmp_path):
    claim(tmp_path, seeds=1)
    claim(tmp_path, seeds=3)
    outcome = write_report(tmp_path).outcome
    assert [(e["from"], e["to"]) for e in outcome.extensions] == [(1, 3)]
    (note,) = outcome.extension_notes
    assert note.startswith("Extended from 1 seed to 3 on ")
    for name in ("report.html", "report.md"):
        assert note in (tmp_path / name).read_text()


def test_one_is_singular(tmp_path):
    store, plan = claim(tmp_path, seeds=1)
    fill(store, plan, without=("14-s0",))
    append_line(store.sessions, {"began": "today", **asdict(Session(2.0, 1, 1, 2.0, 1.0, True))})
    write_report(tmp_path)
    for name in ("report.html", "report.md"):
        text = (tmp_path / name).read_text()
        assert "for 1 cell on 1 worker" in text
        assert "interrupted" in text
        assert not re.search(r"\b1 (cells|workers|commands|classes|seeds|test images)\b", text)


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 cells"), (1, "1 cell"), (2, "2 cells"), (21, "21 cells")]
)
def test_a_number_has_its_noun(number, text):
    assert counted(number, "cell") == text
    assert counted(1, "class", "classes") == "1 class"


def test_the_tables_are_there_for_a_paper(half_done):
    """What a user wrote is set as text: no command of LaTeX, no end of a comment."""
    write_report(half_done)
    text = (half_done / "report.tex").read_text()
    assert text.startswith("% Is <b>deeper</b> & better?\n% a command\n")
    assert text.count(r"\begin{tabular}") == text.count(r"\bottomrule") == 5
    assert r"8 & 2 of 2 & 13.00 & 7.07 & -- & 13.00 & 7.07 & -- \\" in text
    assert r"8 $-$ 14 & train\_error & lower" in text
    for line in text.splitlines()[3:]:
        assert not re.search(r"(?<!\\)[%#_]", line)
    assert escaped("50 % of {x_1}^2") == r"50 \% of \{x\_1\}\textasciicircum{}2"


def test_the_spread_over_seeds_stands_beside_what_one_run_foretells(tmp_path):
    scatter = replace(STUDY, seeds=4, contrasts=(Spread("8", "14", "test_error"),))
    store, plan = claim(tmp_path, study=scatter)
    fill(store, plan)
    table = spread_table(read_outcome(tmp_path))
    images = DATA[next(iter(DATA))]["test"]
    errors = [8.0, 18.0, 28.0, 38.0]
    foretold = sum(100 * math.sqrt(error / 100 / (2 * images)) for error in errors) / 4
    assert table.rows[0] == ("8", "4", "12.91", "[7.31, 48.14]", f"{foretold:.2f}")
    page = tmp_path / "page.md"
    page.write_text("<!-- s.json spreads -->\n<!-- end -->\n")
    write_page(page, {"s.json": summary_of(read_outcome(tmp_path))})
    assert f"12.91 | 7.31 to 48.14 | {foretold:.2f} |" in page.read_text()


def test_of_one_seed_the_noise_floor_is_foretold(tmp_path):
    store, plan = claim(tmp_path, seeds=1)
    fill(store, plan)
    table = metric_table(read_outcome(tmp_path))
    images = DATA[next(iter(DATA))]["test"]
    row = dict(zip(table.head, table.rows[0], strict=False))
    assert f"≈ {100 * math.sqrt(0.08 / (2 * images)):.2f}" in table.rows[0]
    assert "foretold" in table.caption
    assert "≈" not in row["train_error (%)"]
    assert spread_table(read_outcome(tmp_path)) is None
