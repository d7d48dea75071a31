"""predict and eval, as a user types them: of a run, and of imported weights."""

import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cnnjax import create_model, load_network
from cnnjax.data.normalization import IMAGENET_DEVIATION, IMAGENET_MEAN
from cnnjax.data.views import View, central_view, fixed_view
from cnnjax.interop.mapping import to_torch
from cnnjax.interop.variables import nested, template

NET = """
from flax import linen as nn


class Net(nn.Module):
    num_classes: int = 3

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.relu(nn.Conv(4, (3, 3), (2, 2), padding=1)(images)).mean((1, 2))
        return nn.Dense(self.num_classes)(x)
"""
COLOURS = {"blue": (20, 30, 220), "green": (30, 200, 40), "red": (230, 20, 30)}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A network, photographs of three colours, random weights for images of 16 pixels."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 3)):
        for name, colour in COLOURS.items():
            folder = tmp_path / "photographs" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                noise = rng.integers(-20, 20, (24, 30, 3))
                pixels = np.clip(np.asarray(colour) + noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    model = create_model("net.py:Net")
    leaves = template(model, (16, 16, 3))
    variables = nested({p: rng.normal(size=a.shape).astype(np.float32) for p, a in leaves.items()})
    np.savez(tmp_path / "w.npz", **to_torch(model, variables, (16, 16, 3)))
    return tmp_path


def chances_of(folder, images, mean, deviation):
    """Written out: bytes to probabilities."""
    network = load_network(folder)
    normal = (images / 255 - np.float32(mean)) / np.float32(deviation)
    logits = network.module.apply(network.variables, normal.astype(np.float32), train=False)
    return np.asarray(jax.nn.softmax(logits))


def imported(cli, *more):
    code, _, err = cli("import-weights", "net.py:Net", "w.npz", "--out", "in", "--input", 16, 16, 3,
                       *more)  # fmt: skip
    assert (code, err) == (0, "")


def predicted(cli, *arguments):
    code, out, err = cli("predict", *arguments, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)["images"]


@pytest.mark.parametrize(
    ("more", "mean", "deviation"),
    [
        ((), IMAGENET_MEAN, IMAGENET_DEVIATION),
        (("--normalization", "inception"), (0.5,) * 3, (0.5,) * 3),
        (("--normalization", "caffe"), (123 / 255, 117 / 255, 104 / 255), (1 / 255,) * 3),
        (("--normalization", "none"), (0,) * 3, (1,) * 3),
    ],
)
def test_imported_weights_see_the_centre_normalised_as_they_want(cli, here, more, mean, deviation):
    imported(cli, *more)
    path = here / "photographs" / "test" / "red" / "0.png"
    seen = fixed_view(path.read_bytes(), View(16))
    expected = chances_of("in", seen[None], mean, deviation)[0]
    (one,) = predicted(cli, "in", path)
    assert one["image"] == str(path)
    assert [each["index"] for each in one["classes"]] == [int(i) for i in np.argsort(-expected)]
    assert [each["class"] for each in one["classes"]] == [
        str(each["index"]) for each in one["classes"]
    ]
    for each in one["classes"]:
        assert each["probability"] == pytest.approx(100 * expected[each["index"]], rel=1e-4)


def test_a_table_and_weights_judged_on_data(cli, here):
    imported(cli)
    paths = [here / "photographs" / "test" / name / "1.png" for name in COLOURS]
    code, out, _ = cli("predict", "in", *paths)
    assert code == 0
    lines = out.splitlines()
    assert len(lines) == 1 + 3 * 3
    assert [str(path) in out for path in paths] == [True] * 3
    assert out.count(" %") == 9
    tested = sorted((here / "photographs" / "test").rglob("*.png"))
    seen = np.stack([fixed_view(path.read_bytes(), View(16)) for path in tested])
    chances = chances_of("in", seen, IMAGENET_MEAN, IMAGENET_DEVIATION)
    labels = np.repeat(np.arange(3), 3)
    code, out, err = cli("eval", "in", "--data", "folder:photographs", "--json")
    assert (code, err) == (0, "")
    figures = json.loads(out)
    assert figures["examples"] == 9
    assert figures["normalization"] == "imagenet"
    assert figures["top1_error"] == pytest.approx(100 * (chances.argmax(1) != labels).mean())
    loss = -np.log(chances[np.arange(9), labels]).mean()
    assert figures["loss"] == pytest.approx(loss, rel=1e-4)
    code, out, _ = cli("eval", "in", "--data", "folder:photographs", "--set",
                       "data.normalization=none", "--split", "train", "--json")  # fmt: skip
    assert code == 0
    assert json.loads(out)["examples"] == 24
    assert json.loads(out)["normalization"] == "none"


def test_a_run_on_photographs_names_what_it_learned(cli, here):
    code, _, err = cli("train", "--recipe", "small_images", "--model", "net.py:Net", "--data",
                       "folder:photographs", "--set", "data.image_size=16", "--set",
                       "data.test_crops=10", "--set", "batch_size=24", "--set", "steps=60",
                       "--set", "data.augmentation=none", "--workdir", "run")  # fmt: skip
    assert code == 0, err
    paths = {name: here / "photographs" / "test" / name / "2.png" for name in COLOURS}
    found = predicted(cli, "run", *paths.values())
    for name, one in zip(paths, found, strict=True):
        assert {each["class"] for each in one["classes"]} == set(COLOURS)
        assert sum(each["probability"] for each in one["classes"]) == pytest.approx(100, abs=1e-3)
        assert one["classes"][0]["class"] == name
    code, out, _ = cli("eval", "run", "--json")
    assert json.loads(out)["top1_error"] == 0
    code, _, err = cli("eval", "run", "--data", "digits")
    assert code == 2
    assert "--data digits has no effect: a run is judged on the data of its recipe" in err
    (here / "photographs" / "train" / "red" / "0.png").unlink()
    code, _, err = cli("predict", "run", paths["red"])
    assert code == 2
    assert "is not the one that run was trained on" in err


def test_a_run_on_digits_sees_a_grey_image_of_another_size(cli, here, digits):
    code, _, err = cli("train", "--recipe", "small_images", "--data", "digits", "--model",
                       "net.py:Net", "--set", "steps=40", "--workdir", "run")  # fmt: skip
    assert code == 0, err
    network = load_network("run")
    stored = digits.test.images[:1]
    grey = Image.fromarray((stored[0, ..., 0] * 255.0 / digits.max_value).round().astype(np.uint8))
    grey.save("same.png")  # of just the size: as it is
    grey.resize((48, 48), Image.Resampling.NEAREST).save("larger.png")
    normal = jnp.asarray(stored / digits.max_value - digits.pixel_mean(), jnp.float32)
    logits = network.module.apply(network.variables, normal, train=False)
    expected = 100 * np.asarray(jax.nn.softmax(logits))[0]
    same, larger = predicted(cli, "run", "same.png", "larger.png")
    for one, within in ((same, 0.1), (larger, 5.0)):
        assert one["classes"][0]["index"] == expected.argmax()
        assert len(one["classes"]) == 5
        for each in one["classes"]:
            assert each["probability"] == pytest.approx(expected[each["index"]], abs=within)


def encoded(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def test_a_central_view_is_as_a_test_image_is_seen():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 61, 3), np.uint8)
    np.testing.assert_array_equal(
        central_view(encoded(pixels), (24, 24, 3)), fixed_view(encoded(pixels), View(24))
    )
    np.testing.assert_array_equal(central_view(encoded(pixels), (40, 61, 3)), pixels)
    grey = central_view(encoded(pixels[..., 0]), (14, 28, 1))
    assert grey.shape == (14, 28, 1)
    # The whole centre, whose mean it keeps.
    middle = pixels[3:37, :, 0]
    assert abs(grey.mean() - middle.mean()) < 8


