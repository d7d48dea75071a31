"""A training that starts from weights: of a run, imported, of a file; with a new classifier."""

import dataclasses

import jax
import numpy as np
import pytest

from cnnjax import Init, Model, Refused, Task, create_model, small_images, small_scenes
from cnnjax.core.config import canonical, override
from cnnjax.data.load import load_dataset
from cnnjax.interop.mapping import to_torch
from cnnjax.tasks.network import fresh_variables
from cnnjax.training.make import make_task
from cnnjax.training.pretrained import _with_backbone, first_state, weights_digest
from cnnjax.training.run import train_run

SMALL = small_images.replace(model=Model("cifar_resnet8", {"width": 0.25}), steps=3)


@pytest.fixture(scope="module")
def few(digits):
    """digits, of three classes."""
    kept = {split: np.flatnonzero(getattr(digits, split).labels < 3) for split in ("train", "test")}
    return dataclasses.replace(
        digits,
        train=digits.train.at(kept["train"]),
        test=digits.test.at(kept["test"]),
        label_names=("0", "1", "2"),
    )


@pytest.fixture(scope="module")
def folder(digits, tmp_path_factory):
    path = tmp_path_factory.mktemp("pretrained") / "run"
    train_run(canonical(SMALL), 0, digits, path)
    return path


@pytest.fixture(scope="module")
def trained(folder):
    from cnnjax import load_network

    return load_network(folder)


def state_of(recipe, dataset, seed=5):
    said = []
    task = make_task(canonical(recipe), dataset)
    return first_state(task, recipe, seed, said.append), said


def same(first, second):
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return [bool((np.asarray(a) == np.asarray(b)).all()) for a, b in pairs]


def test_a_run_goes_over_whole(folder, trained, digits):
    state, _ = state_of(SMALL.replace(init=Init(str(folder))), digits)
    assert all(same({"params": state.params, **state.model_state}, dict(trained.variables)))
    assert int(state.step) == 0


def test_a_file_of_pytorchs_names_goes_over_too(trained, digits, tmp_path):
    arrays = to_torch(trained.module, trained.variables, trained.image_shape)
    np.savez(tmp_path / "weights.npz", **arrays)
    state, _ = state_of(SMALL.replace(init=Init(str(tmp_path / "weights.npz"))), digits)
    assert all(same({"params": state.params, **state.model_state}, dict(trained.variables)))


def test_another_number_of_classes_needs_a_new_head(folder, trained, few):
    with pytest.raises(Refused, match=r"has 10 classes, .* 3; --set init.head=new") as refusal:
        state_of(SMALL.replace(init=Init(str(folder))), few)
    assert "\n" not in str(refusal.value)
    recipe = SMALL.replace(init=Init(str(folder), "new"))
    state, said = state_of(recipe, few)
    fresh, _ = state_of(SMALL, few)
    assert all(same(state.params["head"], fresh.params["head"]))
    rest = {name: tree for name, tree in state.params.items() if name != "head"}
    assert all(same(rest, {name: trained.variables["params"][name] for name in rest}))
    assert "head" in said[0]


SCENES = {"train": 8, "test": 4, "size": 32, "smallest": 8, "largest": 12}


@pytest.mark.parametrize("as_file", [False, True])
def test_a_detector_begins_with_the_backbone_of_a_classifier(folder, trained, tmp_path, as_file):
    weights = folder
    if as_file:
        weights = tmp_path / "weights.npz"
        np.savez(weights, **to_torch(trained.module, trained.variables, trained.image_shape))
    fields = {"backbone": "cifar_resnet8", "width": 0.25, "strides": (4,), "sizes": ((10.0,),)}
    detector = small_scenes.replace(
        task=Task("detection"),
        model=Model("tiny_ssd", {**fields, "backbone_fields": None}),
        init=Init(str(weights), "new"),
    )
    detector = override(detector, "data.scenes", SCENES)
    dataset = load_dataset(detector.data)
    state, said = state_of(detector, dataset)
    for name, tree in state.params["body"].items():
        assert all(same(tree, trained.variables["params"][name])), name
    assert all(same(state.model_state["batch_stats"]["body"], trained.variables["batch_stats"]))
    assert "all but the backbone begins anew" in said[-1]
    with pytest.raises(Refused, match=r"is of another network|order of the logits is not known"):
        state_of(detector.replace(init=Init(str(weights))), dataset)


def test_frozen_normalisation_takes_what_a_trained_one_has():
    """Of a resnet18 at random, by hand: its statistics, scales and offsets are kept."""
    model = create_model(
        "retinanet", num_classes=2, backbone="resnet18", backbone_fields={"normalization": "frozen"}
    )
    body = model.make_body(normalization="batch")
    given = fresh_variables(body, (224, 224, 3), jax.random.key(1))
    given = jax.tree.map(lambda leaf: leaf + 0.25, given)
    fresh = fresh_variables(model, (128, 128, 3), jax.random.key(2))
    taken, _ = _with_backbone(model, (128, 128, 3), fresh, lambda *_: (given, ()))
    norm = taken["frozen"]["body"]["stem"]["norm"]
    assert float(norm["mean"][0]) == 0.25
    assert float(norm["var"][0]) == 1.25
    assert all(same(norm["scale"], given["params"]["stem"]["norm"]["scale"]))
    assert all(same(taken["params"]["fpn"], fresh["params"]["fpn"]))


def test_weights_of_another_network_are_refused_with_the_lines(folder, digits):
    deeper = SMALL.replace(model=Model("cifar_resnet14", {"width": 0.25}), init=Init(str(folder)))
    with pytest.raises(
        Refused, match=r": cifar_resnet8 .*, not cifar_plain8 .*: - batch_stats.stage1_block1.*\+ "
    ) as refusal:
        state_of(deeper.replace(model=Model("cifar_plain8", {"width": 0.5})), digits)
    assert "\n" not in str(refusal.value)
    with pytest.raises(Refused, match=r": cifar_resnet8 .*, not cifar_resnet14 .*: - "):
        state_of(deeper, digits)


def test_weights_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(Refused, match="there are no weights in"):
        weights_digest(SMALL.replace(init=Init(str(tmp_path / "nothing"))))


def test_they_are_looked_for_before_a_network_is(tmp_path):
    """Of a network whose layout in PyTorch is not known."""
    recipe = small_scenes.replace(init=Init(str(tmp_path / "nothing")))
    recipe = override(recipe, "data.scenes", SCENES)
    with pytest.raises(Refused, match="there are no weights in"):
        state_of(recipe, load_dataset(recipe.data))


def test_the_weights_are_part_of_the_identity(folder, trained, digits, tmp_path):
    file = tmp_path / "weights.npz"
    arrays = to_torch(trained.module, trained.variables, trained.image_shape)
    np.savez(file, **arrays)
    recipe = canonical(SMALL.replace(init=Init(str(file))))
    train_run(recipe, 0, digits, tmp_path / "run")
    name = next(iter(arrays))
    np.savez(file, **{**arrays, name: arrays[name] + 1})
    with pytest.raises(Refused, match=r"holds another run \(sources"):
        train_run(recipe, 0, digits, tmp_path / "run")
