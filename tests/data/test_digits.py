import os
import subprocess
import sys

import numpy as np
import pytest

from cnnjax import Data, Refused, load_dataset
from cnnjax.data.dataset import Dataset, Examples
from cnnjax.testing import check_dataset

# The split is part of every result: it must never change.
FINGERPRINT = "85d62199d2"


def test_the_split_is_fixed_stratified_and_whole(digits):
    assert (len(digits.train), len(digits.test)) == (1347, 450)
    assert digits.fingerprint.startswith(FINGERPRINT)
    share = np.bincount(digits.test.labels) / np.bincount(
        np.concatenate([digits.train.labels, digits.test.labels])
    )
    assert np.ptp(share) < 0.01
    assert len(check_dataset(digits)) == 6


LOADED = """
import sys
from cnnjax import load_dataset
print(load_dataset("digits").fingerprint, "sklearn" in sys.modules)
"""


def test_scikit_learn_is_imported_once_and_not_by_every_process(digits, tmp_path):
    def loaded():
        given = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", LOADED], env=given, capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    assert loaded() == [digits.fingerprint, "True"]
    assert loaded() == [digits.fingerprint, "False"]
    (kept,) = (tmp_path / "cnnjax" / "data").iterdir()
    kept.write_bytes(kept.read_bytes()[:-1])
    assert loaded() == [digits.fingerprint, "True"]  # damaged: made again
    assert loaded() == [digits.fingerprint, "False"]


def test_the_mean_image_is_that_of_the_training_set(digits):
    expected = digits.train.images.astype(np.float64).mean(0) / 16
    np.testing.assert_allclose(digits.pixel_mean(), expected, atol=1e-7)


def test_an_embedded_set_takes_no_slices():
    with pytest.raises(Refused, match="is embedded as it is"):
        load_dataset(Data("digits", train_split="train[:10%]"))


@pytest.mark.parametrize("label", [-1, 2])
def test_labels_out_of_range_are_refused(label):
    good = Examples.of(images=np.zeros((3, 8, 8, 1), np.uint8), labels=np.array([0, 1, 0]))
    bad = Examples.of(images=good.images, labels=np.array([0, label, 1]))
    with pytest.raises(Refused, match=f"1 labels of the test split .*first: {label}"):
        Dataset("mine", ("a", "b"), 255, "none", "a test", train=good, test=bad)
