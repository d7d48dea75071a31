"""Costs that are matched by counting, and settings that variants find for themselves."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from cnnjax import Match, Preset, Refused, Study, Tune, small_images
from cnnjax.core.config import override_all
from cnnjax.data.load import load_dataset
from cnnjax.study.cells import resolve, tried
from cnnjax.study.match import _cost, match_costs
from cnnjax.study.outcome import Outcome
from cnnjax.study.tune import FIRST_SEED, choices, tuning_plan

UNITS = {"two": {"model.unit": "two3x3"}, "one": {"model.unit": "one5x5"}}
NARROW = {"model.unit": "one5x5", "model.width": Match("params", "two")}


def study(units=None, **changes):
    fields = {
        "name": "mine", "question": "?", "source": "a test", "seeds": 2,
        "base": small_images.replace(model=small_images.model.with_field("name", "vgg_small")),
        "factors": {"unit": units or UNITS}, "metrics": ("test_error",), "contrasts": (),
    }  # fmt: skip
    return Study(**{**fields, **changes})


@pytest.fixture(scope="module")
def datasets():
    data = small_images.data
    return {data: load_dataset(data)}


@pytest.mark.parametrize("cost", ["params", "macs"])
def test_the_match_is_the_nearest_that_there_is(datasets, cost):
    match = {"model.unit": "one5x5", "model.width": Match(cost, "two")}
    plan = resolve(study({**UNITS, "narrow": match}))
    said = []
    found, notes = match_costs(plan, datasets, said.append)
    (note,) = notes
    assert said == [note.sentence]
    assert 0.8 < note.value < 1
    assert not found.variants[2].matches
    width = found.variants[2].recipe.model.width
    assert width == note.value
    # No other number of channels in either stage comes nearer.
    recipe = plan.variants[2].recipe
    (dataset,) = datasets.values()
    others = [
        _cost(override_all(recipe, tried("model.width", channels / 32)), dataset, cost)
        for channels in range(20, 33)
    ]
    assert abs(note.found - note.wanted) <= min(abs(other - note.wanted) for other in others)


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ({"model.depth": Match("params", "two")}, "no setting 'model.depth'"),
        ({"model.units": Match("params", "two")}, "model.units=1.5: give a whole number"),
        ({"model.width": Match("params", "too")}, "no variant named 'too'; did you mean two"),
        ({"model.width": Match("params", "other")}, "other, whose params are wanted, is matched"),
        ({"model.width": Match("macs", "two"), "optimizer.learning_rate": Match("macs", "two")},
         "are both matched"),
    ],
)  # fmt: skip
def test_what_cannot_be_matched_is_refused(levels, message):
    units = {**UNITS, "other": NARROW, "narrow": {"model.unit": "three3x3", **levels}}
    with pytest.raises(Refused, match=message):
        resolve(study(units))


def test_a_cost_that_no_value_gives_is_refused(datasets):
    units = {
        **UNITS,
        "narrow": {"model.unit": "one5x5", "optimizer.learning_rate": Match("params", "two")},
    }
    with pytest.raises(Refused, match=r"no optimizer.learning_rate from .* gives [0-9,]+ params"):
        match_costs(resolve(study(units)), datasets, print)


RATES = Tune({"optimizer.learning_rate": (0.01, 0.1)}, seeds=3)


def test_trials_are_on_seeds_and_images_that_are_not_judged():
    plan = resolve(study(tune=RATES))
    trials = tuning_plan(plan)
    assert [v.name for v in trials.variants] == ["two-0.01", "two-0.1", "one-0.01", "one-0.1"]
    assert [cell.seed for cell in trials.cells[::4]] == [FIRST_SEED, FIRST_SEED + 1, FIRST_SEED + 2]
    assert all(v.recipe.data.validation_share == 0.25 for v in trials.variants)
    assert {cell.seed for cell in plan.cells} == {0, 1}
    assert resolve(study(tune=RATES, presets={"quick": Preset(tune=False)})).tune is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tune": RATES, "presets": {"quick": Preset(settings={"optimizer.learning_rate": 0.2})}},
         "optimizer.learning_rate is tuned, so it cannot be given"),
        ({"tune": Tune({"optimizer.learning_rat": (1.0, 2.0)})}, "did you mean"),
        ({"tune": Tune({"batch_size": (3, 4.5)})}, "give a whole number"),
        ({"tune": Tune({"model.units": (1, 2)}), "units": {**UNITS, "narrow": NARROW}},
         "model.units is tuned, and narrow is matched"),
        ({"tune": Tune({"model.unit": ("one5x5", "two3x3")})},
         "model.unit is tuned, and level two of factor unit sets it"),
        ({"tune": Tune({"batch_size": (3, 4)}, metric="tst_error")}, "did you mean test_error"),
        ({"tune": RATES, "presets": {"quick": Preset(settings={"data.validation_share": 0.1})}},
         "data.validation_share: what is tuned has a validation part of its own"),
    ],
)  # fmt: skip
def test_what_cannot_be_tuned_is_refused(changes, message):
    with pytest.raises(Refused, match=message):
        resolve(study(**changes))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({}, "it needs a setting"), ({"batch_size": (3, 3)}, "has a value twice"),
     ({"batch_size": (3,)}, "must be a tuple of two or more")],
)  # fmt: skip
def test_a_sweep_that_is_none_is_refused(settings, message):
    with pytest.raises(Refused, match=message):
        Tune(settings)


def test_trials_are_found_by_name():
    """Whatever order the folder of the trials has its variants in."""
    plan = resolve(study(tune=RATES))
    trials = tuning_plan(plan)
    results = {
        (variant.name, seed): {"status": "done", "test_error": error}
        for variant, error in zip(trials.variants, (5.0, 4.0, 2.0, 3.0), strict=True)
        for seed in variant.replicates
    }

    backwards = replace(trials, variants=trials.variants[::-1])
    found = choices(plan, Outcome(Path("tuning"), backwards, {}, results, {}, [], []))
    assert [choice.values["optimizer.learning_rate"] for choice in found] == [0.1, 0.01]


FILE = """\
from cnnjax import Contrast, Probe, Study, Tune, small_images

