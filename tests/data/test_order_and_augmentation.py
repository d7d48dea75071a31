import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnjax import Refused
from cnnjax.data.augment import Augmentation, augment, normalize, pad_crop_flip
from cnnjax.data.dataset import Examples
from cnnjax.data.order import epoch_order, evaluation_batches, steps_per_epoch


def test_an_epoch_shows_each_example_once_and_the_next_in_another_order():
    key = jax.random.key(3)
    first, second = (np.asarray(epoch_order(key, epoch, 50)) for epoch in (0, 1))
    assert sorted(first) == list(range(50))
    assert (first != second).any()
    np.testing.assert_array_equal(first, epoch_order(key, jnp.int32(0), 50))


def test_a_batch_larger_than_the_set_is_refused():
    assert steps_per_epoch(1347, 96) == 14
    with pytest.raises(Refused, match="set batch_size to 10 or less"):
        steps_per_epoch(10, 11)


@given(st.integers(1, 20), st.integers(1, 8))
def test_evaluation_covers_every_example_exactly_once(examples, batch_size):
    images = np.arange(examples, dtype=np.uint8).reshape(-1, 1, 1, 1)
    batches = list(evaluation_batches(Examples(images, np.arange(examples)), batch_size))
    seen = np.concatenate([batch["labels"][batch["mask"] > 0] for batch in batches])
    np.testing.assert_array_equal(seen, np.arange(examples))
    assert all(batch["images"].shape[0] == batch_size for batch in batches)


def test_an_image_is_augmented_by_its_index_not_by_its_place_in_the_batch():
    key = jax.random.key(0)
    images = jax.random.normal(key, (6, 8, 8, 3))
    indices = jnp.arange(10, 16)
    whole = augment(Augmentation("pad_crop_flip"), images, key, 2, indices)
    order = jnp.array([4, 1, 5])
    part = augment(Augmentation("pad_crop_flip"), images[order], key, 2, indices[order])
    np.testing.assert_array_equal(part, whole[order])
    other = augment(Augmentation("pad_crop_flip"), images, key, 3, indices)
    assert (other != whole).any()
    assert augment(Augmentation(), images, key, 2, indices) is images


def test_a_crop_is_a_window_of_the_padded_image_and_all_of_them_occur():
    image = jnp.arange(1.0, 26.0).reshape(5, 5, 1)
    padded = np.pad(np.asarray(image), ((4, 4), (4, 4), (0, 0)))
    windows = {
        padded[top : top + 5, left : left + 5, :][:, :: -1 if flip else 1].tobytes()
        for top in range(9)
        for left in range(9)
        for flip in (False, True)
    }
    keys = jax.random.split(jax.random.key(0), 2000)
    drawn = {np.asarray(x).tobytes() for x in jax.vmap(pad_crop_flip, (None, 0))(image, keys)}
    assert drawn <= windows
    assert len(drawn) > 0.99 * len(windows)


def test_bytes_become_floats_around_zero():
    images = np.array([[[[0]]], [[[16]]]], np.uint8)
    out = normalize(jnp.asarray(images), jnp.full((1, 1, 1), 0.25), jnp.float32(16))
    assert out.ravel().tolist() == [-0.25, 0.75]
