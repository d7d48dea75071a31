import math
from dataclasses import asdict, replace

import pytest

from cnnjax import Contrast, Refused, Study, small_images
from cnnjax.study.cells import resolve
from cnnjax.study.verdict import judge, power_note


def plan(*contrasts, seeds=8):
    return resolve(
        Study(
            name="mine",
            question="?",
            source="a test",
            base=small_images,
            factors={"depth": {"8": {"model.depth": 8}, "20": {"model.depth": 20}}},
            seeds=seeds,
            metrics=("train_error", "test_error"),
            contrasts=contrasts,
        )
    )


def results(first, second, statuses=None):
    found = {}
    for name, row in (("8", first), ("20", second)):
        for seed, value in enumerate(row):
            if value is not None:
                status = (statuses or {}).get((name, seed), "done")
                found[name, seed] = {"status": status, "train_error": value, "test_error": value}
    return found


LOW = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
HIGH = [11.0, 13.0, 15.0, 12.0, 18.0, 19.0, 17.0, 21.0]
MIXED = [1.1, 1.9, 3.1, 3.8, 5.2, 5.9, 7.3, 7.7]


@pytest.mark.parametrize(
    ("expect", "first", "second", "verdict"),
    [
        ("lower", LOW, HIGH, "shown"),
        ("higher", LOW, HIGH, "the opposite"),
        ("higher", HIGH, LOW, "shown"),
        (None, LOW, HIGH, "shown"),
        (None, LOW, MIXED, "not shown with 8 seeds"),
        ("lower", LOW, MIXED, "not shown with 8 seeds"),
    ],
)
def test_the_verdict_follows_from_the_figures(expect, first, second, verdict):
    (found,) = judge(plan(Contrast("8", "20", "train_error", expect)), results(first, second))
    assert found.verdict == verdict
    assert verdict in found.sentence
    assert found.sided == ("two-sided" if expect is None else "one-sided")
    mean = sum(a - b for a, b in zip(first, second, strict=True)) / 8
    assert found.mean_difference == pytest.approx(mean)
    assert found.ci_low <= mean <= found.ci_high


@pytest.mark.parametrize(
    ("second", "bound", "verdict"),
    [
        (MIXED, 1.0, "equal within 1 points"),
        (MIXED, 0.01, "not shown with 8 seeds"),
        (LOW, 0.5, "equal within 0.5 points"),
        (HIGH, 2.0, "the opposite"),
    ],
)
def test_equal_needs_the_interval_within_a_bound_declared_beforehand(second, bound, verdict):
    contrast = Contrast("8", "20", "train_error", "equal", bound)
    (found,) = judge(plan(contrast), results(LOW, second))
    assert found.verdict == verdict
    if second is LOW:
        assert (found.mean_difference, found.p, found.p_holm) == (0, 1, 1)
        assert found.effect_size is None
        assert (found.ci_low, found.ci_high) == (0, 0)
    figures = [v for v in asdict(found).values() if isinstance(v, float)]
    assert all(math.isfinite(v) for v in figures)


def test_missing_cells_are_named_and_their_pairs_left_out():
    first = [*LOW[:7], None]
    (found,) = judge(plan(Contrast("8", "20", "train_error", "lower")), results(first, HIGH))
    assert found.n == 7
    assert found.missing == ("8-s7",)
    assert "not done: 8-s7" in found.sentence


def test_nothing_done_is_no_verdict():
    (found,) = judge(plan(Contrast("8", "20", "train_error", "lower")), {})
    assert (found.n, found.p, found.mean_difference) == (0, None, None)
    assert found.verdict == "not judged with 0 paired seeds"


def test_a_diverged_cell_enters_at_the_worst_error_and_is_named():
    (found,) = judge(
        plan(Contrast("8", "20", "train_error", "lower")),
        results(LOW, HIGH, {("20", 2): "diverged"}),
    )
    assert found.diverged == ("20-s2",)
    expected = (sum(LOW) - sum(HIGH) + HIGH[2] - 100) / 8
    assert found.mean_difference == pytest.approx(expected)
    assert "diverged, counted as 100 %: 20-s2" in found.sentence


def test_two_failures_are_not_evidence_of_equality():
    contrast = Contrast("8", "20", "train_error", "equal", 2.0)
    statuses = {(name, seed): "diverged" for name in ("8", "20") for seed in range(8)}
    (found,) = judge(plan(contrast), results(LOW, LOW, statuses))
    assert found.verdict == "not shown with 8 seeds"


