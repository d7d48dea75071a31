import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from cnnjax import Contrast, Probe, Refused, Spread, Study, Trend, small_images
from cnnjax.study.cells import resolve
from cnnjax.study.power import power_note, powers
from cnnjax.study.statistics import SignFlips
from cnnjax.study.store import plan_of
from cnnjax.study.verdict import judge


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
def test_equal_needs_two_tests_against_a_bound_declared_beforehand(second, bound, verdict):
    contrast = Contrast("8", "20", "train_error", "equal", bound)
    (found,) = judge(plan(contrast), results(LOW, second))
    assert found.verdict == verdict
    if second is LOW:
        assert (found.mean_difference, found.p, found.p_holm) == (0, 1 / 256, 3 / 256)
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


def test_what_a_run_that_is_done_could_not_measure_is_not_the_worst():
    """Average precision where there is no object, say."""
    found = results(LOW, HIGH)
    found["20", 2]["train_error"] = None
    (judged,) = judge(plan(Contrast("8", "20", "train_error", "lower")), found)
    assert judged.verdict == "not judged: training error of 20-s2 is no number"
    assert (judged.diverged, judged.unknown) == ((), ("20-s2",))
    assert "counted as" not in judged.sentence


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
    assert (found.ci_low, found.ci_high) == (found.mean_difference,) * 2


def test_holm_is_over_all_statements():
    """Both directions of each contrast, and of an equality three: 2 + 2 + 3."""
    declared = (
        Contrast("8", "20", "train_error", "lower"),
        Contrast("8", "20", "test_error", "higher"),
        Contrast("8", "20", "train_error", "equal", 2.0),
    )
    found = judge(replace(plan(), contrasts=declared), results(LOW, HIGH))
    assert [j.p for j in found] == pytest.approx([2 / 256, 2 / 256, 1 / 256])
    assert [j.p_holm for j in found] == pytest.approx([7 / 256, 7 / 256, 7 / 256])
    assert [j.verdict for j in found] == ["shown", "the opposite", "the opposite"]


def test_one_contrast_alone_is_judged_by_its_two_sided_p():
    (found,) = judge(plan(Contrast("8", "20", "train_error", "lower")), results(LOW, HIGH))
    assert found.p == found.p_holm == 2 / 256


def test_p_is_that_of_the_test_however_many_statements_there_are():
    """Holm's p is 1 for both directions; the two-sided p is still the smaller one's."""
    difference = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -7.0, -4.0]
    many = tuple(Contrast("8", "20", "train_error") for _ in range(5))
    first = [20.0 + d for d in difference]
    found = judge(replace(plan(), contrasts=many), results(first, [20.0] * 8))
    assert [j.p for j in found] == [SignFlips(difference).p()] * 5
    assert {j.p_holm for j in found} == {1}


def test_what_a_probe_saw_before_a_run_diverged_is_judged():
    study = replace(
        plan_of_losses,
        contrasts=(Contrast("8", "20", "gradient_attenuation@0", "lower"),),
        probes=(Probe("gradient_attenuation", at=(0, 1)),),
    )
    found = {
        (name, seed): {"status": "done", "probes": {"gradient_attenuation@0": seed + 9.0 * at}}
        for at, name in enumerate(("8", "20"))
        for seed in range(8)
    }
    found["20", 3]["status"] = "diverged"
    (judged,) = judge(resolve(study), found)
    assert (judged.verdict, judged.n, judged.diverged) == ("shown", 8, ())
    found["20", 3]["probes"] = {}
    (judged,) = judge(resolve(study), found)
    assert judged.verdict.startswith("not judged: gradient attenuation before training of 20-s3")


def test_a_misspelt_probe_is_named_before_its_contrasts():
    study = replace(
        plan_of_losses,
        contrasts=(Contrast("8", "20", "gradient_attenuation@0"),),
        probes=(Probe("gradient_atenuation"),),
    )
    with pytest.raises(Refused, match="no probe 'gradient_atenuation'; did you mean gradient_att"):
        resolve(study)


