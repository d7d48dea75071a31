"""Parts that a set does not come with: by class, from labels, order and a seed alone."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnjax import Data, Dataset, Refused, load_dataset
from cnnjax.data import tfds as tfds_module
from cnnjax.data.dataset import StreamedDataset, images_per_class
from cnnjax.data.load import reading, reading_words
from cnnjax.data.split import divide, shares, stratified
from cnnjax.testing import check_dataset
from tests.data.prepared_set import write_prepared
from tests.data.test_decode import pillow
from tests.data.test_folder import values, write

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array)


@given(LABELS, st.data(), st.integers(0, 2**32 - 1))
def test_every_class_keeps_its_share_to_within_one(labels, data, seed):
    count = data.draw(st.integers(0, len(labels)))
    taken = stratified(labels, count, seed, "test_share")
    assert taken.sum() == count
    sizes, found = np.bincount(labels), np.bincount(labels[taken], minlength=labels.max() + 1)
    assert (np.abs(found - count * sizes / len(labels)) < 1).all()
    np.testing.assert_array_equal(taken, stratified(labels, count, seed, "test_share"))


@given(st.lists(st.integers(0, 50), min_size=1, max_size=9).filter(sum), st.data())
def test_largest_remainders(sizes, data):
    """Against the definition, in fractions."""
    count = data.draw(st.integers(0, sum(sizes)))
    found = shares(sizes, count)
    assert sum(found) == count
    quotas = [count * size / sum(sizes) for size in sizes]
    extra = [one - int(quota + 1e-9) for one, quota in zip(found, quotas, strict=True)]
    assert set(extra) <= {0, 1}
    parts = [quota - int(quota + 1e-9) for quota in quotas]
    least = min((p for p, e in zip(parts, extra, strict=True) if e), default=1)
    most = max((p for p, e in zip(parts, extra, strict=True) if not e), default=0)
    assert least >= most - 1e-9


@given(LABELS, st.integers(0, 2**32 - 1))
def test_the_choice_in_a_class_depends_on_place_and_seed_alone(labels, seed):
    count = len(labels) // 2
    taken = stratified(labels, count, seed, "test_share")
    renamed = stratified(labels + 3, count, seed, "test_share")  # classes in the same order
    np.testing.assert_array_equal(taken, renamed)


@given(st.integers(0, 2**32 - 2))
def test_another_seed_and_another_use_take_others(seed):
    labels = np.arange(90) % 3
    taken = stratified(labels, 45, seed, "test_share")
    assert (taken != stratified(labels, 45, seed + 1, "test_share")).any()
    assert (taken != stratified(labels, 45, seed, "validation_share")).any()


def test_which_examples_are_taken_never_changes():
    """They are part of every result."""
    taken = stratified(np.arange(20) % 2, 6, 0, "test_share")
    assert np.flatnonzero(taken).tolist() == [2, 6, 7, 11, 12, 19]


def part(count, classes=3):
    images = np.arange(count, dtype=np.uint8).reshape(-1, 1, 1) + np.zeros((1, 2, 2), np.uint8)
    return {"images": images, "labels": np.arange(count) % classes}


def seen(examples):
    """Which of `part` these are."""
    return examples.images[:, 0, 0, 0].tolist()


def test_a_test_part_is_held_out_and_the_rest_is_trained_on():
    whole = Dataset.from_arrays(part(30))
    dataset = divide(whole, Data(test_share=0.2))
    assert sorted(seen(dataset.train) + seen(dataset.test)) == list(range(30))
    assert images_per_class(dataset.test, 3).tolist() == [2, 2, 2]
    assert seen(dataset.train) == sorted(seen(dataset.train))
    assert len(check_dataset(dataset)) == 6
    assert dataset.source.endswith("(test_share=0.2, split_seed=0)")
    other = divide(whole, Data(test_share=0.2, split_seed=1))
    assert seen(other.test) != seen(dataset.test)
    assert len({one.fingerprint for one in (dataset, other, whole)}) == 3
    renamed = replace(whole, name="renamed")
    assert divide(renamed, Data(test_share=0.2)).fingerprint == dataset.fingerprint


def test_validation_never_sees_the_test_part_and_says_so():
    whole = Dataset.from_arrays(part(30), part(9), name="mine")
    dataset = divide(whole, Data(validation_share=0.1))
    assert dataset.name == "mine (validation)"
    assert sorted(seen(dataset.train) + seen(dataset.test)) == list(range(30))
    assert len(dataset.test) == 3
    one = Dataset.from_arrays(part(30))
    both = divide(one, Data(test_share=0.2, validation_share=0.25))
    tested = divide(one, Data(test_share=0.2))
    assert not set(seen(both.train) + seen(both.test)) & set(seen(tested.test))
    assert (len(both.train), len(both.test)) == (18, 6)


def test_fewer_examples_are_trained_on_and_the_test_part_stays():
    whole = Dataset.from_arrays(part(30), part(9))
    dataset = divide(whole, Data(train_examples=7))
    assert sorted(images_per_class(dataset.train, 3).tolist()) == [2, 2, 3]
    assert seen(dataset.test) == seen(whole.test)
    assert divide(whole, Data(train_examples=30)).fingerprint == whole.fingerprint
    few = divide(whole, Data(validation_share=0.1, train_examples=3))
    full = divide(whole, Data(validation_share=0.1))
    assert seen(few.test) == seen(full.test)
    assert set(seen(few.train)) <= set(seen(full.train))


def test_a_set_without_labels_is_divided_as_one_class():
    images = {"images": part(10)["images"]}
    dataset = divide(Dataset.from_arrays(images), Data(test_share=0.3))
    assert (len(dataset.train), len(dataset.test)) == (7, 3)


def test_the_embedded_set_is_divided_too(digits):
    few = load_dataset(Data(train_examples=300))
    assert len(few.train) == 300
    assert np.ptp(images_per_class(few.train, 10)) <= 2
    validated = load_dataset(Data(validation_share=0.2))
    assert (len(validated.train), len(validated.test)) == (1078, 269)
    with pytest.raises(Refused, match=r"digits has a test part \(450 images\); leave it out, or"):
        load_dataset(Data(test_share=0.2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_examples": 31}, "has 30 training examples of 3 classes to choose from; set 3 to"),
        ({"train_examples": 2}, "has 30 training examples of 3 classes to choose from; set 3 to"),
        ({"validation_share": 0.99}, "class 0 .10 of 30 training examples. would have none to"),
        ({"validation_share": 0.01}, "has 30 examples, of which that is none; set more"),
        ({"test_share": 0.1}, r"mine has a test part \(9 images\)|digits has a test part"),
        ({"split_seed": 1}, "data.split_seed=1 has no effect: nothing is split"),
    ],
)
def test_what_cannot_be_divided_is_refused(settings, message):
    whole = Dataset.from_arrays(part(30), part(9), name="mine")
    with pytest.raises(Refused, match=message) as error:
        divide(whole, Data(**settings))
    assert "\n" not in str(error.value)


def test_a_rare_class_is_never_lost_without_a_word():
    arrays = part(101, classes=1)
    arrays["labels"][50] = 1
    whole = Dataset.from_arrays(arrays, part(9, classes=1), label_names=["often", "once"])
    with pytest.raises(Refused, match=r"class once \(1 of 101 .* none to train on; set more"):
        divide(whole, Data(train_examples=20))


@pytest.mark.parametrize("name", ["test_share", "validation_share"])
@pytest.mark.parametrize("share", [-0.1, 1.0, 2.0, float("nan")])
def test_a_share_is_a_share(name, share):
    with pytest.raises(ValueError, match=f"{name}=.*: a share, 0"):
        Data(**{name: share})


def test_seed_and_number_of_examples_are_checked():
    with pytest.raises(ValueError, match="train_examples=0"):
        Data(train_examples=0)
    with pytest.raises(ValueError, match="split_seed=-1"):
        Data(split_seed=-1)


def test_a_reading_keeps_what_changes_what_is_read():
    default = reading(Data("mine"))
    for changes in (
        {"test_share": 0.1},
        {"validation_share": 0.1},
        {"train_examples": 9},
        {"split_seed": 1},
        {"unreadable": "skip"},
    ):
        changed = Data("mine", mixup=1.0, **changes)
        assert reading(changed) != default
        assert reading_words(changed) != reading_words(default)
        ((name, value),) = changes.items()
        assert f"{name}={value}" in reading_words(changed)
    assert reading(Data("mine", mixup=1.0)) == default
    assert reading_words(default) == "mine (train, test, own size)"


@pytest.fixture
def folder(tmp_path):
    """One part: two classes of six, directly in the folder."""
    for index in range(12):
        write(tmp_path / "flat" / ("cat" if index % 2 else "dog") / f"{index:02}.png", index)
    return tmp_path / "flat"


def of_folder(root, **settings):
    return load_dataset(Data(f"folder:{root}", image_size=8, **settings))


def test_a_folder_of_one_part_is_divided(folder, tmp_path):
    dataset = of_folder(folder, test_share=0.34)
    assert isinstance(dataset, StreamedDataset)
    greys = [grey for grey, _ in values(dataset.train) + values(dataset.test)]
    assert sorted(greys) == list(range(12))
    assert [label for _, label in values(dataset.test)] == [0, 0, 1, 1]
    assert images_per_class(dataset.train, 2).tolist() == [4, 4]
    assert all(label == grey % 2 ^ 1 for grey, label in values(dataset.train))
    assert dataset.source == "images in flat/ (test_share=0.34, split_seed=0)"
    assert len(check_dataset(dataset)) == 6
    assert dataset.train.where(0).endswith(".png")
    sent = pickle.loads(pickle.dumps(dataset))  # as to a worker of a study
    assert values(sent.train) == values(dataset.train)
    other = of_folder(folder, test_share=0.34, split_seed=1)
    assert other.fingerprint != dataset.fingerprint
    tested = values(dataset.test)
    folder.rename(tmp_path / "moved")
    moved = of_folder(tmp_path / "moved", test_share=0.34)
    assert moved.fingerprint == dataset.fingerprint
    (tmp_path / "split").mkdir()
    (tmp_path / "moved").rename(tmp_path / "split" / "train")
    assert values(of_folder(tmp_path / "split", test_share=0.34).test) == tested


def test_a_folder_of_one_part_without_a_share_is_refused(folder):
    with pytest.raises(Refused, match=r"there is no folder .*flat/train;.*data.test_share=0\.2"):
        of_folder(folder)
    for index in range(2):
        write(folder / "train" / "cat" / f"{index}.png", index)
    with pytest.raises(Refused, match=r"there is no folder .*flat/test;.*data.test_share=0\.2"):
        of_folder(folder)
    write(folder / "val" / "cat" / "0.png", 0)
    with pytest.raises(Refused, match=r"has a test part \(1 image\)"):
        of_folder(folder, test_share=0.2)
    (folder / "val").rename(folder / "train" / "dog")
    with pytest.raises(Refused, match=r"class dog \(1 of 3 training examples\) would have none"):
        of_folder(folder, test_share=0.5)
    assert of_folder(folder, test_share=0.34).label_names == ("cat", "dog")


GREYS = [np.full((9, 9), 20 * index, np.uint8) for index in range(12)]
SPLIT = [(pillow(image, "PNG"), index % 2) for index, image in enumerate(GREYS)]
STREAMED = {"streaming": "always", "image_size": 9}


@pytest.mark.parametrize("settings", [{}, STREAMED])
def test_a_prepared_set_of_one_part_is_divided(tmp_path, settings, monkeypatch):
    write_prepared(tmp_path, "made", {"train": SPLIT})

    def load(**more):
        return load_dataset(Data("made", **settings, **more), tmp_path)

    with pytest.raises(Refused, match=r"has no split 'test'.*or hold out .* data.test_share=0.2"):
        load()
    dataset = load(test_share=0.34)
    assert images_per_class(dataset.test, 2).tolist() == [2, 2]
    assert images_per_class(dataset.train, 2).tolist() == [4, 4]
    assert len(check_dataset(dataset)) == 6
    assert load(test_share=0.34, split_seed=3).fingerprint != dataset.fingerprint
    with pytest.raises(Refused, match=r"data.test_split=train\[:3\]: .*leave one of them out"):
        load(test_share=0.34, test_split="train[:3]")
    if settings:
        monkeypatch.setattr(tfds_module, "_LABELS_READ", (0, 0))
        with pytest.raises(Refused, match=r"every one of its 12 images would be read; take slices"):
            load(test_share=0.34)


@pytest.mark.parametrize("settings", [{}, STREAMED])
def test_a_prepared_set_of_two_parts(tmp_path, settings):
    write_prepared(tmp_path, "made", {"train": SPLIT, "test": SPLIT[:3]})
    whole = load_dataset(Data("made", **settings), tmp_path)
    with pytest.raises(Refused, match=r"made has a test part \(the split test\); leave it out"):
        load_dataset(Data("made", test_share=0.2, **settings), tmp_path)
    few = load_dataset(Data("made", train_examples=4, **settings), tmp_path)
    assert images_per_class(few.train, 2).tolist() == [2, 2]
    assert len(few.test) == 3
    held = load_dataset(Data("made", validation_share=0.5, **settings), tmp_path)
    assert (len(held.train), len(held.test)) == (6, 6)
    assert len({one.fingerprint for one in (whole, few, held)}) == 3
