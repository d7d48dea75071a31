import json

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnjax import Model, Optimizer, Recipe, Refused
from cnnjax.core.config import (
    assignment,
    canonical,
    compact,
    effective,
    full,
    override,
    override_all,
)
from cnnjax.core.random import stream_keys
from cnnjax.core.values import differences, digest, plain

pytestmark = pytest.mark.core  # also on every other Python: make test-core


def override_text(recipe, text):
    """What a user types after --set."""
    given = assignment(text)
    return override(recipe, given.path, given.value)


def test_a_path_reaches_a_nested_field_and_leaves_the_rest():
    recipe = override_text(Recipe(), "optimizer.learning_rate=0.05")
    assert recipe.optimizer.learning_rate == 0.05
    assert recipe.replace(optimizer=Recipe().optimizer) == Recipe()


def test_a_models_fields_are_checked_by_its_class():
    recipe = override_text(Recipe(), "model.width=0.5")
    assert recipe.model.fields == {"width": 0.5}
    with pytest.raises(Refused, match=r"did you mean model\.width"):
        override_text(Recipe(), "model.widht=0.5")
    with pytest.raises(Refused, match=r"model.shortcut=D: it is one of none, A, B, C"):
        override_text(Recipe(), "model.shortcut=D")


def test_another_model_starts_from_its_own_fields():
    recipe = override(override(Recipe(), "model.width", 0.5), "model.name", "resnet18")
    assert recipe.model.fields == {}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("optimizer.learning_rat=1", "did you mean optimizer.learning_rate"),
        ("learning_rate=1", "did you mean optimizer.learning_rate"),
        ("batch_size=12.5", "batch_size=12.5: give a whole number, not a number"),
        ("epochs=-3", "must be 1 or more"),
        ("optimizer=3", "is a group of settings"),
        ("schedule.warmup=1.5", "fraction of the run"),
        ("optimizer.momentum=1", "below 1"),
        ("data.augmentation=mixup", "it is one of default, none, pad_crop_flip"),
        ("batch_size", "write it as key=value"),
        ("optimizer.learning_rate=NaN", "give a number, not text"),
        ("optimizer.learning_rate=1e999", "must be 0 or more"),
    ],
)
def test_bad_settings_are_refused_in_one_line(assignment, message):
    with pytest.raises(Refused, match=message.replace("[", r"\[")) as error:
        override_text(Recipe(), assignment)
    assert "\n" not in str(error.value)


trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(trees)
def test_the_digest_is_of_the_content_not_of_the_order(tree):
    copy = json.loads(json.dumps(tree))
    if isinstance(copy, dict):
        copy = dict(reversed(copy.items()))
    assert digest(copy) == digest(tree)


@given(trees, trees)
def test_trees_without_differences_are_equal(first, second):
    first, second = {"root": first}, {"root": second}
    assert (differences(first, second) == []) == (first == second)


def test_differences_name_the_path():
    changed = override(Recipe(), "optimizer.learning_rate", 0.2)
    assert differences(plain(Recipe()), plain(changed)) == ["optimizer.learning_rate: null -> 0.2"]


@pytest.mark.parametrize("value", [0, 0.0, -0.0])
def test_a_number_has_one_identity_in_whatever_form_it_was_written(value):
    recipe = Recipe(optimizer=Optimizer(weight_decay=value))
    expected = digest(canonical(override(Recipe(), "optimizer.weight_decay", 0)))
    assert digest(canonical(recipe)) == expected
    stored = json.loads(json.dumps(compact(canonical(recipe))))
    assert digest(full(stored, "recipe")) == expected


def test_what_is_a_default_is_no_part_of_the_identity():
    assert compact(Recipe()) == {}
    given = {"model.depth": 20, "optimizer.momentum": 0.9, "data.mixup": 0.0, "epochs": 10}
    recipe = Recipe()
    for path, value in given.items():
        recipe = override(recipe, path, value)
    assert compact(canonical(recipe)) == {}
    changed = canonical(override(recipe, "optimizer.momentum", 0.5))
    assert compact(changed) == {"optimizer": {"name": "sgd", "fields": {"momentum": 0.5}}}
    assert full(compact(changed), "recipe") == changed