@pytest.mark.parametrize("expect", ["lower", "higher", None, "equal"])
def test_false_statements_are_rare(expect):
    """Of 400 null studies (an equality: at its bound) at most 5 %, with room for chance."""
    rng = np.random.default_rng(0)
    bound = 1.0 if expect == "equal" else None
    design = plan(Contrast("8", "20", "train_error", expect, bound))
    wrong = 0
    for _ in range(400):
        first, second = 20 + rng.normal(size=8) + (bound or 0), 20 + rng.normal(size=8)
        (found,) = judge(design, results(first, second))
        wrong += not found.verdict.startswith("not shown")
    assert wrong / 400 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


def test_power_is_told_before_the_run():
    two = (Contrast("8", "20"), Contrast("8", "20", "train_error", "equal", 1.0))
    assert "can be reached is 0.0312" in power_note(plan(Contrast("8", "20"), seeds=6))
    assert "2 contrasts with 5 possible statements" in power_note(plan(*two))
    assert "cannot be shown; 7 seeds could" in power_note(plan(*two, seeds=6))
    assert "can be reached is 3.1e-05" in power_note(plan(Contrast("8", "20"), seeds=200))
    assert "nothing is tested" in power_note(plan())


def test_power_rises_with_the_effect_and_falls_with_the_spread():
    design = plan(Contrast("8", "20"), Contrast("8", "20", "train_error", "equal", 2.0))
    strong, weak = powers(design, sd=0.5, effect=2.0), powers(design, sd=1.5, effect=2.0)
    assert [found.smallest_p for found in strong] == [5 / 256] * 2
    assert all(s.power > w.power for s, w in zip(strong, weak, strict=True))
    assert all(s.seeds_for_power < w.seeds_for_power for s, w in zip(strong, weak, strict=True))
    assert powers(design)[0].power is None


def of_depths(*contrasts, levels=("8", "14", "20"), **changes):
    return resolve(
        replace(
            plan_of_losses,
            factors={
                "shortcut": {"plain": {"model.shortcut": "none"}, "A": {"model.shortcut": "A"}},
                "depth": {level: {"model.depth": 8 + 6 * i} for i, level in enumerate(levels)},
            },
            metrics=("test_error",),
            contrasts=contrasts,
            **changes,
        )
    )


def test_a_trend_is_each_seeds_own_slope():
    design = of_depths(Trend("depth", {"shortcut": "plain"}, expect="higher"))
    rng = np.random.default_rng(0)
    depths, errors = [8, 14, 20], rng.normal([1, 4, 9], size=(8, 3))
    found = {
        (f"plain-{depth}", seed): {"status": "done", "test_error": float(errors[seed, i])}
        for i, depth in enumerate(depths)
        for seed in range(8)
    }
    (judged,) = judge(design, found)
    slopes = [np.polyfit([0, 1, 2], row, 1)[0] for row in errors]
    assert judged.mean_difference == pytest.approx(np.mean(slopes))
    assert judged.effect_size == pytest.approx(np.mean(slopes) / np.std(slopes, ddof=1))
    assert (judged.verdict, judged.unit, judged.first) == ("shown", "points per level", None)
    assert judged.sentence.startswith("test error of plain rises with depth: shown (slope +")
    del found["plain-14", 3]
    (judged,) = judge(design, found)
    assert (judged.n, judged.missing) == (7, ("plain-14-s3",))


def test_a_trend_comes_back_from_a_studys_folder():
    design = of_depths(Trend("depth", {"shortcut": "plain"}), Contrast("plain-8", "A-8"))
    document = {
        **json.loads(json.dumps(design.identity())),
        "seeds": {variant.name: 8 for variant in design.variants},
        "measures": {"test_error": asdict(design.measures["test_error"])},
    }
    assert plan_of(document).contrasts == design.contrasts


