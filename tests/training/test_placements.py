"""One step, whole batch and seed alike, is the same on one device and on several.

With devices that a processor plays: two by default, up to eight in the long tests.
"""

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np
import pytest

from cnnjax import Refused, small_images
from cnnjax.bench.step import noise
from cnnjax.core.config import override
from cnnjax.core.errors import Failed
from cnnjax.core.place import Place
from cnnjax.data.order import check_batch
from cnnjax.tasks.network import NetworkTask, _over_parts
from cnnjax.training.loop import fit
from cnnjax.training.placement import check_agreement, make_placement
from cnnjax.training.pmap import Pmap
from cnnjax.training.setup import prepare
from tests.training.test_loop import Recorder

TWO = min(2, len(jax.devices()))
PLACES = (
    Place("pmap", TWO),
    Place("sharded", TWO),
    Place("sharded", TWO, model_shards=TWO),
)
ALL_ON = {
    "batch_size": 8,
    "steps": 1,
    "data.augmentation": "pad_crop_flip",
    "data.mixup": 0.2,
    "data.cutmix": 1.0,
}
MANY = (
    *(Place(name, count) for name in ("pmap", "sharded") for count in (4, 8)),
    Place("sharded", 4, model_shards=2),
    Place("sharded", 8, model_shards=4),
)
GROUPS = {"compute.batch_norm_group": 4}
NETS = {  # with the size of their images
    "own": ({"model.name": f"{Path(__file__).parent / 'own_network.py'}:Own"}, 8),
    "residual": ({"model.name": "cifar_resnet8", "model.width": 0.25}, 8),
    "plain": ({"model.name": "cifar_plain8", "model.width": 0.25}, 8),
    "dropout": ({"model.name": "vgg11_bn"}, 32),
    "inception": ({"model.name": "googlenet"}, 32),
}
SLOW = ("residual", "plain", "dropout", "inception")


def recipe(net="own", **settings):
    changed = small_images
    for path, value in {**ALL_ON, **NETS[net][0], **settings}.items():
        changed = override(changed, path, value)
    return changed


def trained(recipe, place, size=8, examples=20):
    """Result and state after the steps of a recipe; 20 examples: no batch of an evaluation is
    full."""
    saves = Recorder()
    training = prepare(recipe, 0, noise((size, size, 3), examples), placement=make_placement(place))
    return fit(training, saves=saves), saves.tree["state"]


def distance(state, other):
    """Of all leaves, relative to the largest parameter."""
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(state.params))
    pairs = zip(jax.tree.leaves(state), jax.tree.leaves(other), strict=True)
    return max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in pairs) / largest


@pytest.fixture(scope="module")
def alone():
    return trained(recipe(), Place())


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_a_step_on_several_devices_is_that_of_one(alone, place):
    result, state = trained(recipe(), place)
    assert distance(alone[1], state) < 2e-5
    for name, figure in alone[0].figures.items():
        assert result.figures[name] == pytest.approx(figure, rel=1e-4), name


@pytest.mark.long
@pytest.mark.skipif(len(jax.devices()) < 8, reason="fewer than eight devices")
@pytest.mark.parametrize("place", MANY, ids=str)
def test_so_it_is_on_more_devices(place):
    whole = recipe(batch_size=16)
    assert distance(trained(whole, Place())[1], trained(whole, place)[1]) < 2e-5


@pytest.mark.parametrize(
    "place", [PLACES[0], *(pytest.param(p, marks=pytest.mark.long) for p in PLACES[1:])], ids=str
)
def test_an_average_and_frozen_layers_are_the_same_wherever_they_lie(place):
    """Frozen normalisation uses running statistics; the average is of parameters and statistics."""
    kept = {"optimizer.ema_decay": 0.5, "optimizer.freeze": ("Conv_0*", "BatchNorm_0*"), "steps": 2}
    _, one = trained(recipe(**kept), Place())
    _, several = trained(recipe(**kept), place)
    assert distance(one, several) < 2e-5
    begun = prepare(recipe(**kept), 0, noise((8, 8, 3), 20)).state
    for state in (one, several):
        np.testing.assert_array_equal(
            state.params["Conv_0"]["kernel"], begun.params["Conv_0"]["kernel"]
        )
        moved = state.average["params"]["Dense_0"]["kernel"] - state.params["Dense_0"]["kernel"]
        assert np.abs(moved).max() > 1e-6


