"""Weights as PyTorch's programs leave them: every form gives the network's logits, or one line."""

import argparse
import gzip
import json
import pickle
import sys
import tarfile

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; it is an oracle of tests only")

from cnnjax import create_model  # noqa: E402
from cnnjax.core.errors import Refused  # noqa: E402
from cnnjax.interop.mapping import Mismatch, OtherClasses, to_torch  # noqa: E402
from cnnjax.interop.variables import flat, nested, template  # noqa: E402
from cnnjax.interop.weights import load_weights, read_variables  # noqa: E402
from cnnjax.models.googlenet import INCEPTION  # noqa: E402
from cnnjax.models.vgg import NETS  # noqa: E402
from tests.interop import torch_nets as nets  # noqa: E402
from tests.interop.test_parity import randomised  # noqa: E402

torch.set_num_threads(1)
SHAPE = (32, 32, 3)
MODEL = create_model("cifar_resnet8")
APPLY = jax.jit(lambda v, x: MODEL.apply(v, x, train=False))
IMAGES = np.random.default_rng(1).normal(size=(2, *SHAPE)).astype(np.float32)


def small(classes=10, seed=0):
    net = nets.ResNet((1, 1, 1), (16, 32, 64), "A", False, False, 3, classes)
    return randomised(net, seed)


def logits_of(net, images=IMAGES):
    with torch.no_grad():
        return net(torch.from_numpy(images.transpose(0, 3, 1, 2)).contiguous()).numpy()