@pytest.mark.parametrize(
    ("trend", "levels", "message"),
    [
        (Trend("depth", {"shortcut": "plain"}), ("a", "b", "c"), "level a of factor depth is no"),
        (Trend("depth", {"shortcut": "plain"}), ("8", "14"), "needs three levels"),
        (Trend("depth"), ("8", "14", "20"), 'say at which level of shortcut: where={"shortcut"'),
        (Trend("dept", {"shortcut": "plain"}), ("8", "14", "20"), "did you mean depth"),
        (Trend("depth", {"shortcut": "plan"}), ("8", "14", "20"), "did you mean plain"),
        (Trend("depth", {"depth": "8"}), ("8", "14", "20"), "factor in `where`: 'depth'"),
        (Trend("depth", {"shortcut": "A"}, "loss"), ("8", "14", "20"), "'loss'"),
    ],
)
def test_an_impossible_trend_is_refused(trend, levels, message):
    with pytest.raises(Refused, match=message):
        of_depths(trend, levels=levels)


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
    """It would count twice in Holm's correction."""
    with pytest.raises(Refused, match="compare the same variants on one metric"):
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
    assert judged.sentence.endswith("diverged or not measured: 20-s3.")
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


def spread(expect=None, seeds=16):
    return plan(Spread("8", "20", "train_error", expect), seeds=seeds)


def test_a_spread_is_judged_by_pairs_of_seeds():
    rng = np.random.default_rng(0)
    narrow, wide = (list(10 + sd * rng.normal(size=16)) for sd in (0.1, 5.0))
    (found,) = judge(spread("lower"), results(narrow, wide))
    variances = [
        np.mean([(a - b) ** 2 / 2 for a, b in zip(row[::2], row[1::2], strict=True)])
        for row in (narrow, wide)
    ]
    assert found.n == 8
    assert found.mean_difference == pytest.approx(variances[0] - variances[1])
    assert found.verdict == "shown"
    assert found.unit == "points²"
    assert found.sentence == (
        "8 scatters less than 20 in training error: shown (difference of variances"
        f" −{-found.mean_difference:.2f} points²)."
    )
    assert (found.ci_low, found.ci_high) == (None, None)  # squares are skewed
    (found,) = judge(spread("higher"), results(narrow, wide))
    assert found.verdict == "the opposite"


def test_what_diverged_does_not_scatter_less():
    statuses = {("8", seed): "diverged" for seed in range(16)}
    row = list(np.random.default_rng(3).normal(5, 1, 16))
    (found,) = judge(spread("lower"), results([100.0] * 16, row, statuses))
    assert found.verdict == "not judged: training error of 8-s0 is the worst, which tells no spread"


def test_a_spread_does_not_see_where_the_seeds_lie():
    rng = np.random.default_rng(1)
    row = rng.normal(size=16)
    (found,) = judge(spread(), results(list(row), list(row + 50)))
    assert found.mean_difference == pytest.approx(0)
    assert found.verdict == "not shown with 8 pairs of seeds"


def test_the_spread_of_what_scatters_alike_is_rarely_called_different():
    """Skewed errors in unequal places, 400 studies: at most 5 % and three errors of it."""
    rng = np.random.default_rng(2)
    design = spread()
    false = 0
    for _ in range(400):
        rows = rng.lognormal(size=(2, 16)) + np.array([[0.0], [30.0]])
        (found,) = judge(design, results(*map(list, rows)))
        false += not found.verdict.startswith("not")
    assert false / 400 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


def test_a_seed_without_a_partner_counts_for_nothing_and_a_missing_one_takes_its_partner():
    rows = [[1.0, 2.0, 3.0, None, 5.0, 6.0, 7.0]] * 2
    (found,) = judge(spread(seeds=7), results(*rows))
    assert found.n == 2
    assert found.missing == ("8-s3", "20-s3")


def test_a_spread_comes_back_from_its_folder(tmp_path):
    design = spread("lower")
    stored = {**design.identity(), "seeds": {v.name: v.seeds for v in design.variants},
              "measures": {n: asdict(m) for n, m in design.measures.items()}}  # fmt: skip
    assert plan_of(json.loads(json.dumps(stored))).contrasts == design.contrasts


def test_a_contrast_and_a_spread_of_the_same_variants_are_two():
    design = plan(Contrast("8", "20", "train_error"), Spread("8", "20", "train_error"))
    assert len(design.contrasts) == 2
    assert [(found.seeds, found.fewest_seeds) for found in powers(design)] == [(8, 7), (8, 14)]
    assert "spread of 8 - 20 (train_error) cannot be shown; 14 seeds could" in power_note(design)
    with pytest.raises(Refused, match="compare the same variants"):
        plan(Spread("8", "20"), Spread("20", "8"))
