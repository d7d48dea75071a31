"""A metric that counts epochs to a goal: from the figures of the epochs to a verdict."""

from dataclasses import replace

import pytest

from cnnjax import Contrast, Refused, Study, Tune, small_images
from cnnjax.report.page import write_report
from cnnjax.study.cells import resolve
from cnnjax.study.measures import goal_of, words
from cnnjax.study.outcome import read_outcome
from cnnjax.study.verdict import judge
from tests.study.test_store import STUDY, claim, fill

LINES = [
    {"epoch": 1, "batch_error": 60.0, "test_error": 70.0},
    {"epoch": 3, "batch_error": 25.0, "test_error": 20.0},
    {"epoch": 5, "batch_error": 30.0, "test_error": 5.0},
]


def study(goal="batch_error<=25", **base):
    return Study(
        name="mine",
        question="?",
        source="a test",
        base=small_images.replace(**base),
        factors={"depth": {"8": {"model.depth": 8}, "14": {"model.depth": 14}}},
        seeds=8,
        metrics=("test_error", goal),
        contrasts=(Contrast("8", "14", goal, "lower"),),
    )


@pytest.mark.parametrize(
    ("goal", "epochs"),
    [("batch_error<=25", 3), ("batch_error<=24.9", None), ("test_error<=5", 5),
     ("test_error>=20", 1), ("test_loss<=1", None)],
)  # fmt: skip
def test_the_first_epoch_that_reaches_it_counts(goal, epochs):
    assert goal_of(goal).epochs(LINES) == epochs


@pytest.mark.parametrize("name", ["test_error", "train_error<=5", "gradient_norm@0.1"])
def test_another_metric_is_no_goal(name):
    assert goal_of(name) is None


def test_it_has_words_and_a_worst_value():
    plan = resolve(study(epochs=30))
    metric = plan.measures["batch_error<=25"]
    assert (metric.unit, metric.worst) == ("epochs", 31.0)
    assert words("batch_error<=25") == "epochs until batch error <= 25"


def test_what_never_reaches_it_counts_as_an_epoch_more_than_the_run_has():
    plan = resolve(study(epochs=30))
    results = {
        (name, seed): {"status": "done", "test_error": 1.0, "batch_error<=25": epochs}
        for name, epochs in (("8", 4.0), ("14", None))
        for seed in range(8)
    }
    (found,) = judge(plan, results)
    assert found.mean_difference == 4 - 31
    assert found.verdict == "shown"
    never = ", ".join(f"14-s{seed}" for seed in range(8))
    assert found.sentence == (
        "8 needs fewer epochs until batch error <= 25 than 14: shown (difference −27 epochs); never"
        f" there, counted as 31 epochs: {never}."
    )


def test_what_no_epoch_has_a_figure_of_is_not_called_never_there():
    assert goal_of("test_error<=1").is_measured(LINES)
    assert not goal_of("test_loss<=1").is_measured([{**LINES[0], "test_loss": None}])
    results = {
        (name, seed): {"status": "done", "test_error": 1.0}
        for name in ["8", "14"]
        for seed in range(8)
    }
    (found,) = judge(resolve(study(epochs=30)), results)
    assert found.verdict.startswith("not judged: epochs until batch error <= 25 of 8-s0 is no")
    assert len(found.unknown) == 16


def test_two_that_never_get_there_are_not_called_equal():
    goal = "batch_error<=25"
    same = Contrast("8", "14", goal, "equal", bound=1)
    plan = resolve(replace(study(epochs=30), contrasts=(same,)))
    results = {
        (name, seed): {"status": "done", "test_error": 1.0, goal: None}
        for name in ("8", "14")
        for seed in range(8)
    }
    (found,) = judge(plan, results)
    assert found.verdict == "not shown with 8 seeds"
    assert len(found.diverged) == 16


def test_it_is_counted_in_each_cells_own_record(tmp_path):
    store, plan = claim(tmp_path, study=replace(STUDY, metrics=("train_error", "batch_error<=10")))
    fill(store, plan)  # 8 % and 14 % with seed 0, ten more with seed 1
    found = read_outcome(tmp_path).results
    assert {key: result["batch_error<=10"] for key, result in found.items()} == {
        ("8", 0): 1, ("14", 0): None, ("8", 1): None, ("14", 1): None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"goal": "batch_eror<=25"}, "did you mean batch_error"),
        ({"goal": "batch_error<=2.5.1"}, "a goal is a figure of an epoch"),
        ({"goal": "batch_error<50"}, "a goal is a figure of an epoch"),
        ({"goal": "batch_error>=50"}, "is better lower: write batch_error<=50"),
        ({"goal": "test_error<=100"}, "every run is there at once"),
        ({"steps": 100}, "counts epochs, and `steps` ends a run between them"),
        ({"goal": "train_error<=25"}, "a goal is a figure of an epoch"),
    ],
)
def test_a_goal_that_cannot_be_counted_is_refused(change, what):
    with pytest.raises(Refused, match=what):
        resolve(study(**change))


def test_its_page_is_drawn_even_where_it_is_the_only_metric(tmp_path):
    only = replace(
        STUDY,
        metrics=("batch_error<=10",),
        contrasts=(Contrast("8", "14", "batch_error<=10", "lower"),),
    )
    store, plan = claim(tmp_path, study=only)
    fill(store, plan)
    page = write_report(tmp_path).html.read_text()
    assert "epochs until batch error &lt;= 10" in page
    assert "A cell that never reaches batch_error&lt;=10 counts as 16 epochs." in page


def test_runs_of_unlike_length_have_no_common_goal():
    unlike = {"8": {"epochs": 5}, "14": {"epochs": 30}}
    with pytest.raises(Refused, match="runs have 5 to 30: what never gets there must count alike"):
        resolve(replace(study(), factors={"depth": unlike}))
    with pytest.raises(Refused, match="epochs is tuned, and a metric counts epochs"):
        resolve(replace(study(), tune=Tune({"epochs": (5, 40)}, metric="batch_error<=25")))
