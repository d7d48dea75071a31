"""Resizing and losses of pixels against PyTorch and float64."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnjax.ops.losses import dice_loss, pixel_cross_entropy
from cnnjax.ops.resize import resize_bilinear, resize_nearest

torch = pytest.importorskip("torch", reason="torch is not installed; it is an oracle of tests only")
sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))


@given(sizes, sizes, st.integers(0, 10**6))
def test_as_pytorch(old, new, seed):
    maps = np.random.default_rng(seed).normal(size=(2, *old, 3)).astype(np.float32)
    given_ = torch.from_numpy(np.ascontiguousarray(maps.transpose(0, 3, 1, 2)))
    bilinear = torch.nn.functional.interpolate(given_, new, mode="bilinear", align_corners=False)
    nearest = torch.nn.functional.interpolate(given_, new, mode="nearest")
    for found, wanted in (
        (resize_bilinear(jnp.asarray(maps), new), bilinear),
        (resize_nearest(jnp.asarray(maps), new), nearest),
    ):
        np.testing.assert_allclose(found, wanted.numpy().transpose(0, 2, 3, 1), atol=1e-5)


@given(st.integers(0, 10**6), st.integers(1, 5))
def test_losses_of_pixels(seed, classes):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(2, 4, 3, classes)).astype(np.float32)
    truth = rng.integers(0, classes, (2, 4, 3))
    counted = (rng.random((2, 4, 3)) < 0.7).astype(np.float32)
    counted[1] = 0
    raw = torch.nn.functional.cross_entropy(
        torch.tensor(logits).permute(0, 3, 1, 2), torch.tensor(truth), reduction="none"
    ).numpy()
    wanted = (raw * counted).sum((1, 2)) / np.maximum(counted.sum((1, 2)), 1)
    arguments = jnp.asarray(logits), jnp.asarray(truth), jnp.asarray(counted)
    np.testing.assert_allclose(pixel_cross_entropy(*arguments), wanted, rtol=1e-4, atol=1e-6)

    exact = np.exp(logits.astype(np.float64))
    exact /= exact.sum(-1, keepdims=True)
    dice = []
    for p, y, w in zip(exact, np.eye(classes)[truth], counted, strict=True):
        p, y = p * w[..., None], y * w[..., None]
        dice.append(1 - np.mean((2 * (p * y).sum((0, 1)) + 1) / ((p + y).sum((0, 1)) + 1)))
    np.testing.assert_allclose(dice_loss(*arguments), dice, rtol=1e-4, atol=1e-6)
    assert dice[1] == 0
