"""models, summary, compare, visualize, import-weights, export-weights, as a user types them."""

import json
import subprocess
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from cnnjax import create_model
from cnnjax.analysis.comparison import compare
from cnnjax.interop.mapping import to_torch
from cnnjax.training.network import load_network

ROOT = Path(__file__).parents[2]
GOLDEN = json.loads((ROOT / "tests" / "golden" / "lineage.json").read_text())

NET = """
from flax import linen as nn

class MyNet(nn.Module):
    features: int = 4
    num_classes: int = 10

    def setup(self):
        self.conv = nn.Conv(self.features, (3, 3), strides=2, padding=1)
        self.head = nn.Dense(self.num_classes)

    def feature_maps(self, images, *, train):
        return {2: nn.relu(self.conv(images))}

    def __call__(self, images, *, train):
        x = self.feature_maps(images, train=train)[2]
        return self.head(x.reshape(x.shape[0], -1))

class Picky(nn.Module):
    @nn.compact
    def __call__(self, images, *, train):
        assert images.shape[1] == 77, "only 77 pixels"
        return nn.Dense(10)(images.reshape(images.shape[0], -1))
"""


@pytest.fixture
def my_net(tmp_path):
    path = tmp_path / "my_net.py"
    path.write_text(NET)
    return path


def test_the_table_of_the_documentation_is_current(command):
    """In a process of its own: here every call is checked for its types, which takes minutes."""
    done = subprocess.run(
        [*command, "models", "--markdown"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (ROOT / "docs/reference/models.md").read_text(), "type: make docs"


def test_models_json_has_the_figures(cli):
    _, out, _ = cli("models", "[ar][le][es]*", "--json")  # alexnet*, resnet*
    rows = {row["name"]: row for row in json.loads(out)["models"]}
    expected = {name: (params, macs) for name, params, macs, _, _ in GOLDEN["rows"]}
    for name, row in rows.items():
        if name in expected:
            assert (row["params"], row["macs"]) == expected[name]
            assert row["flops"] == 2 * row["macs"]
    assert {"alexnet", "resnet50", "resnet152_v1"} <= set(rows)
    assert rows["resnet50_v1"]["published_macs"] == 3.8e9


def test_summary_json(cli):
    code, out, err = cli("summary", "alexnet", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["macs"] == 724_406_816
    assert found["flops"] == 1_448_813_632
    assert found["input"] == [227, 227, 3]
    assert found["receptive_field"] == 195
    rows = [
        [layer["output"][1:], layer["params"], layer["macs"], layer["receptive_field"],
         layer["stride"]]
        for layer in found["layers"]
    ]  # fmt: skip
    assert rows == GOLDEN["alexnet"]


def test_summary_at_another_input_and_batch(cli):
    _, out, _ = cli("summary", "resnet18", "--input", "64", "96", "1", "--batch", "3", "--json")
    found = json.loads(out)
    assert (found["input"], found["batch"]) == ([64, 96, 1], 3)
    assert found["layers"][0]["output"] == [3, 32, 48, 64]
    assert "for 3 images" in found["convention"]


def test_summary_prints_a_table_with_its_convention_and_totals(cli):
    code, out, _ = cli("summary", "lenet5")
    assert code == 0
    assert "MACs of convolution and dense layers for one image; FLOPs = 2 x MACs" in out
    assert "60,000 parameters" in out
    assert "326,520 MACs" in out
    _, aux, _ = cli("summary", "googlenet", "--train", "--set", "model.aux=true")
    assert "13,378,280 parameters" in aux
    assert "1,591,044,096 MACs" in aux


def test_summary_of_a_users_net(cli, my_net):
    _, out, _ = cli("summary", f"{my_net}:MyNet", "--input", "8", "8", "1", "--set",
                    "model.features=6", "--json")  # fmt: skip
    found = json.loads(out)
    assert found["params"] == 9 * 6 + 6 + 4 * 4 * 6 * 10 + 10
    assert [layer["name"] for layer in found["layers"]] == ["conv", "head"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("MyNet", (), "has no default input; give one, e.g. --input 32 32 3"),
        ("YourNet", ("--input", "8", "8", "1"), "did you mean MyNet"),
        ("Picky", ("--input", "8", "8", "1"), "Picky does not take images of 8x8x1"),
    ],
)
def test_a_users_net_that_does_not_fit_is_refused_in_one_line(cli, my_net, name, options, message):
    code, out, err = cli("summary", f"{my_net}:{name}", *options)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_compare_prints_every_cell(cli, monkeypatch):
    monkeypatch.setattr("cnnjax.analysis.comparison.compare", cache(compare))  # counted once
    code, out, _ = cli("compare")
    assert code == 0
    assert "alexnet_ungrouped, trained: 62,378,344" in out
    assert "none; nearest alexnet, FLOPs = 2 x MACs: 1,448,813,632" in out
    _, out, _ = cli("compare", "--json")
    assert len(json.loads(out)["rows"]) == 4


def pictures(folder):
    return {path.name: Image.open(path) for path in folder.glob("*.png")}


def test_visualize_draws_channels_filters_and_maps(cli, tmp_path):
    code, out, _ = cli("visualize", "lenet5", "--data", "digits", "--workdir", tmp_path / "w")
    assert code == 0
    drawn = pictures(tmp_path / "w")
    assert set(drawn) == {"channels.png", "filters.png", "maps.png"}
    assert len(out.splitlines()) == 3
    for picture in drawn.values():  # something is drawn: grey levels besides the white paper
        assert len(np.unique(np.asarray(picture.convert("L")))) > 5
    assert drawn["maps.png"].size[0] > 1000


def test_visualize_uses_the_weights_of_a_run(cli, tmp_path, my_net):
    run, fresh = tmp_path / "run", tmp_path / "fresh"
    net = f"{my_net}:MyNet"
    code, _, _ = cli("train", "--recipe", "small_images", "--model", net, "--data", "digits",
                     "--epochs", "1", "--workdir", run, "--json")  # fmt: skip
    assert code == 0
    _, out, _ = cli("visualize", net, "--workdir", run, "--json")
    assert json.loads(out)["weights"] == "weights of run"
    _, out, _ = cli("visualize", net, "--workdir", fresh, "--json")
    assert json.loads(out)["weights"] == "untrained, seed 0"
    mine, theirs = ((f / "maps.png").read_bytes() for f in (run, fresh))
    assert mine != theirs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lenet5", "--index", "450"), "digits test has 0 to 449"),
        (("lenet6",), "did you mean lenet5"),
        (("resnet18",), "32x32 or more are needed"),
    ],
)
def test_visualize_refuses_in_one_line(cli, tmp_path, arguments, message):
    code, out, err = cli("visualize", *arguments, "--workdir", tmp_path / "w")
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "w").exists()


