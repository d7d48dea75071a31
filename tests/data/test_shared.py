"""A set written once for many processes is the same set, mapped and not copied."""

from dataclasses import replace

import numpy as np
import pytest

from cnnjax import Dataset
from cnnjax.core.errors import Failed
from cnnjax.data.shared import read_shared, write_shared
from cnnjax.testing import check_dataset


def test_what_is_written_is_read(digits, tmp_path):
    write_shared(digits, tmp_path)
    read = read_shared(tmp_path)
    assert "fingerprint" in vars(read)  # it is not taken anew
    assert read.fingerprint == digits.fingerprint
    assert replace(read, source="").fingerprint == digits.fingerprint  # this one was
    for name in ("name", "label_names", "max_value", "augmentation", "source", "left_out"):
        assert getattr(read, name) == getattr(digits, name)
    for split in ("train", "test"):
        for name, array in getattr(digits, split).arrays.items():
            other = getattr(read, split).arrays[name]
            assert isinstance(other.base, np.memmap) or isinstance(other, np.memmap)
            np.testing.assert_array_equal(other, array)
    assert len(check_dataset(read)) == 6


def test_further_fields_are_shared_and_labels_need_not_be(tmp_path):
    images = np.arange(40, dtype=np.uint8).reshape(10, 2, 2)
    part = {"images": images, "boxes": np.zeros((10, 3, 4))}
    dataset = Dataset.from_arrays(part, part)
    write_shared(dataset, tmp_path)
    read = read_shared(tmp_path)
    assert (read.fields, read.fingerprint) == (dataset.fields, dataset.fingerprint)


def remove(folder):
    (folder / "test-labels.npy").unlink()


def cut(folder):
    path = folder / "train-images.npy"
    path.write_bytes(path.read_bytes()[:500])


def flip(folder):
    path = folder / "dataset.json"
    path.write_text(path.read_text().replace("digits", "digitz"))


def no_end(folder):
    (folder / "dataset.json").unlink()


@pytest.mark.parametrize("damage", [remove, cut, flip, no_end])
def test_a_damaged_folder_is_noticed(digits, tmp_path, damage):
    write_shared(digits, tmp_path)
    damage(tmp_path)
    with pytest.raises(Failed, match="holds no data set that can be read") as error:
        read_shared(tmp_path)
    assert "\n" not in str(error.value)
