"""Grad-CAM and the loss around parameters, against what is computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnnjax import Refused
from cnnjax.probes.grad_cam import grad_cam
from cnnjax.probes.landscape import filter_normalized, loss_surface
from tests.runs import classification, small_batch

BATCH = small_batch()


class Averaged(nn.Module):
    """A convolution, its map averaged, a dense layer: then Grad-CAM is the class's own kernel."""

    num_classes: int = 10

    def setup(self):
        self.conv = nn.Conv(4, (3, 3), (2, 2))
        self.head = nn.Dense(self.num_classes)

    def feature_maps(self, images, *, train):
        return {2: self.conv(images)}

    def __call__(self, images, *, train):
        return self.head(self.feature_maps(images, train=train)[2].mean((1, 2)))


class Unseen(Averaged):
    def __call__(self, images, *, train):
        return self.head(self.conv(images).mean((1, 2)))


def made(model):
    task = classification(model, (8, 8, 1), 10)
    return task, task.init(jax.random.key(0))


def test_of_an_averaged_map_it_is_the_class_activation_map():
    """Zhou et al. 2016: Selvaraju et al. prove that it generalises it."""
    task, state = made(Averaged())
    heat, classes = grad_cam(task, state, BATCH["images"])
    variables = {"params": state.params}
    logits = task.model.apply(variables, BATCH["images"], train=False)
    np.testing.assert_array_equal(classes, np.argmax(logits, axis=1))
    maps = task.model.apply(variables, BATCH["images"], train=False, method="feature_maps")[2]
    kernel = state.params["head"]["kernel"]  # d logit / d map is kernel / 16 at each place
    by_hand = np.maximum(np.einsum("nhwf,fn->nhw", maps, kernel[:, classes]) / 16, 0)
    wanted = jax.image.resize(by_hand, (6, 8, 8), "linear")
    np.testing.assert_allclose(heat, wanted, rtol=1e-4, atol=1e-6)


def test_another_class_may_be_asked_for():
    task, state = made(Averaged())
    asked = jnp.arange(6) % 10
    heat, classes = grad_cam(task, state, BATCH["images"], asked)
    np.testing.assert_array_equal(classes, asked)
    assert (heat != grad_cam(task, state, BATCH["images"])[0]).any()


def test_a_network_that_does_not_use_its_feature_maps_is_refused():
    with pytest.raises(Refused, match="Unseen does not call its own feature_maps"):
        grad_cam(*made(Unseen()), BATCH["images"])


def test_each_filter_of_a_direction_is_as_long_as_the_networks_own():
    _, state = made(Averaged())
    drawn = filter_normalized(jax.random.key(1), state.params)
    for layer in ("conv", "head"):
        own, other = (np.asarray(p[layer]["kernel"]) for p in (state.params, drawn))
        axes = tuple(range(own.ndim - 1))
        lengths = [np.sqrt((kernel**2).sum(axes)) for kernel in (own, other)]
        np.testing.assert_allclose(lengths[0], lengths[1], rtol=1e-5)
        assert not drawn[layer]["bias"].any()


def test_the_surface_is_the_loss_at_moved_parameters():
    task, state = made(Averaged())
    key, places = jax.random.key(2), jnp.array([-0.5, 0.0, 1.0])
    found = loss_surface(task, state, BATCH, key, places)
    first, second = (filter_normalized(k, state.params) for k in jax.random.split(key))
    for i, one in enumerate(places):
        for j, two in enumerate(places):
            params = jax.tree.map(
                lambda p, a, b, one=one, two=two: p + one * a + two * b, state.params, first, second
            )
            logits = task.model.apply({"params": params}, BATCH["images"], train=False)
            losses = -jax.nn.log_softmax(logits)[jnp.arange(6), BATCH["labels"]]
            assert found[i, j] == pytest.approx(float(losses.mean()), rel=1e-5)
