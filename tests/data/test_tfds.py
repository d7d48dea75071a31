"""Sets on disk: each way of not being there has its own answer; real ones are read."""

import json
from dataclasses import replace

import numpy as np
import pytest

from cnnjax import Data, Refused, load_dataset
from cnnjax.core.random import stream_keys
from cnnjax.data import prepared as prepared_module
from cnnjax.data import tfds as tfds_module
from cnnjax.data.dataset import StreamedDataset, images_per_class
from cnnjax.data.decode import fit
from cnnjax.data.prepared import find_prepared
from cnnjax.data.stream import evaluation_stream, training_stream
from cnnjax.testing import check_dataset
from tests.data.prepared_set import write_prepared
from tests.data.test_decode import halved, opencv, pillow

rng = np.random.default_rng(0)
GREY = rng.integers(0, 256, (6, 9, 9), np.uint8)
DEEP = rng.integers(0, 65536, (6, 9, 9, 3), np.uint16)
EXAMPLES = [(pillow(image, "PNG"), index % 2) for index, image in enumerate(GREY)]
SPLITS = {"train": EXAMPLES, "test": EXAMPLES[:3]}
STREAMED = {"streaming": "always", "image_size": 8, "test_crops": 10}  # 9 pixels: as they are


def load(root, name="made", **settings):
    return load_dataset(Data(name, **settings), root)


def shard(folder, which="train"):
    return next(folder.glob(f"*-{which}.array_record-*"))


def write_info(root, name, version="1.0.0", **facts):
    folder = root / name / version
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text(json.dumps({"name": name, **facts}))
    return folder


def test_a_set_that_is_not_prepared(tmp_path):
    write_info(tmp_path, "mnist", fileFormat="array_record")
    with pytest.raises(Refused, match=r"cifar10 is not prepared: looked in .*mnist are there"):
        load_dataset("cifar10", tmp_path)
    with pytest.raises(Refused, match=r"there is no such folder.*cnnjax data prepare cifar10"):
        load_dataset("cifar10", tmp_path / "nowhere")


def test_a_set_that_does_not_exist(tmp_path):
    with pytest.raises(Refused, match="did you mean cifar10"):
        load_dataset("cifar1O", tmp_path)


@pytest.mark.parametrize("name", ["../etc", "a/b/c", ""])
def test_a_name_is_never_a_path(name, tmp_path):
    with pytest.raises(Refused, match="no data set"):
        load_dataset(name, tmp_path)


@pytest.mark.parametrize("facts", [{"fileFormat": "tfrecord"}, {}])
def test_a_tfrecord_set_without_tensorflow(tmp_path, facts, monkeypatch):
    monkeypatch.setattr(prepared_module.importlib.util, "find_spec", lambda name: None)
    write_info(tmp_path, "cifar10", **facts)
    with pytest.raises(Refused, match=r"is prepared as tfrecord.*pip install tensorflow"):
        load_dataset("cifar10", tmp_path)


def test_the_newest_version_is_taken(tmp_path):
    write_info(tmp_path, "mnist", "3.0.9")
    newest = write_info(tmp_path, "mnist", "3.0.10")
    assert find_prepared("mnist", tmp_path) == newest


def test_preparing_says_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.setattr(prepared_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        Refused, match=r"needs tensorflow .*pip install tensorflow importlib_resources"
    ):
        prepared_module.prepare("mnist", tmp_path)


def test_a_tfrecord_set_is_not_prepared_over(tmp_path, monkeypatch):
    monkeypatch.setattr(prepared_module.importlib.util, "find_spec", lambda name: object())
    write_info(tmp_path, "mnist")
    with pytest.raises(Refused, match=r"already prepared as tfrecord.*give another --data-dir"):
        prepared_module.prepare("mnist", tmp_path)


def test_a_prepared_set_is_not_prepared_again(tmp_path):
    (tmp_path / "mnist" / "incomplete.X_3.0.1").mkdir(parents=True)
    folder = write_info(tmp_path, "mnist", fileFormat="array_record")
    assert prepared_module.prepare("mnist", tmp_path) == folder