@pytest.fixture(scope="module")
def state():
    """PyTorch's names and layouts of a network with random weights."""
    model = create_model("cifar_resnet8", num_classes=4)
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), "float32")
    variables = model.lazy_init(jax.random.key(0), images, train=False)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda a: rng.random(a.shape, np.float32) + 0.1, dict(variables))
    return model, variables, to_torch(model, variables)


def write(path, arrays):
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        from safetensors.numpy import save_file

        save_file(arrays, path)


CLASSES = ("--set", "model.num_classes=4")


@pytest.mark.parametrize("kind", ["w.npz", "w.safetensors"])
def test_weights_in_and_out_are_the_same_bits(cli, tmp_path, state, kind):
    _, variables, arrays = state
    write(tmp_path / kind, arrays)
    code, out, err = cli("import-weights", "cifar_resnet8", tmp_path / kind, "--out",
                         tmp_path / "in", *CLASSES, "--json")  # fmt: skip
    assert (code, err) == (0, "")
    assert json.loads(out)["params"] == sum(a.size for a in jax.tree.leaves(variables["params"]))
    network = load_network(tmp_path / "in")
    jax.tree.map(np.testing.assert_array_equal, dict(network.variables), variables)
    code, _, _ = cli("export-weights", tmp_path / "in", tmp_path / f"out{Path(kind).suffix}")
    assert code == 0
    from cnnjax.interop.state_dict import read_state_dict

    back = read_state_dict(tmp_path / f"out{Path(kind).suffix}")
    assert set(back) == set(arrays)
    assert {"conv1.weight", "bn1.running_var", "layer2.0.conv2.weight", "fc.bias"} <= set(back)
    for name, array in back.items():
        np.testing.assert_array_equal(array, arrays[name])


def test_what_does_not_fit_is_listed_and_nothing_is_written(cli, tmp_path, state):
    _, _, arrays = state
    changed = {**arrays, "layer9.weight": np.zeros(3, np.float32)}
    del changed["bn1.running_mean"]
    changed["fc.weight"] = np.zeros((10, 64), np.float32)
    write(tmp_path / "w.npz", changed)
    code, out, err = cli("import-weights", "cifar_resnet8", tmp_path / "w.npz", "--out",
                         tmp_path / "in", *CLASSES)  # fmt: skip
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "- bn1.running_mean [16]",
        "- fc.weight [4, 64]",
        "+ fc.weight [10, 64]",
        "+ layer9.weight [3]",
        "Error: another network's weights: 2 missing (-), 2 left over (+); another number of"
        " classes is --set model.num_classes=N, other images --input H W C",
    ]
    assert not (tmp_path / "in").exists()


