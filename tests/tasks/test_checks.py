"""What a network asks of a run is seen by tracing it, before anything is computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnnjax import Refused
from cnnjax.tasks.checks import AUXILIARY, normalized_values
from tests.runs import classification


class Head(nn.Module):
    """A dense layer behind what a subclass does."""

    def before(self, x, train):
        return x

    @nn.compact
    def __call__(self, images, *, train):
        x = images.reshape(images.shape[0], -1)
        return nn.Dense(3)(self.before(nn.Dense(4)(x), train))


class OtherStream(Head):
    def before(self, x, train):
        return nn.Dropout(0.5, rng_collection="drop_path", deterministic=not train)(x)


class AlwaysDropout(Head):
    def before(self, x, train):
        return nn.Dropout(0.5, deterministic=False)(x)


class AlwaysBatch(Head):
    def before(self, x, train):
        return nn.BatchNorm(use_running_average=False)(x)


class SownLosses(Head):
    def before(self, x, train):
        self.sow("losses", "size", jnp.sum(x**2))
        return x


class BatchNorm(Head):
    def before(self, x, train):
        return nn.BatchNorm(use_running_average=not train, name="norm")(x)


class BatchNormByCall(Head):
    def before(self, x, train):
        return nn.BatchNorm(name="norm")(x, not train)


class GroupsOfOne(Head):
    def before(self, x, train):
        return nn.GroupNorm(num_groups=4, name="norm")(x)


class Exits(Head):
    def before(self, x, train):
        raise SystemExit(0)


class FailsInTraining(Head):
    def before(self, x, train):
        return 1 / 0 if train else x


def task(model, num_classes=3):
    return classification(model, (4, 4, 1), num_classes)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (OtherStream(), 'stream that does not exist; there is rng_collection="dropout"'),
        (AlwaysDropout(), r"draws random numbers where train=False; .*deterministic=not train"),
        (AlwaysBatch(), r"changes variables where train=False; .*use_running_average=not train"),
        (SownLosses(), r'its collection "losses"'),
        (Exits(), r"it ends the program \(sys.exit\(0\)\)"),
        (FailsInTraining(), "cannot be trained: ZeroDivisionError"),
    ],
)
def test_what_a_run_does_not_give_is_refused(model, message):
    with pytest.raises(Refused, match=message):
        task(model).check(2)


@pytest.mark.parametrize("model", [BatchNorm(), BatchNormByCall()])
def test_batch_normalisation_over_one_value_is_refused_where_it_trains(model):
    task(model).check(2)
    task(model).check()  # evaluation has its running statistics
    with pytest.raises(Refused, match=r"norm normalises one value at a time \(input \[1, 4\]\)"):
        task(model).check(1)


def test_groups_of_one_value_are_refused_whatever_the_batch():
    with pytest.raises(Refused, match="norm normalises one value"):
        task(GroupsOfOne()).check(8)


@pytest.mark.parametrize(
    "module",
    [
        nn.BatchNorm(use_running_average=False),
        nn.BatchNorm(use_running_average=False, axis=1),
        nn.GroupNorm(num_groups=2),
        nn.GroupNorm(num_groups=None, group_size=1),
        nn.InstanceNorm(),
        nn.LayerNorm(),
        nn.LayerNorm(reduction_axes=(1, 2)),
    ],
)
def test_the_values_that_are_normalised_together_are_those_that_move_together(module):
    """A change of one value moves all that share its mean, and no other."""
    x = np.random.default_rng(0).normal(size=(2, 3, 3, 4)).astype(np.float32)
    variables = module.init(jax.random.key(0), x)

    def normalize(x):
        return module.apply(variables, x, mutable=["batch_stats"])[0]

    moved = jax.jvp(normalize, (x,), (_one_hot(x.shape),))[1]
    assert int((np.abs(moved) > 1e-6).sum()) == normalized_values(module, x.shape)


def _one_hot(shape):
    hot = np.zeros(shape, np.float32)
    hot[0, 1, 1, 2] = 1
    return hot


def test_another_module_normalises_nothing():
    assert normalized_values(nn.Dense(3), (2, 3)) is None


def test_more_or_fewer_logits_than_classes_are_refused():
    for classes in (2, 4):
        with pytest.raises(
            Refused, match=rf"gives float32\[1, 3\] .* needed for {classes} classes"
        ):
            task(Head(), classes).check()


class Large(nn.Module):
    features: int

    @nn.compact
    def __call__(self, images, *, train):
        x = images.reshape(images.shape[0], -1)
        return nn.Dense(3)(nn.Dense(self.features)(x))


def test_a_network_larger_than_memory_is_refused_by_its_size():
    with pytest.raises(Refused, match=r"Large needs 149 GiB .* this machine has"):
        task(Large(10**9)).check(2)


class Sown(nn.Module):
    @nn.compact
    def __call__(self, images, *, train):
        x = images.reshape(images.shape[0], -1)
        self.sow(AUXILIARY, "head", nn.Dense(3)(x))
        self.sow("intermediates", "x", x)
        return nn.Dense(3)(x)


def test_auxiliary_logits_and_intermediates_are_no_state():
    task(Sown()).check(2)