def exact(net, place, batch_size=8):
    """Five steps in float64 on one device and elsewhere, of the largest parameter."""
    five, size = recipe(net, steps=5, batch_size=batch_size), NETS[net][1]
    _, one = trained(five, Place(), size)
    _, several = trained(five, place, size)
    learned = jax.tree.leaves((one.params, one.model_state, one.opt_state.inner))
    floats = {leaf.dtype for leaf in learned if np.issubdtype(leaf.dtype, np.inexact)}
    assert floats == {np.dtype("float64")}
    return distance(one, several)


@pytest.mark.parametrize("place", PLACES[:2], ids=str)
def test_in_float64_several_devices_are_one_to_twelve_digits(float64, place):
    assert exact("residual", place) < 1e-12


@pytest.mark.long
@pytest.mark.skipif(len(jax.devices()) < 8, reason="fewer than eight devices")
@pytest.mark.parametrize("place", [PLACES[2], *MANY], ids=str)
@pytest.mark.parametrize("net", SLOW)
def test_so_it_is_with_every_network_on_more_devices(float64, net, place):
    assert exact(net, place, batch_size=16) < 1e-12


@pytest.mark.long
@pytest.mark.parametrize("steps", [1, 5, 20, 50])
def test_rounding_grows_with_the_steps_and_stays_rounding(steps):
    """Figures for docs/performance.md: 50 steps of SGD with momentum on random labels."""
    longer = recipe("residual", steps=steps)
    found = distance(trained(longer, Place())[1], trained(longer, PLACES[0])[1])
    print(f"{steps} steps: {found:.1e}")
    assert found < 2e-5


@pytest.mark.long
@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("net", SLOW)
def test_so_it_is_with_every_kind_of_network(net, place):
    _, one = trained(recipe(net), Place(), NETS[net][1])
    _, several = trained(recipe(net), place, NETS[net][1])
    assert distance(one, several) < 2e-5


@pytest.mark.skipif(TWO < 2, reason="one device")
def test_gradients_that_are_not_added_are_noticed():
    @dataclass(frozen=True)
    class Forgetful(Pmap):
        def sum(self, tree):
            return tree

    training = prepare(recipe(), 0, noise((8, 8, 3), 20), placement=Forgetful(2))
    with pytest.raises(Failed, match="replicas disagree: params"):
        fit(training, saves=Recorder())


@pytest.mark.skipif(TWO < 2, reason="one device")
@pytest.mark.parametrize("place", PLACES[:2], ids=str)
def test_a_replica_that_went_astray_is_named(place, digits):
    placement = make_placement(place)
    task = prepare(recipe(), 0, noise((8, 8, 3), 20)).task
    state = placement.put(task.pack(task.init(jax.random.key(0))), "state")
    check_agreement(placement, state)
    kernel = state.params["Dense_0"]["kernel"]
    shards = [np.array(shard.data) for shard in kernel.addressable_shards]
    shards[1].flat[0] += 1e-3
    astray = jax.make_array_from_single_device_arrays(
        kernel.shape,
        kernel.sharding,
        [jax.device_put(data, s.device) for data, s in zip(shards, kernel.addressable_shards,
                                                           strict=True)],
    )  # fmt: skip
    dense = {**state.params["Dense_0"], "kernel": astray}
    state = state.replace(params={**state.params, "Dense_0": dense})
    with pytest.raises(
        Failed, match=r"params\.Dense_0\.kernel on replica 1 is not that of replica 0"
    ):
        check_agreement(placement, state)


