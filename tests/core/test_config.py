import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnjax import Recipe, Refused
from cnnjax.core.config import differences, digest, override, override_text, plain


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
        ("batch_size=12.5", "batch_size=12.5: Expected `int`, got `float`"),
        ("epochs=-3", "must be 1 or more"),
        ("optimizer=3", "is a group of settings"),
        ("schedule.warmup=1.5", "fraction of the run"),
        ("optimizer.momentum=1", "below 1"),
        ("data.augmentation=mixup", "it is one of default, none, pad_crop_flip"),
        ("batch_size", "write it as key=value"),
        ("optimizer.learning_rate=NaN", "Expected `float`, got `str`"),
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
    assert differences(plain(Recipe()), plain(changed)) == ["optimizer.learning_rate: 0.1 -> 0.2"]
