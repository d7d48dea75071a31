"""Figures at their extremes: nothing leaves its slot or the canvas, and no mean flatters."""

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import bootstrap

from cnnjax import Contrast, Preset, Study, small_images
from cnnjax.report import canvas
from cnnjax.report.canvas import drawing, fitted, looks, text_width
from cnnjax.report.figures import _band, pictures
from cnnjax.study.cells import resolve
from cnnjax.study.outcome import read_outcome
from cnnjax.study.spec import Arm
from cnnjax.study.store import Store
from tests.study.test_store import DATA

ENOUGH = 5  # a line of the grid has a panel, and one is as another


@pytest.fixture
def drawn(monkeypatch):
    """The figures that `pictures` draws, by name, laid out but not encoded."""

    def call(outcome):
        found = []

        def keep(figure):
            if len(found) < ENOUGH:
                figure.draw_without_rendering()
            found.append(figure)
            return b"", b""

        monkeypatch.setattr(canvas, "encoded", keep)
        names = [picture.name for picture in pictures(outcome)]
        return dict(list(zip(names, found, strict=True))[:ENOUGH])

    return call


def outcome_of(
    folder,
    *,
    epochs=4,
    seeds=3,
    error=None,
    diverged=lambda name: None,
    missing=(),
    contrasts=(),
    arms=(),
    **names,
):
    """A study whose factors have these level names, with made-up results.

    Args:
      error: of every epoch and result; None: one that differs.
      diverged: the epoch in which a cell of some name diverges, or None.
      missing: beginnings of the names of cells without a result.
    """  # fmt: skip
    paths = ("batch_size", "epochs", "model.num_classes")[-len(names) :]
    study = Study(
        name="made_up", question="?", source="a test", base=small_images, seeds=seeds,
        factors={factor: {level: {path: 16 + i} for i, level in enumerate(levels)}
                 for path, (factor, levels) in zip(paths, names.items(), strict=True)},
        metrics=("train_error", "test_error"), contrasts=contrasts,
        presets={"quick": Preset(arms=arms)},
    )  # fmt: skip
    plan = resolve(study)
    costs = {v.name: {"params": 10, "macs": 20, "input": [8, 8, 1]} for v in plan.variants}
    store = Store(folder)
    _, identity = store.claim(plan, DATA, costs, "a command", pytest.fail)
    for index, cell in enumerate(plan.cells):
        if cell.name.startswith(tuple(missing)):
            continue
        final = error if error is not None else 5 + 60 * index / len(plan.cells)
        end = diverged(cell.name)
        files = store.files(cell)
        files.begin(cell, identity)
        last = epochs if end is None else end - 1
        records = [
            {"epoch": e, "step": 9 * e, "batch_error": 0.8 * final, "test_error": final}
            for e in range(1, last + 1)
        ]
        files.metrics.write_text("".join(json.dumps(record) + "\n" for record in records))
        value = final if end is None else None
        files.finish(
            {
                "status": "done" if end is None else "diverged", "steps": 9 * last,
                "train_error": value, "test_error": value, "train_loss": 1.0, "test_loss": 1.0,
                "train_seconds": 1.0, "compile_seconds": 1.0, "init_seconds": 1.0,
                "diverged": None if end is None else {"step": 9 * last + 1, "leaf": "grads/conv"},
            }
        )  # fmt: skip
    return read_outcome(folder, pytest.fail)