@pytest.mark.long
@pytest.mark.skipif(TWO < 2, reason="one device")
def test_a_dropout_key_that_replicas_share_is_noticed(monkeypatch):
    dropout = recipe("dropout", **{"data.mixup": 0.0, "data.cutmix": 0.0})
    _, one = trained(dropout, Place(), 32)
    context = NetworkTask._context

    def by_place(self, indices=None, axis=None, part=None):
        return replace(context(self, indices, axis, part), indices=None)

    monkeypatch.setattr(NetworkTask, "_context", by_place)
    _, several = trained(dropout.replace(source="mutant"), Place("pmap", 2), 32)
    assert distance(one, several) > 1e-3


def test_a_run_goes_on_under_another_placement():
    longer = recipe(steps=4)
    _, whole = trained(longer, Place())
    saves, began = Recorder(stop_after=2), []
    data = noise((8, 8, 3), 20)
    first = prepare(longer, 0, data, placement=make_placement(PLACES[0]))
    assert fit(first, saves=saves, stop=saves.stop).status == "interrupted"
    assert fit(prepare(longer, 0, data), saves=saves, on_start=began.append).status == "done"
    assert 0 < began[0] < 4
    assert distance(whole, saves.tree["state"]) < 2e-5


def test_one_device_is_one_place_however_it_is_written():
    assert Place("jit", 1) == Place()
    for odd in ({"devices": "8"}, {"devices": 2.5}, {"model_shards": 2.0}):
        place = Place("sharded")
        vars(place).update(odd)  # where no type checker stands before it
        with pytest.raises(Refused, match="give a whole number"):
            place.__post_init__()


def test_a_place_says_what_of_a_batch_lies_where():
    assert Place("pmap", 8).share(256) == "a batch of 256: 32 on each of 8 devices"
    four = Place("sharded", 8, model_shards=2).share(256)
    assert four == "a batch of 256: 64 on each of 4 groups of 2 devices"
    assert Place("sharded", 2, 2).share(8) == "a batch of 8: 8 on each of 1 group of 2 devices"


def test_a_group_without_batch_normalisation_is_refused():
    lenet = recipe(**{"model.name": "lenet5", "compute.batch_norm_group": 4})
    with pytest.raises(Refused, match="LeNet5 has no batch normalisation; leave it out"):
        prepare(lenet, 0, noise((8, 8, 1), 20)).task.check(8)


@pytest.mark.skipif(TWO < 2, reason="one device")
@pytest.mark.parametrize("place", PLACES[:2], ids=str)
def test_a_step_adds_its_gradients_over_the_devices_once(place):
    """What docs/performance.md counts on: 4 bytes for each parameter, and statistics."""
    training = prepare(recipe("residual"), 0, noise((8, 8, 3), 20), placement=make_placement(place))
    gradients = 4 * sum(leaf.size for leaf in jax.tree.leaves(training.state.params))
    found = re.findall(
        r"= (\(.*?\)|\S+) all-reduce(?:-start)?\(", training.feed.train_program.as_text()
    )
    reduced = sum(
        math.prod(map(int, filter(None, sizes.split(","))))
        for shapes in found
        for sizes in re.findall(r"[fsu]32\[([\d,]*)\]", shapes)
    )
    assert gradients <= 4 * reduced < 1.2 * gradients


def test_what_does_not_divide_is_refused_with_what_does():
    pmap = Place("pmap", 2)
    with pytest.raises(
        Refused, match="batch_size=7 does not divide over 2 replicas; set batch_size to 6 or 8"
    ):
        check_batch(pmap, recipe(**{"batch_size": 7, "data.mixup": 0, "data.cutmix": 0}))
    with pytest.raises(Refused, match=r"by whole pairs.* set batch_size to 4 or 8"):
        check_batch(pmap, recipe(batch_size=6))
    with pytest.raises(Refused, match=r"=4 does not divide a replica's 6 examples; give 2, 3, 6"):
        check_batch(pmap, recipe(**GROUPS, batch_size=12))
    check_batch(pmap, recipe(batch_size=8))
    check_batch(Place("sharded", 2), recipe(**GROUPS, batch_size=12))  # it sees the whole batch
    check_batch(Place(), recipe(batch_size=7))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("pnap",), "no placement 'pnap'; did you mean pmap"),
        (("jit", 2), "--devices 2: placement jit takes one"),
        (("pmap", 0), "--devices 0: give 1 or more"),
        (("pmap", 99), "--devices 99: there (is 1|are [0-9]) here"),
        (("pmap", None, 2), "--model-shards 2: placement pmap divides no parameter"),
        (("sharded", TWO, 3), f"--model-shards 3: {TWO} devices? divides? by 1"),
    ],
)
def test_a_place_that_cannot_be_is_refused(words, message):
    with pytest.raises(Refused, match=message):
        make_placement(Place(*words))