def test_seeds_are_not_recommended_against_the_claim_nor_fewer_than_there_were():
    noise = [1.0, -1.4, 0.3, -0.9, 0.2, -1.1, 0.5, -0.8]
    first = [20 + d for d in noise]
    for expect, recommends in (("lower", True), ("higher", False)):
        contrast = Contrast("8", "20", "train_error", expect)
        (found,) = judge(plan(contrast), results(first, [20.0] * 8))
        assert found.verdict == "not shown with 8 seeds"
        assert (found.seeds_needed is not None) == recommends
        assert not recommends or found.seeds_needed > 8


def test_equal_differences_are_equal_although_floats_differ():
    one = 100 / 450
    first = [k * one for k in (1, 2, 3, 4, 5, 6, 7, 8)]
    second = [k * one for k in (0, 1, 2, 3, 4, 5, 6, 7)]
    (found,) = judge(plan(Contrast("8", "20", "train_error")), results(first, second))
    assert found.effect_size is None
    assert found.ci_method == "exact"


def test_holm_is_over_all_contrasts():
    declared = (
        Contrast("8", "20", "train_error", "lower"),
        Contrast("8", "20", "test_error", "lower"),
        Contrast("8", "20", "test_error"),
    )
    found = judge(replace(plan(), contrasts=declared), results(LOW, HIGH))
    assert [j.p for j in found] == pytest.approx([1 / 256, 1 / 256, 2 / 256])
    assert [j.p_holm for j in found] == pytest.approx([3 / 256, 3 / 256, 3 / 256])


def test_power_is_told_before_the_run():
    assert "can be reached is 0.0312 (two-sided)" in power_note(plan(Contrast("8", "20"), seeds=6))
    assert "cannot be shown; 6 seeds could" in power_note(plan(Contrast("8", "20"), seeds=5))
    assert "nothing is tested" in power_note(plan())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"expect": "equal"}, "`bound` goes with"),
        ({"bound": 2.0}, "`bound` goes with"),
        ({"expect": "equal", "bound": -1.0}, "must be above 0"),
    ],
)
def test_impossible_contrasts_are_refused(arguments, message):
    with pytest.raises(Refused, match=message):
        Contrast("8", "20", **arguments)


@pytest.mark.parametrize("second", [("8", "20"), ("20", "8")])
def test_a_contrast_that_is_there_twice_is_refused(second):
    """It would double every p value of Holm's correction."""
    with pytest.raises(Refused, match="compare the same two variants on one metric"):
        plan(Contrast("8", "20", "train_error", "lower"), Contrast(*second, "train_error"))
    plan(Contrast("8", "20", "train_error", "lower"), Contrast(*second, "test_error"))


def test_a_metric_without_a_worst_value_is_not_judged_where_a_run_diverged():
    study = replace(plan_of_losses, contrasts=(Contrast("8", "20", "test_loss", "lower"),))
    found = {
        (name, seed): {"status": "done", "test_loss": 1.0 + 0.01 * seed + 0.2 * (name == "20")}
        for name in ("8", "20")
        for seed in range(8)
    }
    (judged,) = judge(resolve(study), found)
    assert (judged.verdict, judged.unit) == ("shown", "nats")
    assert "(difference −0.2 nats)" in judged.sentence
    found["20", 3] = {"status": "diverged", "test_loss": None}
    (judged,) = judge(resolve(study), found)
    assert judged.verdict == "not judged: test loss of 20-s3 is no number"
    assert judged.sentence.endswith("diverged, or without a value: 20-s3.")
    found["20", 3]["status"] = "done"  # a mean over no example, say
    assert judge(resolve(study), found) == [judged]


plan_of_losses = Study(
    name="losses", question="?", source="a test", base=small_images, seeds=8,
    factors={"depth": {"8": {"model.depth": 8}, "20": {"model.depth": 20}}},
    metrics=("test_loss",), contrasts=(),
)  # fmt: skip


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("test_eror", "no metric of task classification .study losses. 'test_eror'; did you mean"),
        ("loss", "did you mean test_loss"),
    ],
)
def test_a_metric_that_the_task_has_not_is_refused(metric, message):
    with pytest.raises(Refused, match=message):
        resolve(replace(plan_of_losses, metrics=(metric,)))


def test_the_long_name_of_an_alias_is_the_same_metric():
    study = replace(plan_of_losses, metrics=("test_error", "test_top1_error"))
    measures = resolve(study).measures
    assert measures["test_error"] == measures["test_top1_error"]
