import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnjax import Data, Refused
from cnnjax.data.augment import (
    Augmentation,
    augment,
    mix,
    normalize,
    pad_crop_flip,
    ten_crops,
)
from cnnjax.data.dataset import Examples
from cnnjax.data.normalization import normalization_arrays
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
    boxes = np.arange(2 * examples, dtype=np.float32).reshape(-1, 2)
    split = Examples.of(images=images, labels=np.arange(examples), boxes=boxes)
    batches = list(evaluation_batches(split, batch_size))
    real = [batch["mask"] > 0 for batch in batches]
    seen = {
        name: np.concatenate([batch[name][here] for batch, here in zip(batches, real, strict=True)])
        for name in batches[0]
    }
    for name in ("labels", "indices"):
        np.testing.assert_array_equal(seen[name], np.arange(examples))
        assert seen[name].dtype == np.int32
    np.testing.assert_array_equal(seen["images"], images)
    np.testing.assert_array_equal(seen["boxes"], boxes)
    for batch, here in zip(batches, real, strict=True):
        assert {len(array) for array in batch.values()} == {batch_size}
        assert not batch["indices"][~here].any()


def augmented(how, images, key, epoch, indices, colours=None):
    batch = {"images": images, "indices": indices}
    return augment(how, batch, key, epoch, colours)["images"]


def test_an_image_is_augmented_by_its_index_not_by_its_place_in_the_batch():
    key = jax.random.key(0)
    images = jax.random.normal(key, (6, 8, 8, 3))
    indices = jnp.arange(10, 16)
    whole = augmented(Augmentation("pad_crop_flip"), images, key, 2, indices)
    order = jnp.array([4, 1, 5])
    part = augmented(Augmentation("pad_crop_flip"), images[order], key, 2, indices[order])
    np.testing.assert_array_equal(part, whole[order])
    other = augmented(Augmentation("pad_crop_flip"), images, key, 3, indices)
    assert (other != whole).any()
    assert augmented(Augmentation(), images, key, 2, indices) is images


@pytest.mark.parametrize(
    ("how", "kinds"),
    [
        (Augmentation("flip"), {(0, 0, False), (0, 0, True)}),
        (Augmentation("pad_crop", padding=1),
         {(y, x, False) for y in (-1, 0, 1) for x in (-1, 0, 1)}),
        (Augmentation("pad_crop_flip", padding=1),
         {(y, x, flip) for y in (-1, 0, 1) for x in (-1, 0, 1) for flip in (False, True)}),
        (Augmentation("pad_crop", padding=0), {(0, 0, False)}),
    ],
)  # fmt: skip
def test_each_part_of_an_augmentation_does_its_own_and_all_of_it(how, kinds):
    """By (rows, columns, flipped) of what is seen."""
    image = np.arange(1.0, 17.0, dtype=np.float32).reshape(4, 4, 1)
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    known = {}
    for y in (-1, 0, 1):
        for x in (-1, 0, 1):
            seen = padded[1 + y : 5 + y, 1 + x : 5 + x]
            known[seen.tobytes()] = (y, x, False)
            known[seen[:, ::-1].tobytes()] = (y, x, True)
    images = jnp.asarray(np.repeat(image[None], 300, axis=0))
    found = augmented(how, images, jax.random.key(0), 0, jnp.arange(300))
    assert {known[np.asarray(one).tobytes()] for one in found} == kinds


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


def batch_of(n=6):
    images = jax.random.normal(jax.random.key(0), (n, 8, 8, 3))
    return {
        "images": images, "labels": jnp.arange(n), "mask": jnp.ones(n), "indices": jnp.arange(n),
    }  # fmt: skip


def neighbours(n):
    """2k and 2k + 1; the last of an odd number is alone."""
    return [i ^ 1 if i ^ 1 < n else i for i in range(n)]


@pytest.mark.parametrize("size", [6, 5])
def test_mixup_is_linear_in_images_and_labels(size):
    batch = batch_of(size)
    mixed = mix(Augmentation(mixup=0.4), batch, jax.random.key(1), 0)
    share, other = mixed["other_share"], np.asarray(neighbours(size))
    assert share.shape == (size,)
    assert ((share >= 0) & (share <= 1)).all()
    assert len(set(share.tolist())) == size  # each its own
    wide = share[:, None, None, None]
    expected = (1 - wide) * batch["images"] + wide * batch["images"][other]
    np.testing.assert_allclose(mixed["images"], expected, atol=1e-6)
    assert mixed["other_labels"].tolist() == other.tolist()
    assert mixed["labels"].tolist() == list(range(size))


