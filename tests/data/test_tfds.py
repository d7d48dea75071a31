"""Sets on disk: each way of not being there has its own answer; real ones are read."""

import json

import numpy as np
import pytest

from cnnjax import Data, Refused, load_dataset
from cnnjax.data import tfds as tfds_module
from cnnjax.data.dataset import StreamedDataset
from cnnjax.data.tfds import find_prepared, fit
from cnnjax.testing import check_dataset


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
    monkeypatch.setattr(tfds_module.importlib.util, "find_spec", lambda name: None)
    write_info(tmp_path, "cifar10", **facts)
    with pytest.raises(Refused, match=r"is prepared as tfrecord.*pip install tensorflow"):
        load_dataset("cifar10", tmp_path)


def test_the_newest_version_is_taken(tmp_path):
    write_info(tmp_path, "mnist", "3.0.9")
    newest = write_info(tmp_path, "mnist", "3.0.10")
    assert find_prepared("mnist", tmp_path) == newest


def test_preparing_says_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        Refused, match=r"needs tensorflow .*pip install tensorflow importlib_resources"
    ):
        tfds_module.prepare("mnist", tmp_path)


def test_a_tfrecord_set_is_not_prepared_over(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds_module.importlib.util, "find_spec", lambda name: object())
    write_info(tmp_path, "mnist")
    with pytest.raises(Refused, match=r"already prepared as tfrecord.*give another --data-dir"):
        tfds_module.prepare("mnist", tmp_path)


def test_a_prepared_set_is_not_prepared_again(tmp_path):
    (tmp_path / "mnist" / "incomplete.X_3.0.1").mkdir(parents=True)
    folder = write_info(tmp_path, "mnist", fileFormat="array_record")
    assert tfds_module.prepare("mnist", tmp_path) == folder


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
    monkeypatch.setattr(tfds_module, "_records", lambda *args: pytest.fail("decoded again"))
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
    assert len([line for line in lines if "damaged; decoding again" in line]) == 2


def test_a_split_that_is_not_there_is_refused_with_what_is(real_data):
    with pytest.raises(Refused, match=r"no split 'validation'; it has train \(60,000\)"):
        load_dataset(Data("mnist", test_split="validation"), real_data)


def test_a_set_that_does_not_fit_into_memory_is_streamed_or_refused(real_data):
    assert isinstance(load_dataset(Data("mnist", image_size=512), real_data), StreamedDataset)
    with pytest.raises(Refused, match="do not fit into 4 GiB"):
        load_dataset(Data("mnist", image_size=512, streaming="never"), real_data)
