"""A folder of imported weights, a file of it lost or damaged; formats and names at the edge."""

import json

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from cnnjax import create_model
from cnnjax.interop.mapping import to_torch
from cnnjax.interop.state_dict import read_state_dict
from cnnjax.interop.variables import template
from cnnjax.training.network import load_network

NET = """
from flax import linen as nn


class Net(nn.Module):
    num_classes: int = 3
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.Conv(2, (3, 3), name="features.0", param_dtype=self.param_dtype)(images)
        return nn.Dense(self.num_classes)(nn.relu(x).reshape(x.shape[0], -1))
"""


@pytest.fixture
def net(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    return f"{tmp_path / 'net.py'}:Net"


def variables_of(model, shape, seed=0):
    rng = np.random.default_rng(seed)
    variables = {}
    for path, leaf in template(model, shape).items():
        node = variables
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype)
    return variables


@pytest.fixture
def state(net, tmp_path):
    """The variables of `net` and their state dict, in w.npz."""
    model = create_model(net)
    variables = variables_of(model, (4, 3, 1))
    np.savez(tmp_path / "w.npz", **to_torch(model, variables, (4, 3, 1)))
    return variables


def flipped(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def same(a, b):
    import jax

    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("name", ["weights.json", "weights.safetensors"])
@pytest.mark.parametrize("harm", [lambda path: path.unlink(), flipped], ids=["lost", "damaged"])
def test_a_lost_or_damaged_file_says_what_to_type_and_that_mends(
    cli, net, state, tmp_path, name, harm
):
    out = tmp_path / "in"
    again = ("import-weights", net, tmp_path / "w.npz", "--out", out, "--input", 4, 3, 1)
    assert cli(*again)[0] == 0
    harm(out / name)
    code, _, err = cli("export-weights", out, tmp_path / "out.npz")
    assert code == 2
    assert name in err
    assert f"import the weights again: cnnjax import-weights NAME FILE --out {out}" in err
    code, _, err = cli(*again)
    assert code == 0
    assert "done" in err
    same(load_network(out).variables, state)
    code, _, err = cli(*again)
    assert code == 2
    assert "holds weights already; give another --out" in err


def test_both_lost_is_an_empty_folder(cli, net, state, tmp_path):
    (tmp_path / "in").mkdir()
    code, _, err = cli("export-weights", tmp_path / "in", tmp_path / "out.npz")
    assert code == 2
    assert "holds neither a run (cnnjax train) nor weights (cnnjax import-weights)" in err


def test_a_run_is_not_overwritten_by_weights(cli, net, state, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    code, _, err = cli("import-weights", net, tmp_path / "w.npz", "--out", tmp_path / "run",
                       "--input", 4, 3, 1)  # fmt: skip
    assert code == 2
    assert "holds other files (run.json)" in err


def test_weights_of_an_edited_file_are_not_given_to_another_network(cli, net, state, tmp_path):
    out = tmp_path / "in"
    again = ("import-weights", net, tmp_path / "w.npz", "--out", out, "--input", 4, 3, 1)
    cli(*again)
    (tmp_path / "net.py").write_text(NET.replace("nn.relu(x)", "nn.tanh(-x)"))
    code, _, err = cli("export-weights", out, tmp_path / "out.npz")
    assert code == 2
    assert "has changed since its weights were imported; import the weights again" in err
    assert cli(*again)[0] == 0
    assert cli("export-weights", out, tmp_path / "out.npz")[0] == 0


def test_dotted_names_and_bfloat16_come_back_as_they_were(cli, net, tmp_path):
    model = create_model(net, param_dtype="bfloat16")
    variables = variables_of(model, (4, 3, 1))
    arrays = to_torch(model, variables, (4, 3, 1))
    assert set(arrays) == {"features.0.weight", "features.0.bias", "Dense_0.weight", "Dense_0.bias"}
    np.savez(tmp_path / "w.npz", **arrays)
    code, _, _ = cli("import-weights", net, tmp_path / "w.npz", "--out", tmp_path / "in",
                     "--input", 4, 3, 1, "--set", "model.param_dtype=bfloat16")  # fmt: skip
    assert code == 0
    back = load_network(tmp_path / "in").variables
    assert back["params"]["features.0"]["kernel"].dtype == jnp.bfloat16
    same(back, variables)


def test_pytorchs_bfloat16_is_read_from_safetensors(tmp_path):
    values = np.asarray([1.5, -2.25], ml_dtypes.bfloat16)
    header = json.dumps({"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    header += b" " * (-len(header) % 8)
    data = len(header).to_bytes(8, "little") + header + values.tobytes()
    (tmp_path / "w.safetensors").write_bytes(data)
    np.testing.assert_array_equal(read_state_dict(tmp_path / "w.safetensors")["a"], [1.5, -2.25])


@pytest.mark.parametrize("array", [np.asarray(["x"]), np.ones(2, np.complex64)])
def test_what_is_no_real_number_is_refused(cli, net, tmp_path, array):
    np.savez(tmp_path / "w.npz", a=array)
    code, _, err = cli("import-weights", net, tmp_path / "w.npz", "--out", tmp_path / "in",
                       "--input", 4, 3, 1)  # fmt: skip
    assert code == 2
    assert "w.npz: a is " in err
    assert "weights are real numbers" in err


def test_a_file_that_cannot_be_written_is_refused_before_the_weights_are_read(cli, tmp_path):
    code, _, err = cli("export-weights", tmp_path / "none", tmp_path / "out.h5")
    assert code == 2
    assert "weights are written as .safetensors or .npz" in err