def test_a_setting_by_default_can_be_read():
    assert Recipe().optimizer.momentum == 0.9
    assert Recipe().model.depth == 20
    assert Recipe(optimizer=Optimizer("adamw")).optimizer.learning_rate == 1e-3
    with pytest.raises(AttributeError, match="no setting 'b3'"):
        _ = Optimizer("adam").b3


def test_another_optimiser_starts_from_its_own_settings():
    recipe = override(override(Recipe(), "optimizer.momentum", 0.5), "optimizer.name", "adamw")
    assert recipe.optimizer == Optimizer("adamw")
    with pytest.raises(Refused, match=r"no setting 'optimizer\.momentum'"):
        override(recipe, "optimizer.momentum", 0.5)


def test_canonical_converts_the_fields_of_a_model_too():
    whole, real = (
        canonical(Recipe(model=Model("cifar_resnet8", {"width": width}))) for width in (1, 1.0)
    )
    assert digest(whole) == digest(real)
    with pytest.raises(Refused, match=r"model.depth=8.0"):
        canonical(Recipe(model=Model("cifar_resnet8", {"depth": 8.0})))
    with pytest.raises(
        Refused, match="no setting of model cifar_resnet8: 'widht'; did you mean width"
    ):
        canonical(Recipe(model=Model("cifar_resnet8", {"widht": 1.0})))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["epochs=3", "epochs=4"], "both set epochs"),
        (['schedule={"name": "cosine"}', "schedule.warmup=0.1"], "both set schedule"),
        (["epochs=3", "steps=7"], "--set epochs=3 has no effect: steps=7 ends the run"),
        (
            ["schedule.name=cosine", "schedule.boundaries=[0.5]"],
            "has no effect: schedule.name=cosine has none",
        ),
    ],
)
def test_what_is_given_twice_or_has_no_effect_is_refused(texts, message):
    for order in (texts, texts[::-1]):
        with pytest.raises(Refused) as refusal:
            override_all(Recipe(), [assignment(text) for text in order])
        assert message in str(refusal.value)


def test_the_order_of_settings_does_not_matter():
    both = [assignment("model.width=0.25"), assignment("model.name=cifar_plain8")]
    for order in (both, both[::-1]):
        model = override_all(Recipe(), order).model
        assert (model.name, dict(model.fields)) == ("cifar_plain8", {"width": 0.25})


@pytest.mark.parametrize("seed", [-1, 2**32, 2**64, 10**20])
def test_a_seed_without_a_stream_of_its_own_is_refused_wherever_it_is_read(seed):
    with pytest.raises(Refused, match="0 to 4294967295"):
        stream_keys(seed)
    with pytest.raises(Refused, match=r"streams.order=.*a seed is 0 to 4294967295"):
        override(Recipe(), "streams.order", seed)


def test_the_largest_seed_is_not_the_smallest():
    first, last = (jax.random.key_data(stream_keys(seed)["init"]) for seed in (0, 2**32 - 1))
    assert not np.array_equal(first, last)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1e39, -1.0])
def test_a_rate_that_float32_does_not_hold_is_refused(value):
    with pytest.raises(Refused, match="must be 0 or more, and finite"):
        override(Recipe(), "optimizer.learning_rate", value)


def test_what_is_no_plain_value_is_no_setting_to_write(tmp_path):
    """A network's field may have a function as its default; a study's file cannot hold one."""
    (tmp_path / "net.py").write_text(
        "from collections.abc import Callable\nfrom flax import linen as nn\n"
        "class Net(nn.Module):\n    act: Callable = nn.relu\n    width: int = 3\n"
        "    num_classes: int = 10\n"
    )
    settings = effective(Recipe(model=Model(f"{tmp_path}/net.py:Net")))
    assert settings["model.width"] == 3
    assert "model.act" not in settings
    json.dumps(settings)


@pytest.mark.parametrize("written", [{"batch_sise": 3}, {"compute": {"accumulat": 4}}])
def test_a_setting_of_another_version_is_not_dropped(written):
    with pytest.raises(Refused, match="no setting"):
        full(written, "run.json")
