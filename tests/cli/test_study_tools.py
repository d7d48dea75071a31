"""`study verify|diff|index|page` as a user types them."""

import json
from dataclasses import replace

import pytest

from cnnjax import Contrast
from cnnjax.core.files import read_sealed
from cnnjax.report.study_page import BLOCKS, filled
from cnnjax.report.summary import _for_others
from tests.study.test_store import STUDY, claim, fill


@pytest.fixture
def half_done(tmp_path):
    store, plan = claim(tmp_path / "runs" / "mine")
    fill(store, plan, without=("14-s1",))
    return tmp_path


def test_index_tells_every_study_and_what_cannot_be_read(cli, half_done):
    runs = half_done / "runs"
    broken = runs / "broken" / "study.json"
    broken.parent.mkdir()
    broken.write_text("{")
    code, out, _ = cli("study", "index", runs)
    assert code == 0
    assert "3 of 4" in out
    page = (runs / "index.html").read_text()
    assert "<a " not in page  # there is no report yet
    cli("study", "report", runs / "mine")
    cli("study", "index", runs)
    page = (runs / "index.html").read_text()
    assert '<a href="mine/report.html">Is &lt;b&gt;deeper&lt;/b&gt; &amp; better?</a>' in page
    assert "not judged with 1 paired seed" in page
    assert "1 contrast: 1 not judged." in page
    assert "Not read:" in page
    assert str(broken) in page
    code, out, _ = cli("study", "index", runs, "--json")
    found = json.loads(out)
    assert [study["done"] for study in found["studies"]] == [3]


def test_a_page_is_begun_and_filled_and_the_same_again(cli, half_done):
    page = half_done / "mine.md"
    code, out, _ = cli("study", "page", half_done / "runs" / "mine", "--into", page)
    assert (code, out) == (0, f"{page}\n")
    text = page.read_text()
    assert "| 8 | 13.00 ± 7.07 | 13.00 ± 7.07 |" in text
    assert "| 14 | 14.00 | 14.00 |" in text
    assert "3 of 4 cells" in text
    assert "| 8 − 14 | lower | training error | −6.00 | – | – | not judged" in text
    summary = read_sealed(half_done / "summaries" / "mine-quick.json")
    assert summary["cells"] == {"done": 3, "diverged": 0, "failed": 0, "missing": 1}
    assert str(half_done) not in json.dumps(summary)  # folders of one machine say nothing elsewhere

    page.write_text(text.replace("13.00 ± 7.07", "1.00 ± 0.00") + "\nMy own words.\n")
    code, _, _ = cli("study", "page", "--into", page)  # the folder is not needed any more
    assert code == 0
    assert page.read_text() == text + "\nMy own words.\n"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("<!-- summaries/none.json run -->\n<!-- end -->\n", "there is no such summary"),
        ("<!-- summaries/mine-quick.json rnu -->\n<!-- end -->\n", "did you mean run"),
        ("<!-- summaries/mine-quick.json run -->\n", "does not end"),
        ("<!-- damaged.json run -->\n<!-- end -->\n", "damaged.json"),
    ],
)
def test_what_a_page_has_wrong_is_refused_and_nothing_is_written(cli, half_done, text, what):
    cli("study", "page", half_done / "runs" / "mine", "--into", half_done / "other.md")
    (half_done / "damaged.json").write_text('{"format": 1}')
    page = half_done / "mine.md"
    page.write_text(text)
    code, _, err = cli("study", "page", "--into", page)
    assert code == 2
    assert what in err
    assert page.read_text() == text