def test_images_are_resized_by_the_shorter_side_and_cropped():
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, 10:30] = 200  # the centre
    out = fit(image, (10, 10, 3))
    assert out.shape == (10, 10, 3)
    assert (out[:, 2:8] == 200).all()
    assert fit(image, image.shape) is image


def test_real_mnist_is_read_and_cached(real_data, monkeypatch):
    data = Data("mnist", train_split="train[:200]", test_split="test[:60]")
    lines = []
    dataset = load_dataset(data, real_data, lines.append)
    assert (dataset.image_shape, dataset.num_classes) == ((28, 28, 1), 10)
    assert (len(dataset.train), len(dataset.test)) == (200, 60)
    assert len(check_dataset(dataset)) == 6
    assert sum("decoding" in line for line in lines) == 2
    monkeypatch.setattr(tfds_module, "all_records", lambda *args: pytest.fail("decoded again"))
    again = load_dataset(data, real_data, lines.append)
    assert again.fingerprint == dataset.fingerprint
    assert len(lines) == 2


def test_a_damaged_cache_is_decoded_again(real_data):
    data = Data("cifar10", train_split="train[:20]", test_split="test[:20]")
    first = load_dataset(data, real_data)
    assert first.augmentation == "pad_crop_flip"
    for path in tfds_module.user_cache("data").glob("cifar10-*.arrays"):
        damaged = bytearray(path.read_bytes())
        damaged[-5] ^= 1
        path.write_bytes(damaged)
    lines = []
    again = load_dataset(data, real_data, lines.append)
    assert again.fingerprint == first.fingerprint
    assert len([line for line in lines if "damaged; decoding" in line]) == 2


def test_a_split_that_is_not_there_is_refused_with_what_is(real_data):
    with pytest.raises(Refused, match=r"no split 'validation'; it has train \(60,000\)"):
        load_dataset(Data("mnist", test_split="validation"), real_data)


def test_a_set_that_does_not_fit_into_memory_is_streamed_or_refused(real_data):
    assert isinstance(load_dataset(Data("mnist", image_size=512), real_data), StreamedDataset)
    with pytest.raises(Refused, match="do not fit into 4 GiB"):
        load_dataset(Data("mnist", image_size=512, streaming="never"), real_data)


def seen(dataset):
    """Test images in order, and training images by index, as a streamed set shows them."""
    tested = next(evaluation_stream(dataset.test, dataset.view, 3))["images"]
    batch = next(training_stream(dataset, "none", stream_keys(0), 6, 0, 1))
    return tested, batch["images"][np.argsort(batch["indices"])]


def test_16_bits_are_halved_in_memory_and_streamed(tmp_path):
    grey = [(pillow(image, "PNG"), 0) for image in DEEP[..., 0]]
    colour = [(opencv(".png", image), 0) for image in DEEP]
    for name, examples, channels in (("grey", grey, 1), ("colour", colour, 3)):
        splits = {"train": examples, "test": examples[:3]}
        write_prepared(tmp_path, name, splits, shape=(9, 9, channels), dtype="uint16")
        held = load(tmp_path, name)
        assert held.max_value == 255
        np.testing.assert_array_equal(held.train.images, halved(DEEP[..., :channels]))
        streamed = load(tmp_path, name, **STREAMED)
        tested, _ = seen(streamed)
        expected = halved(DEEP[..., :channels]) + np.zeros((1, 1, 1, 3), np.uint8)
        np.testing.assert_array_equal(tested, expected[:3])
        _, trained = seen(load(tmp_path, name, **{**STREAMED, "test_crops": 1}))
        np.testing.assert_array_equal(trained, seen(replace_pixels(streamed, expected))[1])


def replace_pixels(dataset, images):
    """A streamed set of these images, encoded in 8 bits."""
    encoded = [pillow(image, "PNG") for image in images]
    examples = replace(dataset.train, read=lambda index: (encoded[index], 0))
    return replace(dataset, train=examples)


def test_a_deep_image_in_a_set_of_8_bits_does_not_wrap(tmp_path):
    splits = {"train": [(pillow(DEEP[0, ..., 0], "PNG"), 0)], "test": EXAMPLES}
    write_prepared(tmp_path, "made", splits)
    np.testing.assert_array_equal(load(tmp_path).train.images, halved(DEEP[:1, ..., :1]))