DEPTHS = ("8", "20", "32")
LONG = ("with_momentum_and_weight_decay_of_2015", "with_decoupled_weight_decay_and_rising")
EXTREMES = {
    "one epoch": {"shortcut": ("plain", "residual"), "depth": DEPTHS, "epochs": 1},
    "nine lines": {"optimizer": [f"o{i}" for i in range(9)], "depth": DEPTHS, "seeds": 2},
    "thirty lines": {"optimizer": [f"o{i}" for i in range(30)], "depth": ("8", "20"), "seeds": 1},
    "twenty levels": {
        "shortcut": ("plain", "residual"), "rate": [f"0.{i:03}" for i in range(20)], "seeds": 1
    },
    "long names": {
        "a factor's name of two $ $ or many words, more than fit on a line of a figure": LONG,
        "学習率": LONG,
        "contrasts": (Contrast(f"{LONG[0]}-{LONG[0]}", f"{LONG[1]}-{LONG[0]}", "test_error"),),
    },
    "three factors": {"act": ("relu", "gelu"), "norm": ("batch", "none"), "depth": DEPTHS},
    "one level, one seed": {"depth": ("8",), "seeds": 1},
    "one factor": {"depth": DEPTHS},
    "all diverged": {
        "shortcut": ("plain", "residual"), "depth": DEPTHS, "diverged": lambda name: 1,
        "contrasts": (Contrast("plain-8", "plain-20", "train_error", "lower"),),
    },
    "all 0": {
        "shortcut": ("plain", "residual"), "depth": DEPTHS, "error": 0.0,
        "contrasts": (Contrast("plain-8", "plain-20", "train_error", "equal", 2),),
    },
    "all 100": {"shortcut": ("plain", "residual"), "depth": DEPTHS, "error": 100.0},
    "a line is missing": {
        "shortcut": ("plain", "residual"), "depth": DEPTHS, "missing": ("plain",)
    },
    "one cell": {
        "shortcut": ("plain", "residual"), "depth": DEPTHS,
        "missing": ("plain-2", "plain-3", "plain-8-s1", "plain-8-s2", "residual"),
    },
    "arms": {
        "shortcut": ("plain", "residual"), "depth": DEPTHS,
        "arms": (Arm({"shortcut": "plain", "depth": "8"},
                     {"optimizer": {LONG[0]: {"optimizer.momentum": 0.5},
                                    "b": {"optimizer.momentum": 0.4}}}),),
    },
    "arms alone": {
        "shortcut": ("plain",), "depth": ("8",), "missing": ("plain-8-s",),
        "arms": (Arm({"shortcut": "plain", "depth": "8"},
                     {"optimizer": {"b": {"optimizer.momentum": 0.4}}}),),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", EXTREMES)
def test_all_is_on_the_canvas_and_in_its_slot_and_the_legend_beside_the_data(tmp_path, drawn, name):
    found = drawn(outcome_of(tmp_path, **EXTREMES[name]))
    assert found
    for kind, figure in found.items():
        (axes,) = figure.axes
        frame = axes.get_window_extent()
        assert frame.width / figure.dpi > 2
        assert frame.height / figure.dpi > (1.8 if kind.startswith(("final", "curves")) else 0.4)
        for artist in (axes, *figure.legends):
            box = artist.get_tightbbox()
            assert -1 <= box.x0 < box.x1 <= figure.bbox.x1 + 1
            assert -1 <= box.y0 < box.y1 <= figure.bbox.y1 + 1
        for legend in figure.legends:
            assert not legend.get_window_extent().overlaps(axes.get_tightbbox())
            assert all(text.get_text() not in ("", "all") for text in legend.texts)
        assert axes.get_title() != "all"
        for line in axes.lines:
            inside(line, axes)
            if kind.startswith("final") and len(line.get_xdata()) == 1:  # a seed's dot
                (x,) = line.get_xdata()
                assert abs(x - round(x)) < 0.46


def inside(line, axes):
    for values, (low, high), whole in zip(
        line.get_data(), (axes.get_xlim(), axes.get_ylim()), (False, True), strict=True
    ):
        if not (whole and line.get_transform() != axes.transData):  # a line across the panel
            assert all(low <= value <= high for value in values)


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 20, 42])
def test_lines_are_told_apart(count):
    found = looks(count)
    assert len({look.colour for look in found}) == count
    if count > 7:  # on the scale, neighbours have other markers too
        assert all(a.marker != b.marker for a, b in itertools.pairwise(found))


def test_one_epoch_is_a_point_a_level(tmp_path, drawn):
    figure = drawn(outcome_of(tmp_path, depth=DEPTHS, epochs=1))["curves-all"]
    points = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [line.get_ydata()[0] for line in points]
    assert len({float(line.get_xdata()[0]) for line in points}) == len(DEPTHS)
    assert [tick for tick in figure.axes[0].get_xticks() if 0.5 < tick < 1.5] == [1]