def same(found, expected):
    assert np.abs(np.asarray(found) - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.fixture(scope="module")
def net():
    return small()


@pytest.fixture(scope="module")
def logits(net):
    return logits_of(net)


def named(state, prefix):
    return {f"{prefix}{name}": value for name, value in state.items()}


def wrapped(net):
    """Forms: what is saved, and the line that says what was done."""
    state = net.state_dict()
    other = small(seed=1).state_dict()  # an average, of other values
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    parallel = torch.nn.DataParallel(net).state_dict()
    beside = {"epoch": 3, "optimizer": optimizer.state_dict(), "best_acc1": torch.tensor(7.0)}
    averaged = {"n_averaged": torch.tensor(5), **named(other, "module.")}
    return {
        "plain": (state, None),
        "parameters": ({**dict(net.named_parameters()), **dict(net.named_buffers())}, None),
        "half": ({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, None),
        "parallel": (parallel, "stripped module. from names"),
        "compiled": (named(state, "_orig_mod."), "stripped _orig_mod. from names"),
        "both": (named(state, "module._orig_mod."), "stripped module., _orig_mod. from names"),
        "turned": (named(state, "_orig_mod.module."), "stripped module., _orig_mod. from names"),
        "inside": (
            {n.replace("layer2.", "layer2.module."): v for n, v in state.items()},
            "stripped module. from names",
        ),
        "state_dict": (
            {"arch": "resnet", "state_dict": parallel, **beside},
            "read state_dict; stripped module. from names; left out arch, epoch, optimizer,"
            " best_acc1",
        ),
        "model": (
            {"model_ema": averaged, "model": state, **beside},
            "read model; there is also --key model_ema; left out epoch, optimizer, best_acc1",
        ),
        "timm": (
            {"state_dict_ema": other, "state_dict": state, "version": 2},
            "read state_dict; there is also --key state_dict_ema; left out version",
        ),
        "net": ({"net": state, "acc": 93.1}, "read net; left out acc"),
        "model_state_dict": ({"model_state_dict": state}, "read model_state_dict"),
        "ema alone": ({"ema": state, "step": 1}, "read ema; left out step"),
        "deep": ({"checkpoint": {"model": state, "epoch": 1}}, "read checkpoint.model; left out"
                 " checkpoint.epoch"),
        "lightning": (
            {
                "state_dict": {**named(state, "model."), "criterion.weight": torch.ones(3)},
                "hyper_parameters": {"lr": 0.1},
                "optimizer_states": [optimizer.state_dict()],
            },
            "read state_dict; stripped model. from names; left out hyper_parameters,"
            " optimizer_states, state_dict.criterion.weight",
        ),
        "lightning net": (
            {"state_dict": {**named(other, "net_ema."), **named(state, "net.")}},
            "read state_dict; there is also --key state_dict.net_ema; stripped net. from names",
        ),
        "words": ({**state, "num_classes": 10}, "left out num_classes"),
    }  # fmt: skip


FORMS = list(wrapped(small()))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_every_form_has_the_networks_logits(net, logits, tmp_path, form, zipped):
    saved, said = wrapped(net)[form]
    torch.save(saved, tmp_path / "w", _use_new_zipfile_serialization=zipped)
    variables, notes = read_variables(tmp_path / "w", MODEL, SHAPE)
    assert notes == (() if said is None else (said,))
    if form == "half":
        assert np.abs(APPLY(variables, IMAGES) - logits).max() < 1e-2 * np.abs(logits).max()
    else:
        same(APPLY(variables, IMAGES), logits)


@pytest.mark.parametrize(
    "name",
    ["w.pth.tar", "w.tar", "w.bin", "w.ckpt", "w.pt", "w.pth", "w", "w.npz", "w.safetensors"],
)
def test_the_content_says_what_a_file_is(net, logits, tmp_path, name):
    torch.save({"state_dict": net.state_dict()}, tmp_path / name)
    same(APPLY(read_variables(tmp_path / name, MODEL, SHAPE)[0], IMAGES), logits)


def test_prefixes_in_other_formats_than_pytorchs(net, logits, tmp_path):
    from safetensors.numpy import save_file

    arrays = {f"module.{name}": v.numpy() for name, v in net.state_dict().items()}
    save_file(arrays, tmp_path / "a.bin")
    np.savez(tmp_path / "b.npz", **arrays)
    for name in ("a.bin", "b.npz"):
        variables, notes = read_variables(tmp_path / name, MODEL, SHAPE)
        assert notes == ("stripped module. from names",)
        same(APPLY(variables, IMAGES), logits)


@pytest.mark.parametrize(
    ("form", "key"),
    [("model", "model_ema"), ("timm", "state_dict_ema"), ("lightning net", "state_dict.net_ema")],
)
def test_another_entry_is_chosen_by_its_key(net, tmp_path, form, key):
    torch.save(wrapped(net)[form][0], tmp_path / "w")
    variables, notes = read_variables(tmp_path / "w", MODEL, SHAPE, key=key)
    same(APPLY(variables, IMAGES), logits_of(small(seed=1)))
    assert notes[0].startswith(f"read {key.removesuffix('.net_ema')}; there is also --key ")
    with pytest.raises(Refused, match=f"no entry in .*; did you mean {key}"):
        read_variables(tmp_path / "w", MODEL, SHAPE, key=f"{key}s")


def test_a_layer_of_ones_own_that_is_called_module_keeps_its_name(tmp_path):
    from flax import linen as nn

    class Own(nn.Module):
        @nn.compact
        def __call__(self, images, *, train):
            return nn.Dense(3, name="module")(images.mean((1, 2)))

    weight = np.arange(6, dtype=np.float32).reshape(3, 2)
    for prefix in ("", "module."):
        arrays = {f"{prefix}module.weight": weight, f"{prefix}module.bias": np.ones(3, np.float32)}
        np.savez(tmp_path / "w.npz", **arrays)
        variables, _ = read_variables(tmp_path / "w.npz", Own(), (4, 4, 2))
        np.testing.assert_array_equal(variables["params"]["module"]["kernel"], weight.T)


def test_timms_vgg_has_the_logits(tmp_path):
    theirs = randomised(nets.TimmVGG(NETS["A"], False, 2, 7))
    torch.save(theirs.state_dict(), tmp_path / "w")
    model = create_model("vgg11", num_classes=7)
    variables, notes = read_variables(tmp_path / "w", model, (64, 64, 3))
    assert notes == ("read timm's names",)
    images = np.random.default_rng(1).normal(size=(1, 64, 64, 3)).astype(np.float32)
    apply = jax.jit(lambda v, x: model.apply(v, x, train=False))
    same(apply(variables, images), logits_of(theirs, images))


def test_the_auxiliary_heads_of_googlenet_are_left_out_or_needed(tmp_path):
    theirs = nets.GoogLeNet(INCEPTION, 3, True, 2, True, 5)
    torch.save(theirs.state_dict(), tmp_path / "with")
    plain = create_model("googlenet_torchvision", num_classes=5)
    variables, notes = read_variables(tmp_path / "with", plain, (64, 64, 3))
    assert notes == ("left out aux1.*, aux2.*",)
    back = to_torch(plain, variables)
    without = {n: v for n, v in theirs.state_dict().items() if not n.startswith("aux")}
    assert set(back) == {name for name in without if not name.endswith("num_batches_tracked")}
    for name, array in back.items():
        np.testing.assert_array_equal(array, without[name].numpy())
    torch.save(without, tmp_path / "without")
    aux = create_model("googlenet_torchvision_aux", num_classes=5)
    with pytest.raises(Mismatch) as refused:
        read_variables(tmp_path / "without", aux, (64, 64, 3))
    assert len(refused.value.lines) == 18
    assert "- aux1.fc2.weight [5, 1024]" in refused.value.lines


def fresh(model, shape):
    """As initialised: 7 everywhere, which no random weight is."""
    return nested({p: np.full(a.shape, 7, a.dtype) for p, a in template(model, shape).items()})


def check_new_head(variables, initial, read, head):
    found, begun, kept = flat(variables), flat(initial), flat(read)
    assert set(found) == set(begun)
    assert {path[1] for path in found if path[1] in head} == head
    for path, leaf in found.items():
        source = begun if path[1] in head else kept
        np.testing.assert_array_equal(leaf, source[path])


def test_a_new_head_is_as_initialised_and_the_rest_is_read(net, tmp_path):
    model = create_model("cifar_resnet8", num_classes=4)
    torch.save({"state_dict": net.state_dict()}, tmp_path / "w")
    read, _ = read_variables(tmp_path / "w", MODEL, SHAPE)
    initial = fresh(model, SHAPE)
    with pytest.raises(OtherClasses) as refused:
        read_variables(tmp_path / "w", model, SHAPE)
    assert str(refused.value) == (
        f"{tmp_path / 'w'} has 10 classes, the network 4; type --set model.num_classes=10"
    )
    variables, notes = read_variables(tmp_path / "w", model, SHAPE, head="new", fresh=initial)
    check_new_head(variables, initial, read, {"head"})
    assert notes == ("read state_dict; new, as initialised: fc.bias, fc.weight",)
    # The same number of classes, or a file without a classifier, make no difference.
    initial = fresh(MODEL, SHAPE)
    variables, _ = read_variables(tmp_path / "w", MODEL, SHAPE, head="new", fresh=initial)
    check_new_head(variables, initial, read, {"head"})
    body = {name: v for name, v in net.state_dict().items() if not name.startswith("fc.")}
    torch.save(body, tmp_path / "body")
    variables, _ = read_variables(tmp_path / "body", MODEL, SHAPE, head="new", fresh=initial)
    check_new_head(variables, initial, read, {"head"})


def test_a_new_head_does_not_hide_that_something_else_differs(net, tmp_path):
    state = dict(net.state_dict())
    state["conv1.weight"] = torch.ones(16, 3, 5, 5)
    torch.save(state, tmp_path / "w")
    model = create_model("cifar_resnet8", num_classes=4)
    with pytest.raises(Mismatch) as refused:
        read_variables(tmp_path / "w", model, SHAPE, head="new", fresh=fresh(model, SHAPE))
    assert refused.value.lines == ["- conv1.weight [16, 3, 3, 3]", "+ conv1.weight [16, 3, 5, 5]"]
    with pytest.raises(Mismatch) as refused:
        read_variables(tmp_path / "w", model, SHAPE)
    assert "+ fc.bias [10]" in refused.value.lines


def test_the_auxiliary_classifiers_are_new_too(tmp_path):
    theirs = nets.GoogLeNet(INCEPTION, 3, True, 2, True, 5)
    torch.save(theirs.state_dict(), tmp_path / "w")
    shape, five = (64, 64, 3), create_model("googlenet_torchvision_aux", num_classes=5)
    model = create_model("googlenet_torchvision_aux", num_classes=3)
    read, _ = read_variables(tmp_path / "w", five, shape)
    initial = fresh(model, shape)
    variables, notes = read_variables(tmp_path / "w", model, shape, head="new", fresh=initial)
    check_new_head(variables, initial, read, {"head", "aux1_head", "aux2_head"})
    assert "aux1.fc2.weight" in notes[0]


def test_a_folder_of_weights_gives_what_was_imported(cli, net, logits, tmp_path):
    torch.save({"model": net.state_dict(), "model_ema": small(seed=1).state_dict()}, tmp_path / "w")
    arguments = ("import-weights", "cifar_resnet8", tmp_path / "w", "--out")
    code, out, err = cli(*arguments, tmp_path / "in", "--json")
    assert code == 0
    said = "read model; there is also --key model_ema"
    assert err == f"{said}\n"
    about = json.loads(out)
    assert about["notes"] == [said]
    assert about["normalization"] == "imagenet"
    variables, notes = read_variables(tmp_path / "in", MODEL, SHAPE)
    same(APPLY(variables, IMAGES), logits)
    assert notes == ()
    same(APPLY(load_weights(tmp_path / "in").variables, IMAGES), logits)
    code, _, _ = cli(*arguments, tmp_path / "ema", "--key", "model_ema")
    assert code == 0
    variables, _ = read_variables(tmp_path / "ema", MODEL, SHAPE)
    same(APPLY(variables, IMAGES), logits_of(small(seed=1)))
    four = create_model("cifar_resnet8", num_classes=4)
    with pytest.raises(OtherClasses, match="in has 10 classes, the network 4"):
        read_variables(tmp_path / "in", four, SHAPE)
    initial = fresh(four, SHAPE)
    found, notes = read_variables(tmp_path / "in", four, SHAPE, head="new", fresh=initial)
    check_new_head(found, initial, read_variables(tmp_path / "in", MODEL, SHAPE)[0], {"head"})


def test_a_network_without_the_field_has_no_known_classifier(tmp_path):
    from flax import linen as nn

    class Own(nn.Module):
        @nn.compact
        def __call__(self, images, *, train):
            return nn.Dense(3)(images.mean((1, 2)))

    np.savez(tmp_path / "w.npz", **{"Dense_0.weight": np.ones((3, 2), np.float32)})
    with pytest.raises(Refused, match="Own has no field num_classes, by which its classifier"):
        read_variables(tmp_path / "w.npz", Own(), (4, 4, 2), head="new", fresh={})


def test_without_torch_its_files_say_what_to_type(net, tmp_path, monkeypatch):
    torch.save(net.state_dict(), tmp_path / "w")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(Refused, match="needs torch; type: pip install torch, or save"):
        read_variables(tmp_path / "w", MODEL, SHAPE)


def write_damaged(path, net):
    torch.save(net.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-200])


def write_archive(path, kind):
    inner = path.with_name("inner")
    inner.write_text("x")
    if kind == "tar":
        with tarfile.open(path, "w") as archive:
            archive.add(inner)
    else:
        path.write_bytes(gzip.compress(b"x"))


class Scripted(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = torch.nn.Linear(2, 2)

    def forward(self, x):
        return self.a(x)


REFUSALS = {
    "namespace": (
        lambda p, net: torch.save(
            {"model": net.state_dict(), "args": argparse.Namespace(model="resnet50")}, p
        ),
        "w holds argparse.Namespace beside the weights, which only a pickle opens (none is opened"
        " here); in Python, if you trust its source: torch.save(torch.load('w',"
        " weights_only=False)['model'], 'weights.pth')",
    ),
    "legacy namespace": (
        lambda p, net: torch.save(
            {"state_dict": net.state_dict(), "args": argparse.Namespace(a=1)},
            p,
            _use_new_zipfile_serialization=False,
        ),
        "w holds argparse.Namespace beside the weights, which only a pickle opens (none is opened"
        " here); in Python, if you trust its source: torch.save(torch.load('w',"
        " weights_only=False)['state_dict'], 'weights.pth')",
    ),
    "numpy scalar": (
        lambda p, net: torch.save({"net": net.state_dict(), "acc": np.float64(93.1)}, p),
        "w holds numpy._core.multiarray.scalar, numpy.dtype, _codecs.encode beside the weights",
    ),
    "whole network": (
        lambda p, net: torch.save(net, p),
        "w is a whole network, which only a pickle opens (none is opened here); in Python, if you"
        " trust its source: torch.save(torch.load('w', weights_only=False).state_dict(),"
        " 'weights.pth')",
    ),
    "script": (
        lambda p, net: torch.jit.save(torch.jit.trace(Scripted(), torch.ones(1, 2)), p),
        "w is a TorchScript program; in Python: torch.save(torch.jit.load('w').state_dict(),"
        " 'weights.pth')",
    ),
    "pickle": (lambda p, net: p.write_bytes(pickle.dumps({"a": 1})), "w is a pickle of Python"),
    "cut": (write_damaged, "w cannot be read: its end is cut off, or it is damaged"),
    "empty": (lambda p, net: p.write_bytes(b""), "w is empty; weights are read from safetensors"),
    "tar": (lambda p, net: write_archive(p, "tar"), "w is a tar archive; unpack it"),
    "gzip": (lambda p, net: write_archive(p, "gzip"), "w is compressed by gzip; unpack it"),
    "page": (lambda p, net: p.write_text("<html>404</html>"), "w is a web page or XML"),
    "list": (lambda p, net: torch.save([1, 2], p), "w holds a list, no state dict"),
    "no weights": (lambda p, net: torch.save({"epoch": 1}, p), "w holds no weights: epoch"),
    "sparse": (
        lambda p, net: torch.save({**net.state_dict(), "x": torch.eye(3).to_sparse()}, p),
        "w: x is a torch.sparse_coo tensor on cpu; make it dense",
    ),
    "complex": (
        lambda p, net: torch.save({**net.state_dict(), "x": torch.ones(1) * 1j}, p),
        "w: x is complex64; weights are real numbers",
    ),
    "twice": (
        lambda p, net: torch.save({**net.state_dict(), **named(net.state_dict(), "module.")}, p),
        "w: conv1.weight and module.conv1.weight are one name without module",
    ),
    "not finite": (
        lambda p, net: torch.save({**net.state_dict(), "fc.bias": torch.full((10,), torch.nan)}, p),
        "w: fc.bias is not finite (1 such arrays)",
    ),
    "classes": (
        lambda p, net: torch.save(small(7).state_dict(), p),
        "w has 7 classes, the network 10; type --set model.num_classes=7",
    ),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", list(REFUSALS))
def test_what_is_refused_says_why_in_one_line(cli, net, tmp_path, name):
    write, said = REFUSALS[name]
    write(tmp_path / "w", net)
    code, out, err = cli(
        "import-weights", "cifar_resnet8", tmp_path / "w", "--out", tmp_path / "in"
    )
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert said in err
    assert not (tmp_path / "in").exists()