def test_channels_are_kept_in_memory_and_colour_when_streamed(tmp_path):
    write_prepared(tmp_path, "made", SPLITS)
    held = load(tmp_path)
    np.testing.assert_array_equal(held.train.images[..., 0], GREY)
    assert len(check_dataset(held)) == 6
    tested, _ = seen(load(tmp_path, **STREAMED))
    np.testing.assert_array_equal(tested, np.repeat(GREY[:3, ..., None], 3, -1))
    assert load(tmp_path, image_size=5).image_shape == (5, 5, 1)


@pytest.mark.parametrize("settings", [{}, STREAMED])
@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({"dtype": "float32"}, "its images are float32"),
        ({"dtype": "int32"}, "holds no set that can be read; copy or prepare it anew .*int32"),
        ({"shape": (None, 9, 9, 3)}, "uint8 of 4 dimensions"),
        ({"label_names": (), "num_classes": 0}, "its feature label has no classes"),
    ],
)
def test_what_cannot_be_classified_is_refused(tmp_path, described, message, settings):
    write_prepared(tmp_path, "made", SPLITS, **described)
    with pytest.raises(Refused, match=message) as error:
        load(tmp_path, **settings)
    assert "\n" not in str(error.value)


def test_an_image_of_another_size_than_the_sets_is_refused(tmp_path):
    write_prepared(tmp_path, "made", SPLITS, shape=(10, 9, 1))
    with pytest.raises(Refused, match="example 0: it is 9x9x1 and not 10x9x1"):
        load(tmp_path)


def remove(path):
    path.unlink()


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def flip_the_end(path):
    data = bytearray(path.read_bytes())
    data[65_600:65_700] = bytes(100)
    path.write_bytes(data)


@pytest.mark.parametrize("settings", [{}, STREAMED])
@pytest.mark.parametrize("damage", [remove, cut, empty, flip_the_end])
def test_a_missing_or_damaged_file_is_refused_with_its_name(tmp_path, damage, settings):
    folder = write_prepared(tmp_path, "made", SPLITS, shards=2)
    damage(shard(folder))
    file = "made-train.array_record-00000-of-00002"
    with pytest.raises(Refused, match=rf"1 of 2 files of train are missing or damaged \({file}"):
        load(tmp_path, **settings)


@pytest.mark.parametrize("settings", [{}, STREAMED])
def test_a_file_of_another_set_is_refused(tmp_path, settings):
    folder = write_prepared(tmp_path, "made", SPLITS)
    shard(folder).write_bytes(shard(folder, "test").read_bytes())
    with pytest.raises(Refused, match="holds 3, not 6 examples"):
        load(tmp_path, **settings)


@pytest.mark.parametrize("settings", [{}, STREAMED])
def test_a_damaged_example_is_refused(tmp_path, settings):
    splits = {"train": [(b"no image", 0), *EXAMPLES], "test": EXAMPLES}
    write_prepared(tmp_path, "made", splits)
    with pytest.raises(Refused, match=r"\[train\], example 0: .*cannot be decoded"):
        load(tmp_path, **settings)


@pytest.mark.parametrize("label", [-1, 2, 2**32])
@pytest.mark.parametrize("settings", [{}, STREAMED])
def test_labels_out_of_range_are_refused(tmp_path, settings, label):
    splits = {"train": EXAMPLES, "test": [(image, label) for image, _ in EXAMPLES]}
    write_prepared(tmp_path, "made", splits)
    with pytest.raises(Refused, match=rf"{label}.*out of range|out of range .first: {label}"):
        load(tmp_path, **settings)


def test_nothing_is_skipped_of_what_is_decoded_before(tmp_path):
    write_prepared(tmp_path, "made", SPLITS)
    with pytest.raises(Refused, match=r"data\.unreadable=skip has no effect: made is read into"):
        load(tmp_path, unreadable="skip")