REFUSALS = [
    (("predict", "none", "a.png"), "none holds neither a run (cnnjax train) nor weights"),
    (("predict", "in"), "Missing argument 'IMAGE...'"),
    (("predict", "in", "a.png"), "a.png cannot be read (No such file or directory)"),
    (("predict", "in", "photographs"), "photographs cannot be read (Is a directory)"),
    (("predict", "in", "net.py"), "net.py: an image of 0 bytes cannot be decoded"),
    (("predict", "in", "photographs/test/red/0.png", "a.png"), "a.png cannot be read"),
    (("eval", "in"), "in holds weights, which no data belong to; give --data"),
    (("eval", "in", "--data", "digits"), "do not take images of 8x8x1"),
    (("eval", "in", "--data", "digit"), "did you mean digits"),
    (("eval", "in", "--data", "folder:photographs", "--set", "epochs=3"), "of the data count"),
    (
        ("eval", "in", "--data", "folder:photographs", "--set", "data.normalization=pixel_mean"),
        "its mean image is not known",
    ),
    (
        ("import-weights", "net.py:Net", "w.npz", "--out", "x", "--input", 16, 16, 3,
         "--normalization", "imagenet", "--key", "ema"),
        "no entry in w.npz 'ema'",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "said"), REFUSALS)
def test_bad_input_is_refused_in_one_line(cli, here, arguments, said):
    imported(cli)
    (here / "net.py").touch()
    if "net.py" in arguments:
        (here / "net.py").write_text("")
    code, out, err = cli(*arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert err.startswith("Error: ")
    assert err.count("\n") == 1


def test_weights_for_other_classes_than_the_datas_are_refused(cli, here):
    model = create_model("net.py:Net", num_classes=5)
    leaves = template(model, (16, 16, 3))
    variables = nested({p: np.ones(a.shape, np.float32) for p, a in leaves.items()})
    np.savez("five.npz", **to_torch(model, variables, (16, 16, 3)))
    cli("import-weights", "net.py:Net", "five.npz", "--out", "five", "--input", 16, 16, 3, "--set",
        "model.num_classes=5")  # fmt: skip
    code, _, err = cli("eval", "five", "--data", "folder:photographs")
    assert code == 2
    assert "float32[1, 3] is needed for 3 classes" in err
    assert err.count("\n") == 1


def test_a_run_on_permuted_pixels_predicts_no_file(cli, tmp_path):
    """What it has learned is of no image as a file has it."""
    run = tmp_path / "run"
    small = ("--set", "model.width=0.1", "--set", "steps=1", "--set", "data.permute_pixels=1")
    code, _, err = cli("train", "--recipe", "small_images", "--model", "lenet_300_100", *small,
                       "--workdir", run)  # fmt: skip
    assert code == 0, err
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "0.png")
    code, _, err = cli("predict", run, tmp_path / "0.png")
    assert code == 2
    assert "was trained on permuted pixels" in err