@pytest.mark.parametrize(
    "place", [PLACES[0], pytest.param(PLACES[1], marks=pytest.mark.long)], ids=str
)
def test_groups_of_batch_normalisation_are_the_same_wherever_they_lie(alone, place):
    _, one = trained(recipe(**GROUPS), Place())
    _, several = trained(recipe(**GROUPS), place)
    assert distance(one, several) < 2e-5
    assert distance(alone[1], one) > 1e-3


@pytest.mark.parametrize(
    "place",
    [Place(), *(pytest.param(place, marks=pytest.mark.long) for place in PLACES)],
    ids=str,
)
def test_a_batch_in_parts_is_the_batch(place):
    """Batch normalisation over groups that a part holds whole, dropout by example."""
    _, whole = trained(recipe(**{**GROUPS, "compute.batch_norm_group": 2}), Place())
    parts = {**GROUPS, "compute.batch_norm_group": 2, "compute.accumulate": 2}
    _, in_parts = trained(recipe(**parts), place)
    assert distance(whole, in_parts) < 2e-5


def test_what_is_alike_in_all_parts_keeps_its_bits():
    """Statistics of frozen normalisation, of which a mean of three would change a third."""
    kept = jax.random.normal(jax.random.key(0), (1000,))

    @jax.jit
    def mean(parts):
        return _over_parts(lambda part, number: (part["mask"].sum(), kept), parts)

    total, found = mean({"mask": np.ones((3, 2), np.float32)})
    assert total == 6
    np.testing.assert_array_equal(found, kept)


def test_parts_that_cannot_be_are_refused():
    two = {"compute.accumulate": 2}
    with pytest.raises(Refused, match=r"batch_size=7 does not divide into compute.accumulate=2 pa"):
        check_batch(Place(), recipe(**two, batch_size=7))
    with pytest.raises(Refused, match=r"=4 does not divide a part's 2 examples"):
        check_batch(Place("pmap", 2), recipe(**two, **GROUPS))
    with pytest.raises(Refused, match=r"say over which groups it means to: compute.batch_norm_gro"):
        prepare(recipe(**two), 0, noise((8, 8, 3), 20)).task.check(8)
    with pytest.raises(Refused, match="accumulate=0: must be 1 or more"):
        recipe(**{"compute.accumulate": 0})


@pytest.mark.long
def test_a_group_of_the_whole_batch_is_batch_normalisation_as_it_is():
    # Without cutmix: it rounds the edges of its boxes, and another program may round another way.
    _, plain = trained(recipe(**{"data.cutmix": 0.0}), Place())
    _, whole = trained(recipe(**{"data.cutmix": 0.0, "compute.batch_norm_group": 8}), Place())
    assert distance(plain, whole) < 2e-5


@pytest.mark.long
def test_remat_changes_memory_and_no_number():
    deep = {"model.name": "cifar_resnet20", "model.width": 0.25}
    _, kept = trained(recipe(**deep), Place())
    _, again = trained(recipe(**{**deep, "compute.remat": True}), Place())
    assert distance(kept, again) < 2e-5


def test_bfloat16_computes_in_it_and_keeps_the_rest():
    _, full = trained(recipe(), Place())
    result, half = trained(recipe(**{"compute.precision": "bfloat16"}), Place())
    assert 1e-5 < distance(full, half) < 0.1
    assert {leaf.dtype for leaf in jax.tree.leaves(half.params)} == {np.dtype("float32")}
    assert result.status == "done"