def test_weights_of_a_run_do_not_take_other_images_or_settings(cli, tmp_path, my_net):
    net, run = f"{my_net}:MyNet", tmp_path / "run"
    cli("train", "--recipe", "small_images", "--model", net, "--epochs", "1", "--workdir", run)
    code, _, err = cli("visualize", net, "--workdir", run, "--set", "model.features=9")
    assert code == 2
    assert "is as it was trained" in err
    (tmp_path / "train" / "a").mkdir(parents=True)
    (tmp_path / "test" / "a").mkdir(parents=True)
    for split in ("train", "test"):
        Image.new("RGB", (20, 20)).save(tmp_path / split / "a" / "1.png")
    code, _, err = cli("visualize", net, "--workdir", run, "--data", f"folder:{tmp_path}", "--set",
                       "data.image_size=16")  # fmt: skip
    assert code == 2
    assert "these weights do not take images of 16x16x3" in err
    assert err.count("\n") == 1


def test_weights_for_images_that_are_not_square(cli, tmp_path):
    model = create_model("vgg11", num_classes=2)
    images = jax.ShapeDtypeStruct((1, 64, 96, 3), "float32")
    variables = dict(model.lazy_init(jax.random.key(0), images, train=False))
    write(tmp_path / "w.npz", to_torch(model, variables))
    code, _, err = cli("import-weights", "vgg11", tmp_path / "w.npz", "--out", tmp_path / "in",
                       "--input", "64", "96", "3", "--set", "model.num_classes=2")  # fmt: skip
    assert (code, err) == (0, "")
    back = load_network(tmp_path / "in").variables
    jax.tree.map(np.testing.assert_array_equal, dict(back), jax.tree.map(np.asarray, variables))


def test_weights_that_are_not_finite_and_folders_in_use_are_refused(cli, tmp_path, state):
    _, _, arrays = state
    write(tmp_path / "w.npz", arrays)
    spoilt = {**arrays, "fc.bias": np.full(4, np.nan, np.float32)}
    write(tmp_path / "nan.npz", spoilt)

    def read(file, out):
        return cli("import-weights", "cifar_resnet8", tmp_path / file, "--out", out, *CLASSES)

    assert "fc.bias is not finite" in read("nan.npz", tmp_path / "in")[2]
    assert not (tmp_path / "in").exists()
    assert read("w.npz", tmp_path / "in")[0] == 0
    assert "holds weights already; give another --out" in read("w.npz", tmp_path / "in")[2]
    assert "holds other files" in read("w.npz", tmp_path)[2]


@pytest.mark.parametrize("maps", ["{}", "nn.relu(images)"])
def test_feature_maps_that_are_none_are_refused(cli, tmp_path, maps):
    path = tmp_path / "bad.py"
    path.write_text(NET.replace("return {2: nn.relu(self.conv(images))}", f"return {maps}").replace(
        'x = self.feature_maps(images, train=train)[2]', "x = self.conv(images)"
    ))  # fmt: skip
    code, _, err = cli("visualize", f"{path}:MyNet", "--workdir", tmp_path / "w")
    assert code == 2
    assert "MyNet.feature_maps must give a dict" in err
    assert not (tmp_path / "w").exists()


def test_a_pickle_is_never_opened(cli, tmp_path):
    import pickle

    (tmp_path / "w.npz").write_bytes(pickle.dumps({"a": 1}))
    code, _, err = cli("import-weights", "vgg11", tmp_path / "w.npz", "--out", tmp_path / "in")
    assert code == 2
    assert "w.npz is a pickle of Python, which is not opened" in err


def test_pytorchs_own_file_is_read_without_a_pickle(cli, tmp_path, state):
    torch = pytest.importorskip("torch", reason="torch is not installed: an oracle of tests only")
    _, _, arrays = state
    torch.save({name: torch.from_numpy(a) for name, a in arrays.items()}, tmp_path / "w.pth")
    code, _, _ = cli("import-weights", "cifar_resnet8", tmp_path / "w.pth", "--out",
                     tmp_path / "in", *CLASSES)  # fmt: skip
    assert code == 0
    torch.save({"evil": print}, tmp_path / "evil.pth")
    code, _, err = cli("import-weights", "vgg11", tmp_path / "evil.pth", "--out", tmp_path / "e")
    assert code == 2
    assert "evil.pth holds __builtin__.print beside the weights" in err
    assert err.count("\n") == 1


def test_damaged_weights_are_noticed(cli, tmp_path, state):
    _, _, arrays = state
    write(tmp_path / "w.npz", arrays)
    cli("import-weights", "cifar_resnet8", tmp_path / "w.npz", "--out", tmp_path / "in", *CLASSES)
    path = tmp_path / "in" / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    code, _, err = cli("export-weights", tmp_path / "in", tmp_path / "out.npz")
    assert code == 2
    assert "weights.safetensors is damaged; import the weights again" in err
    assert not (tmp_path / "out.npz").exists()