@pytest.mark.parametrize("settings", [{}, STREAMED])
@pytest.mark.parametrize("split", ["train[:0]", "train[5:5]", "train[:1%]", "nothing"])
def test_a_split_without_examples_is_refused(tmp_path, split, settings):
    write_prepared(tmp_path, "made", {**SPLITS, "nothing": []})
    for key in ("train_split", "test_split"):
        with pytest.raises(Refused, match=rf"data\.{key}=.* holds no example; it has train \(6\)"):
            load(tmp_path, **{key: split}, **settings)


@pytest.mark.parametrize("file", ["features.json", "dataset_info.json"])
@pytest.mark.parametrize("content", [None, "{", "{}", "[]", '{"fileFormat": "array_record"}'])
def test_a_damaged_description_is_refused_in_one_line(tmp_path, file, content):
    folder = write_prepared(tmp_path, "made", SPLITS)
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_text(content)
    with pytest.raises(Refused) as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


def test_a_left_over_of_a_preparation_is_never_taken(tmp_path):
    for version in ("incomplete.ABC_9.0.0", "9", "9.9", "backup.9.9.9", "9.9.9-old"):
        write_prepared(tmp_path, "made", SPLITS, version=version)
    with pytest.raises(Refused, match=r"not prepared|no data set"):
        load(tmp_path)
    for version in ("1.9.0", "1.10.0"):
        write_prepared(tmp_path, "made", SPLITS, version=version)
    assert load(tmp_path).source == "tensorflow-datasets made/1.10.0"


def test_a_name_with_two_configurations_is_refused_with_both(tmp_path):
    write_prepared(tmp_path, "made/large", SPLITS)
    assert load(tmp_path).source == "tensorflow-datasets made/large/1.0.0"
    write_prepared(tmp_path, "made/small", SPLITS, version="2.0.0")
    with pytest.raises(Refused, match="2 configurations: give one of made/large, made/small"):
        load(tmp_path)
    assert load(tmp_path, "made/large").source == "tensorflow-datasets made/large/1.0.0"
    with pytest.raises(Refused, match=r"did you mean made/large"):
        load(tmp_path, "made/larg")


def test_an_unknown_name_is_answered_in_a_line_that_can_be_read(tmp_path):
    write_prepared(tmp_path, "made", SPLITS)
    with pytest.raises(Refused, match=r"no data set 'MNIST'; did you mean mnist"):
        find_prepared("MNIST", tmp_path)
    with pytest.raises(Refused, match=r"there is digits, made, .*catalog.*folder:DIR") as error:
        find_prepared("qqqqqqqq", tmp_path)
    assert len(str(error.value)) < 300


def test_images_per_class_are_read_where_that_is_cheap(tmp_path, monkeypatch):
    write_prepared(tmp_path, "made", SPLITS)
    for settings in ({}, STREAMED):
        dataset = load(tmp_path, **settings)
        assert images_per_class(dataset.train, 2).tolist() == [3, 3]
        assert images_per_class(dataset.test, 2).tolist() == [2, 1]
    for few in ((10, 10**6), (10**9, 5)):
        monkeypatch.setattr(tfds_module, "_LABELS_READ", few)
        assert images_per_class(load(tmp_path, **STREAMED).train, 2) is None


@pytest.mark.parametrize("settings", [{}, STREAMED])
def test_a_fingerprint_knows_class_names_and_content(tmp_path, settings):
    def fingerprint(place, **changes):
        write_prepared(tmp_path / place, "made", SPLITS, **changes)
        return load(tmp_path / place, **settings).fingerprint

    first = fingerprint("1")
    assert fingerprint("2") == first
    (tmp_path / "2" / "made" / "1.0.0" / ".DS_Store").write_bytes(b"")
    assert load(tmp_path / "2", **settings).fingerprint == first
    assert fingerprint("3", label_names=("a", "c")) != first
    other = load(tmp_path / "2", train_split="train[:3]", **settings)
    assert other.fingerprint != first


def test_old_pixels_in_the_cache_are_not_taken(tmp_path, monkeypatch):
    write_prepared(tmp_path, "made", SPLITS)
    keys = set()
    for decoder in (1, 2):
        monkeypatch.setattr(tfds_module, "_DECODER", decoder)
        labelled = tfds_module._labelled(prepared_module.open_prepared("made", tmp_path))
        keys.add(tfds_module._key(labelled, "train", (9, 9, 1)))
    assert len(keys) == 2