def bold(figure):
    """The test curves of a figure: (epochs, means)."""
    lines = [line for line in figure.axes[0].lines if line.get_linewidth() == 2.2]
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in lines]


def test_no_curve_is_a_mean_over_survivors(tmp_path, drawn):
    """8-s1 diverges in its first epoch and leaves no line, 20-s0 in its third."""
    ends = {"8-s1": 1, "20-s0": 3}
    outcome = outcome_of(tmp_path, depth=("8", "20", "32"), diverged=ends.get)
    figure = drawn(outcome)["curves-all"]
    assert [epochs for epochs, _ in bold(figure)] == [[], [1, 2], [1, 2, 3, 4]]
    assert [text.get_text() for text in figure.legends[0].texts] == [
        "8 (diverged in epoch 1)", "20", "32",
    ]  # fmt: skip
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert [list(line.get_xdata()) for line in crosses] == [[2]]


def test_where_no_curve_is_left_the_figure_says_so(tmp_path, drawn):
    figure = drawn(outcome_of(tmp_path, depth=DEPTHS, diverged=lambda name: 1))["curves-all"]
    assert figure.axes[0].texts[0].get_text() == "no epoch has a figure of all seeds"


def test_batches_are_thin_and_the_test_split_is_bold(tmp_path, drawn):
    outcome = outcome_of(tmp_path, depth=DEPTHS, error=50.0)
    lines = drawn(outcome)["curves-all"].axes[0].lines
    thin = [list(line.get_ydata()) for line in lines if line.get_linewidth() == 0.9]
    assert thin == [[40.0] * 4] * 3
    caption = next(p.caption for p in pictures(outcome) if p.name == "curves-all")
    assert "Thin: of the epoch's batches while training" in caption


def test_a_bound_is_drawn_as_wide_as_it_is(tmp_path, drawn):
    contrast = Contrast("8", "20", "train_error", "equal", 2)
    outcome = outcome_of(tmp_path, depth=("8", "20"), contrasts=(contrast,))
    (axes,) = drawn(outcome)["contrasts"].axes
    (band,) = [line for line in axes.lines if line.get_linewidth() == 9]
    assert list(band.get_xdata()) == [-2, 2]
    assert band.get_solid_capstyle() == "butt"  # a projecting cap adds half the line's thickness


def test_a_study_without_a_finished_cell_has_no_figures(tmp_path):
    assert pictures(outcome_of(tmp_path, depth=DEPTHS, missing=("8", "20", "32"))) == []


@pytest.mark.parametrize("inches", [0.5, 1.0, 3.0])
def test_text_is_broken_to_fit(inches):
    text = "with_momentum_2015-the_first_level − another-level, training error: shown"
    with drawing():
        broken = fitted(text, inches)
        assert text_width(broken) <= inches + 0.01
        assert math.isclose(text_width("a" * 10), 10 * text_width("a"), rel_tol=0.1)
    assert "".join(broken.split()) == "".join(text.split())


def test_points_and_nats_have_an_axis_each(tmp_path, drawn):
    contrast = Contrast("8", "20", "train_error", "lower")
    outcome = outcome_of(tmp_path, depth=("8", "20"), contrasts=(contrast,))
    (judged,) = outcome.judgements
    nats = replace(judged, unit="nats", mean_difference=0.02, ci_low=0.01, ci_high=0.03)
    found = drawn(replace(outcome, judgements=[judged, nats]))
    assert {"contrasts", "contrasts-nats"} <= set(found)
    (axes,) = found["contrasts-nats"].axes
    assert axes.get_xlabel().endswith("(nats)")
    assert axes.get_xlim()[1] < 0.1  # on the scale of its own differences
    assert len(axes.texts) == 1


def test_a_band_is_of_the_mean_and_of_few_seeds_all_of_them():
    values = np.random.default_rng(1).normal(10, 2, 12).tolist()
    low, high = _band(values)
    found = bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=0)
    assert low == pytest.approx(found.confidence_interval.low, abs=0.1)
    assert high == pytest.approx(found.confidence_interval.high, abs=0.1)
    assert _band(values) == (low, high)  # the same results give the same picture
    assert _band(values[:5]) == (min(values[:5]), max(values[:5]))
