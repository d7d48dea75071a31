"""`cnnjax analyze`, as a user types it: of runs, and of imported weights."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binom

RUN = ("--recipe", "small_images", "--set", "model.width=0.25", "--set", "steps=3")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of one network."""
    from click.testing import CliRunner

    from cnnjax.cli.main import cnnjax

    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        done = CliRunner().invoke(
            cnnjax,
            ["train", "--model", "cifar_resnet8", *RUN, "--seed", str(seed),
             "--workdir", str(folder / str(seed))],
        )  # fmt: skip
        assert done.exit_code == 0, done.output
    return folder


def analyzed(cli, *arguments):
    code, out, err = cli("analyze", *arguments, "--json")
    assert code == 0, err
    found = json.loads(out)
    picture = Image.open(found["picture"])
    assert np.asarray(picture.convert("L")).std() > 5  # not empty
    return found


def test_everything_that_a_run_can_show(cli, runs, tmp_path):
    run = runs / "0"
    for what in ("filters", "maps"):
        assert analyzed(cli, run, "--what", what)["picture"] == str(run / f"{what}.png")
    cam = analyzed(cli, run, "--what", "gradcam", "--count", 3, "--index", 5)
    assert len(cam["classes"]) == 3
    confusion = analyzed(cli, run, "--what", "confusion", "--out", tmp_path / "c.png")
    code, out, _ = cli("eval", run, "--json")
    assert code == 0
    assert confusion["confusion"] == json.loads(out)["confusion"]


def test_two_runs_side_by_side(cli, runs):
    both = runs / "0", runs / "1"
    sides = analyzed(cli, *both, "--what", "erf", "--count", 4)["side_px"]
    assert len(sides) == 2
    assert all(1 <= side <= 8 for side in sides)
    found = analyzed(
        cli, *both, "--what", "landscape", "--count", 450, "--points", 3, "--reach", 0.5
    )
    assert found["places"] == [-0.5, 0.0, 0.5]
    for folder, losses in zip(both, found["losses"], strict=True):
        code, out, _ = cli("eval", folder, "--json")
        assert code == 0
        assert losses[1][1] == pytest.approx(json.loads(out)["loss"], rel=1e-5)


def test_imported_weights_need_data(cli, runs, tmp_path):
    weights = tmp_path / "weights"
    file = tmp_path / "w.npz"
    assert cli("export-weights", runs / "0", file)[0] == 0
    assert cli("import-weights", "cifar_resnet8", file, "--out", weights, "--input", 8, 8, 1,
               "--normalization", "none", "--set", "model.width=0.25",
               "--set", "model.num_classes=10")[0] == 0  # fmt: skip
    code, _, err = cli("analyze", weights, "--what", "erf")
    assert code == 2
    assert "give --data" in err
    assert analyzed(cli, weights, "--what", "erf", "--data", "digits", "--count", 2)["side_px"]


@pytest.mark.parametrize(
    ("more", "what"),
    [
        (("--what", "erff"), "'erff' is not one of"),
        (("--what", "gradcam", "--index", 449), "449 to 456 are not all there"),
        (("--what", "confusion", "--count", 3), "--count has no effect on confusion"),
        (("--what", "erf", "--points", 5), "--points has no effect on erf; it is of landscape"),
        (("--what", "landscape", "--points", 4), "an odd number"),
        (("--what", "landscape", "--reach", "nan"), "must be a number"),
        (("--what", "erf", "--data", "digits"), "--data digits has no effect"),
        (("--what", "erf", "--out", "nowhere/x.png"), "give a .png file in a folder that is there"),
        (("--what", "erf", "--out", "x.jpg"), "give a .png file"),
        (("--what", "erf", "--set", "data.image_size=3"), "has no effect without --data"),
    ],
)
def test_what_cannot_be_shown_is_refused(cli, runs, more, what):
    code, _, err = cli("analyze", runs / "0", *more)
    assert code == 2
    assert what in err
    assert err.count("\n") == 1 or "Usage" in err


def test_two_networks_where_one_is_drawn_and_a_folder_of_nothing_are_refused(cli, runs, tmp_path):
    code, _, err = cli("analyze", runs / "0", runs / "1", "--what", "gradcam")
    assert (code, "of one network at a time" in err) == (2, True)
    code, _, err = cli("analyze", tmp_path, "--what", "erf")
    assert (code, "holds neither a run" in err) == (2, True)


def test_png_is_what_is_written(cli, runs, tmp_path):
    target = tmp_path / "e.png"
    code, out, _ = cli("analyze", runs / "0", "--what", "erf", "--count", 2, "--out", target)
    assert code == 0
    assert out.splitlines()[-1] == str(target)
    assert Image.open(io.BytesIO(target.read_bytes())).format == "PNG"


def test_two_networks_are_compared_image_by_image(cli, runs, tmp_path):
    file = tmp_path / "second.npz"
    assert cli("eval", runs / "1", "--predictions", file)[0] == 0
    code, out, _ = cli("eval", runs / "0", "--against", file, "--json")
    assert code == 0
    figures = json.loads(out)
    found = figures["against"]
    second = np.load(file)
    wrong = int((second["labels"] != second["predictions"]).sum())
    mine = round(figures["top1_error"] * 4.5)
    assert found["only_first"] - found["only_second"] == mine - wrong
    total = found["only_first"] + found["only_second"]
    tail = min(found["only_first"], found["only_second"])
    assert found["p"] == pytest.approx(min(1, 2 * binom.cdf(tail, total, 0.5)))
    code, out, _ = cli("eval", runs / "0", "--against", file)
    assert f"wrong here alone {found['only_first']}," in out
    share = figures["top1_error"] / 100
    assert f"± {100 * (share * (1 - share) / 450) ** 0.5:.2f} (binomial)" in out


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "No such file"),
        (b"text", "it is no .npz file"),
        (b"", "it is no .npz file"),
        ({"labels": np.zeros(450)}, "has no labels and predictions"),
        ({"labels": np.zeros(450), "predictions": np.zeros(3)}, "not rows of one length"),
        ({"labels": np.zeros(450), "predictions": np.zeros(450)}, "is of other examples"),
        ({"labels": np.zeros(3), "predictions": np.zeros(3)}, "of other examples (3, here 450)"),
    ],
)
def test_predictions_of_something_else_are_refused(cli, runs, tmp_path, content, what):
    file = tmp_path / "other.npz"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        np.savez(file, **content)
    mine = tmp_path / "mine.npz"
    code, _, err = cli("eval", runs / "0", "--against", file, "--predictions", mine)
    assert code == 2
    assert what in err
    assert mine.exists() == ("other examples" in what)  # what was computed is kept
