import jax
import pytest

from cnnjax import Refused, create_model, list_models
from cnnjax.core.architectures import MODELS
from cnnjax.core.random import stream_keys
from cnnjax.core.recipe import Streams


def test_names_are_listed_by_pattern():
    assert list_models("cifar_resnet*")[:2] == ["cifar_resnet20", "cifar_resnet32"]
    assert list_models("nothing*") == []


def test_any_legal_depth_is_a_name():
    assert create_model("cifar_plain14").depth == 14
    assert create_model("cifar_plain14").shortcut == "none"


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("cifar_resnet21", {}, "depth 21 is impossible: it is 6n [+] 2, e.g. 20 or 26"),
        ("cifar_resnet2", {}, "depth 2 is impossible"),
        ("resnet19", {}, "did you mean resnet1"),
        ("inception_v4", {}, "see: cnnjax models"),
        ("resnet50", {"depht": 3}, "did you mean depth"),
        ("resnet50", {"depth": 20}, "not in table 1"),
        ("cifar_resnet20", {"width": 0.01}, "leaves no channel"),
        ("missing.py:Net", {}, "no model file missing.py"),
    ],
)
def test_impossible_models_are_refused_in_one_line(name, overrides, message):
    with pytest.raises(Refused, match=message) as error:
        create_model(name, **overrides)
    assert "\n" not in str(error.value)


def test_a_users_file_is_a_model(tmp_path):
    file = tmp_path / "my_net.py"
    file.write_text(
        "from flax import linen as nn\n"
        "class Net(nn.Module):\n"
        "    width: int = 3\n"
        "    @nn.compact\n"
        "    def __call__(self, images, *, train):\n"
        "        return nn.Dense(self.width)(images.mean((1, 2)))\n"
    )
    assert create_model(f"{file}:Net", width=5).width == 5
    with pytest.raises(Refused, match="did you mean Net"):
        MODELS.find(f"{file}:Nett")
    file.with_name("broken.py").write_text("import nothing_of_this_name\n")
    with pytest.raises(Refused, match="does not import"):
        MODELS.find(f"{tmp_path}/broken.py:Net")


def test_streams_are_told_apart_and_never_collide_by_addition():
    drawn = {
        (seed, name): jax.random.bits(jax.random.fold_in(key, index)).item()
        for seed in range(4)
        for name, key in stream_keys(seed).items()
        for index in [1]
    }
    assert len(set(drawn.values())) == len(drawn)
    shifted = jax.random.bits(jax.random.fold_in(stream_keys(1)["order"], 0)).item()
    assert shifted not in drawn.values()


def test_a_stream_may_have_its_own_seed():
    keys, own = stream_keys(0), stream_keys(0, Streams(order=7))
    assert (own["order"] == stream_keys(7)["order"]).all()
    assert (own["init"] == keys["init"]).all()