def test_every_block_of_a_summary_of_nothing_can_be_written(cli, tmp_path):
    claim(tmp_path / "empty")
    cli("study", "page", tmp_path / "empty", "--into", tmp_path / "page.md")
    summary = read_sealed(tmp_path / "summaries" / "mine-quick.json")
    written = {
        kind: filled(f"<!-- a.json {kind} -->\n<!-- end -->", lambda path: summary)
        for kind in BLOCKS
    }
    assert "0 of 4 cells; 0 min 0 s" in written["run"]
    assert "| 8 | – | – |\n| 14 | – | – |" in written["figures"]
    assert "| 8 | 10 | 20 | – |" in written["costs"]
    assert "| 8 − 14 | lower | training error | – | – | – | not judged" in written["contrasts"]
    assert "not judged with 0 paired seeds" in written["verdicts"]


def test_the_same_study_does_not_differ_and_another_does(cli, half_done):
    first = half_done / "runs" / "mine"
    store, plan = claim(half_done / "second")
    fill(store, plan, without=("14-s1",))
    code, out, _ = cli("study", "diff", first, half_done / "second")
    assert code == 0
    assert "the same bits in 3 of 3 common cells" in out

    store, plan = claim(half_done / "third", settings=("optimizer.learning_rate=0.5",))
    fill(store, plan)
    changed = store.files(plan.cells[0])
    result = read_sealed(changed.result)
    changed.finish({**result, "test_error": 7.5})
    code, out, _ = cli("study", "diff", first, half_done / "third", "--json")
    assert code == 1
    found = json.loads(out)
    assert found["settings"] == [
        "variants.8.optimizer.learning_rate: 0.05 -> 0.5",
        "variants.14.optimizer.learning_rate: 0.05 -> 0.5",
    ]
    assert found["changed"] == [["8-s0", "test_error", 8.0, 7.5]]
    assert found["only_second"] == ["14-s1"]
    assert found["verdicts"] == [
        ["8 - 14 (train_error)", "not judged with 1 paired seed", "not shown with 2 seeds"]
    ]


@pytest.mark.parametrize("command", ["verify", "index"])
def test_where_there_is_no_study_it_is_said(cli, tmp_path, command):
    code, _, err = cli("study", command, tmp_path)
    assert code == 2
    assert err.count("\n") == 1


def test_verify_of_nothing_done_is_refused(cli, tmp_path):
    claim(tmp_path)
    code, _, err = cli("study", "verify", tmp_path)
    assert code == 2
    assert "has no cell that is done" in err


def test_other_curves_or_another_claim_differ_too(cli, half_done):
    first = half_done / "runs" / "mine"
    claim_ = Contrast("8", "14", "train_error", "higher")
    store, plan = claim(half_done / "second", study=replace(STUDY, contrasts=(claim_,)))
    fill(store, plan, without=("14-s1",))
    files = store.files(plan.cells[0])
    line = json.loads(files.metrics.read_text())
    files.metrics.write_text(json.dumps({**line, "batch_error": 1.5, "train_seconds": 9}) + "\n")
    files.finish(read_sealed(files.result))
    code, out, _ = cli("study", "diff", first, half_done / "second")
    assert code == 1
    assert 'contrasts.8 - 14 (train_error).expect: "lower" -> "higher"' in out
    assert "8-s0  record" in out
    assert "the same bits in 2 of 3 common cells" in out


@pytest.mark.parametrize("content", [None, "Größe".encode("latin-1")])
def test_what_is_no_page_is_refused_and_the_summary_stays(cli, half_done, content):
    page = half_done / "page.md"
    if content is None:
        page.mkdir()
    else:
        page.write_bytes(content)
    code, _, err = cli("study", "page", half_done / "runs" / "mine", "--into", page)
    assert code == 2
    assert "give a page of words" in err
    assert not (half_done / "summaries").exists()


def test_a_summary_s_command_has_no_folder_of_its_machine():
    command = "cnnjax study run x --data-dir '/home/me/my data' --data folder:/home/me/d --set"
    told = _for_others(f"{command} init.weights=/home/me/w.npz --workdir runs/x")
    assert told == (
        "cnnjax study run x --data-dir 'my data' --data folder:d --set init.weights=w.npz"
        " --workdir runs/x"
    )