def test_an_image_is_mixed_alike_in_whatever_part_of_the_batch_its_pair_is():
    how, batch, key = Augmentation(mixup=0.4, cutmix=1.0), batch_of(), jax.random.key(1)
    whole = mix(how, batch, key, 3)
    part = mix(how, {name: value[2:4] for name, value in batch.items()}, key, 3)
    for name in ("images", "other_share"):
        np.testing.assert_allclose(part[name], whole[name][2:4], atol=1e-6)
    assert not np.allclose(mix(how, batch, key, 4)["images"], whole["images"])


def test_cutmix_pastes_a_box_and_its_share_is_its_area():
    batch = batch_of(32)
    mixed = mix(Augmentation(cutmix=1.0), batch, jax.random.key(1), 0)
    other = (mixed["images"] == batch["images"][np.asarray(neighbours(32))]).all(-1)
    own = (mixed["images"] == batch["images"]).all(-1)
    assert (own | other).all()
    np.testing.assert_allclose(other.mean((1, 2)), mixed["other_share"], atol=1e-6)
    for pasted in np.asarray(other):
        rows, columns = np.flatnonzero(pasted.any(1)), np.flatnonzero(pasted.any(0))
        assert len(rows) * len(columns) == int(pasted.sum())  # a box


def test_with_both_each_occurs():
    how, batch = Augmentation(mixup=1.0, cutmix=1.0), batch_of(32)
    mixed = mix(how, batch, jax.random.key(0), 0)["images"]
    pasted = (mixed == batch["images"]).any((1, 2, 3))
    assert 0 < int(pasted.sum()) < 32
    assert mix(Augmentation(), batch, jax.random.key(0), 0) == batch


def test_pca_colour_adds_one_colour_along_the_components():
    images = jnp.zeros((400, 2, 2, 3))
    spreads = jnp.diag(jnp.asarray([3.0, 2.0, 0.0]))
    out = augmented(
        Augmentation(pca_colour=0.1), images, jax.random.key(0), 0, jnp.arange(400), spreads
    )
    assert (out == out[:, :1, :1]).all()  # the same for the whole image
    np.testing.assert_allclose(out[:, 0, 0].std(0), [0.3, 0.2, 0.0], atol=0.03)


def test_ten_crops_are_corners_centre_and_flips():
    images = jnp.arange(2 * 5 * 5 * 1, dtype=jnp.float32).reshape(2, 5, 5, 1)
    crops = ten_crops(images, 3)
    assert crops.shape == (2, 10, 3, 3, 1)
    np.testing.assert_array_equal(crops[:, 0], images[:, :3, :3])
    np.testing.assert_array_equal(crops[:, 3], images[:, 2:, 2:])
    np.testing.assert_array_equal(crops[:, 4], images[:, 1:4, 1:4])
    np.testing.assert_array_equal(crops[:, 5:], crops[:, :5, :, ::-1])


@pytest.mark.parametrize(
    ("normalization", "low", "high"), [("lecun1998", -0.1, 1.175), ("pixel_mean", None, None)]
)
def test_normalisation_by_name(digits, normalization, low, high):
    arrays = jax.tree.map(
        jnp.asarray, normalization_arrays(Data(normalization=normalization), digits)
    )
    images = normalize(
        jnp.asarray(digits.train.images), arrays["mean"], arrays["max_value"],
        arrays.get("deviation"),
    )  # fmt: skip
    if low is None:
        np.testing.assert_allclose(images.mean(0), 0, atol=1e-5)
    else:
        assert float(images.min()) == pytest.approx(low)
        assert float(images.max()) == pytest.approx(high)


def test_channels_have_mean_0_and_deviation_1(digits):
    arrays = jax.tree.map(jnp.asarray, normalization_arrays(Data(normalization="channel"), digits))
    images = normalize(
        jnp.asarray(digits.train.images), arrays["mean"], arrays["max_value"], arrays["deviation"]
    )
    assert float(images.mean()) == pytest.approx(0, abs=1e-5)
    assert float(images.std()) == pytest.approx(1, abs=1e-4)


def test_flip_and_colour_of_an_example_are_independent():
    """split(key)[1] is fold_in(key, 1): small numbers would tie one to the other."""
    ramp = jnp.broadcast_to(jnp.arange(8.0)[None, None, :, None], (600, 8, 8, 3))
    how = Augmentation("pad_crop_flip", pca_colour=1.0)
    spreads = 100 * jnp.eye(3)
    out = augmented(how, ramp, jax.random.key(0), 0, jnp.arange(600), spreads)
    steps = np.round(
        np.diff(np.asarray(out[..., 0]), axis=2)
    )  # the ramp rises, or falls if flipped
    flipped = (steps == -1).sum((1, 2)) > (steps == 1).sum((1, 2))
    colours = np.asarray(out.mean((1, 2)) > 0)
    assert 0.4 < flipped.mean() < 0.6
    for channel in range(3):
        assert abs(np.corrcoef(flipped, colours[:, channel])[0, 1]) < 0.15
