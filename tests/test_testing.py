"""The public check of a network hears what a run would stumble over, in its own words."""

import numpy as np
import pytest
from flax import linen as nn

from cnnjax.testing import check_model


class Net(nn.Module):
    """Dense layers around what a subclass does."""

    def between(self, x, train):
        return x

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.Dense(4)(images.reshape(images.shape[0], -1))
        return nn.Dense(3)(self.between(x, train))


class DrawnByNumpy(Net):
    def between(self, x, train):
        return x + np.random.normal(size=(1, 4)).astype(np.float32)


class DrawnWhileTraining(Net):
    def between(self, x, train):
        return x * np.float32(np.random.uniform(0.5, 1.0)) if train else x


class InitialisedByNumpy(Net):
    def between(self, x, train):
        return x * self.param("scale", lambda key: np.random.normal(size=(1, 4)).astype(np.float32))


class Idle(Net):
    def between(self, x, train):
        self.param("idle", nn.initializers.ones, (3,))
        return x


class Fails(Net):
    def between(self, x, train):
        raise KeyError("x")


class Two(Net):
    @nn.compact
    def __call__(self, images, *, train):
        return super().__call__(images, train=train), 0


class NoTrain(nn.Module):
    @nn.compact
    def __call__(self, images):
        return nn.Dense(3)(images.reshape(images.shape[0], -1))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (DrawnByNumpy(), "it cannot be evaluated: it computes something else each time"),
        (DrawnWhileTraining(), "it cannot be trained: it computes something else each time"),
        (InitialisedByNumpy(), "two initialisations from one key differ"),
        (Idle(), "no gradient reaches idle"),
        (Fails(), "it cannot be initialised: KeyError: 'x'"),
        (Two(), "logits are tuple, not an array"),
        (NoTrain(), "unexpected keyword argument 'train'"),
        (Net, r"give a network, Net\(\), not its class"),
    ],
)
def test_a_broken_network_is_told_why(model, message):
    with pytest.raises(AssertionError, match=message):
        check_model(model, (4, 4, 1))


def test_a_sound_network_passes():
    assert check_model(Net(), (4, 4, 1)) == [
        "deterministic", "logits", "finite", "independent", "gradients",
    ]  # fmt: skip
