"""What is said of each setting: read from docstrings, and there for every one."""

from typing import Any, Literal

import pytest

from cnnjax import RECIPES, Recipe, Refused, list_models
from cnnjax.core.config import effective, override
from cnnjax.core.listing import list_settings
from cnnjax.core.sentences import allowed_values, field_sentences, type_in_words
from cnnjax.tasks.optimizers import OPTIMIZERS

DOC = """What it is.

    name:
      first: one thing.
      second: another
        that goes on.
    low, high: the ends.
    rate: a share,
      below 1.

    Note: this is text, and rate: too.

    Attributes:
      depth: of the net.
    """


def test_entries_are_read_with_the_lines_that_belong_to_them():
    assert field_sentences(DOC, ["name", "low", "high", "rate", "depth", "width"]) == {
        "name": "first: one thing. second: another that goes on.",
        "low": "the ends.",
        "high": "the ends.",
        "rate": "a share, below 1.",
        "depth": "of the net.",
    }
    assert field_sentences(None, ["name"]) == {}


@pytest.mark.parametrize(
    ("hint", "words", "allowed"),
    [
        (float, "float", None),
        (int | None, "int or null", None),
        (tuple[float, ...], "list of float", None),
        (tuple[int, int], "list of int", None),
        (Literal["a", "b"], "str", ["a", "b"]),
        (Literal["a"] | None, "str or null", ["a", None]),
        (Literal[1, 10], "int", [1, 10]),
        (Any, "any", None),
    ],
)
def test_types_in_words(hint, words, allowed):
    assert (type_in_words(hint), allowed_values(hint)) == (words, allowed)


@pytest.mark.parametrize("path", ["optimizer.name", "model.name"])
def test_every_setting_of_everything_that_ships_has_its_sentence(path):
    names = OPTIMIZERS.names() if path == "optimizer.name" else list_models()
    for name in names:
        found = list_settings(override(Recipe(), path, name))
        assert [one.path for one in found if not one.sentence] == [], name
    described = {one.path: one.sentence for one in list_settings(Recipe())}
    assert all(name in described["optimizer.name"] for name in OPTIMIZERS.names())


@pytest.mark.parametrize("name", RECIPES)
def test_all_settings_are_listed_with_the_values_of_the_recipe(name):
    found = {one.path: one.default for one in list_settings(RECIPES[name])}
    expected = effective(RECIPES[name])
    expected.pop("source")
    assert found == expected


def test_a_prefix_chooses_and_an_unknown_one_is_answered_with_the_nearest():
    paths = [one.path for one in list_settings(Recipe(), "data.test")]
    assert paths == ["data.test_split", "data.test_crops", "data.test_share"]
    assert [one.path for one in list_settings(Recipe(), "epochs")] == ["epochs"]
    with pytest.raises(Refused, match=r"did you mean optimizer"):
        list_settings(Recipe(), "optimiser")
    with pytest.raises(Refused, match="no setting 'source'"):
        list_settings(Recipe(), "source")
