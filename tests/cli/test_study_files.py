"""What a user gets wrong in a study's file: one line, exit code 2, before any training."""

import subprocess

import pytest

STUDY = """
from cnnjax import Contrast, Preset, Study, small_images

study = Study(
    name="mine",
    question="?",
    source="a test",
    base=small_images,
    factors={{"shortcut": {{"A": {{"model.shortcut": "A"}}, "B": {{"model.shortcut": "B"}}}}}},
    seeds=2,
    metrics={metrics},
    contrasts={contrasts},
    presets={presets},
)
"""
GOOD = {
    "metrics": '("train_error",)',
    "contrasts": '(Contrast("A", "B", "train_error"),)',
    "presets": '{"quick": Preset()}',
}


@pytest.mark.parametrize(
    ("part", "text", "message"),
    [
        (
            "contrasts",
            '(Contrast("A", "B", "train_error", "less"),)',
            "expect='less' is not one of",
        ),
        ("contrasts", 'Contrast("A", "B", "train_error")', "write (Contrast(...),)"),
        (
            "contrasts",
            '(Contrast("A", "C", "train_error"),)',
            "contrast A - C: no variant named 'C'",
        ),
        ("metrics", '"train_error"', "metrics must be a tuple of str; write (...,)"),
        ("presets", '{"quick": {"steps": 3}}', "preset 'quick' must be a Preset(...)"),
        ("presets", "Preset(", "does not import: SyntaxError"),
    ],
)
def test_a_slip_in_a_study_file(command, tmp_path, part, text, message):
    (tmp_path / "my_study.py").write_text(STUDY.format(**{**GOOD, part: text}))
    done = subprocess.run(
        [*command, "study", "run", "my_study.py", "--workdir", "work"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert not (tmp_path / "work").exists()
