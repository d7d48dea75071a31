"""Pixels that change places: all of them, in the same way in every image, and never back."""

import numpy as np
import pytest

from cnnjax import Data, Refused, load_dataset
from cnnjax.data.dataset import StreamedDataset
from cnnjax.data.permutation import permuted

SEED = Data(permute_pixels=1)


def test_every_image_is_permuted_alike(digits):
    moved = load_dataset(SEED)
    for split in ("train", "test"):
        before, after = (getattr(d, split).arrays["images"] for d in (digits, moved))
        flat, rows = (array.reshape(len(array), -1).astype(int) for array in (before, after))
        order = [int(np.flatnonzero((row == flat.T).all(1))[0]) for row in rows.T]
        np.testing.assert_array_equal(flat[:, order], rows)
        np.testing.assert_array_equal(
            getattr(digits, split).arrays["labels"], getattr(moved, split).arrays["labels"]
        )
    assert sorted(flat.sum(0)) == sorted(rows.sum(0))
    assert (flat != rows).any()


def test_another_seed_is_another_set_and_the_same_seed_the_same(digits):
    prints = [load_dataset(Data(permute_pixels=seed)).fingerprint for seed in (0, 1, 1)]
    assert prints[1] == prints[2]
    assert len({digits.fingerprint, *prints}) == 3


def test_it_is_the_last_that_is_done(digits):
    few = load_dataset(Data(train_examples=100))
    moved = load_dataset(Data(train_examples=100, permute_pixels=1))
    assert permuted(few, 1).fingerprint == moved.fingerprint
    assert len(moved.train) == 100


def test_a_streamed_set_is_refused(monkeypatch):
    streamed = StreamedDataset.__new__(StreamedDataset)
    object.__setattr__(streamed, "name", "photos")
    with pytest.raises(Refused, match="photos is streamed; it is for sets in memory"):
        permuted(streamed, 1)
