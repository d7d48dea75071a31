import pytest

from cnnjax.core.errors import unknown

MANY = [f"set_{number}_{'x' * 20}" for number in range(400)]


@pytest.mark.parametrize("name", ["MNIST", "Mnist", "mnits", "MNITS"])
def test_the_nearest_name_is_found_whatever_its_capitals(name):
    assert str(unknown("data set", name, [*MANY, "mnist"])).endswith("did you mean mnist?")
    assert "did you mean MyNet" in str(unknown("class", "mynet", ["MyNet", "Other"]))


def test_of_a_name_in_other_capitals_no_others_are_offered():
    assert str(unknown("data set", "MNIST", ["kmnist", "mnist"])).endswith("mean mnist?")


def test_names_that_differ_by_capitals_only_are_both_near():
    assert "did you mean Net or net?" in str(unknown("class", "NET", ["Net", "net"]))


def test_no_message_lists_hundreds_of_names():
    text = str(unknown("data set", "?", ["digits", *MANY]))
    assert "there is digits, set_0_" in text
    assert text.endswith("and 393 more")
    assert len(text) < 300
    assert str(unknown("letter", "?", "cab")).endswith("there is a, b, c")
    assert str(unknown("letter", "?", [])).endswith("there is none")
    assert str(unknown("data set", "?", MANY, "see: a list")).endswith("; see: a list")