study = Study(
    name="tuned", question="?", source="a test", base=small_images.replace(steps=14),
    factors={"shortcut": {"A": {"model.shortcut": "A"}, "plain": {"model.shortcut": "none"}}},
    seeds=2, metrics=("test_error",),
    contrasts=(Contrast("A", "plain", "gradient_attenuation@1", "lower"),),
    probes=(Probe("gradient_attenuation", at=(0, 1)), Probe("mine.py:seen", at=(1,))),
    tune=Tune({"optimizer.learning_rate": (0.0001, 0.05, 1e30)}, seeds=1),
)
"""
MINE = "def seen(task, state, batch):\n    return batch['images'].mean()\n"


def test_a_study_with_probes_and_tuned_rates_as_a_user_runs_it(command, tmp_path):
    (tmp_path / "my_study.py").write_text(FILE)
    (tmp_path / "mine.py").write_text(MINE)
    small = ["--set", "model.depth=8", "--set", "model.width=0.25"]

    def run(*more):
        return subprocess.run(
            [*command, *more], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    done = run("study", "run", "my_study.py", "--workdir", "work", "--json", *small)
    assert done.returncode == 0, done.stderr
    assert "tuning optimizer.learning_rate first: 6 trials" in done.stderr
    found = json.loads(done.stdout)
    assert found["cells_done"] == 4
    document = json.loads((tmp_path / "work" / "study.json").read_text())
    assert [one["values"] for one in document["tuned"]] == [{"optimizer.learning_rate": 0.05}] * 2
    assert document["tuned"][0]["trials"][2]["mean"] == 100  # it diverged
    for name in ("report.html", "tuning/report.html", "report.md"):
        assert (tmp_path / "work" / name).stat().st_size > 0
    text = (tmp_path / "work" / "report.md").read_text()
    assert "Tuned before anything was judged" in text
    assert "gradient attenuation at the end" in text
    cells = list((tmp_path / "work" / "cells").glob("*/result.json"))
    result = json.loads(cells[0].read_text())
    assert set(result["probes"]) == {"gradient_attenuation@0", "gradient_attenuation@1", "seen@1"}
    assert result["probe_seconds"] > 0
    # The same command finds all done; a cell is repeated with what was seen; an edit is noticed.
    again = run("study", "run", "my_study.py", "--workdir", "work", *small)
    assert again.returncode == 0
    assert "every cell was done already" in again.stderr
    repeated = run("study", "repeat", "work", "A-s1", "--json")
    assert json.loads(repeated.stdout)["verdict"] == "same bits"
    (tmp_path / "mine.py").write_text(MINE + "# another\n")
    edited = run("study", "run", "my_study.py", "--workdir", "work", *small)
    assert edited.returncode == 2
    assert "mine.py" in edited.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise ValueError('no such layer')", "probe mine.py:seen cannot look at ResNetCifar"),
        ("return batch['images']", "probe mine.py:seen gives an array"),
        ("return {'stem': batch['mask'].mean()}", "say of which layer: seen/stem@1"),
    ],
)
def test_a_probe_that_is_none_is_refused_before_anything_runs(command, tmp_path, text, message):
    file = FILE.replace('"gradient_attenuation@1"', '"seen@1"').replace("tune=Tune", "# tune=Tune")
    (tmp_path / "my_study.py").write_text(file)
    (tmp_path / "mine.py").write_text(f"def seen(task, state, batch):\n    {text}\n")
    done = subprocess.run(
        [*command, "study", "run", "my_study.py", "--workdir", "work"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "work").exists()
