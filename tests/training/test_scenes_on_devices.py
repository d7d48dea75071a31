"""Detection and segmentation, trained and evaluated, are the same on one device and on several."""

import jax
import numpy as np
import pytest

from cnnjax import RECIPES
from cnnjax.core.config import override
from cnnjax.core.place import Place
from cnnjax.core.recipe import Model, Scenes, Task
from cnnjax.data.load import load_dataset
from cnnjax.training.loop import fit
from cnnjax.training.placement import make_placement
from cnnjax.training.setup import prepare
from tests.training.test_loop import Recorder
from tests.training.test_placements import distance

TWO = min(2, len(jax.devices()))
PLACES = (Place("pmap", TWO), Place("sharded", TWO))
FEW = Scenes(train=20, test=9, size=16, fewest=0, smallest=8, largest=12, most=2, clutter=1)
SMALL = {"backbone_fields": {"features": [4, 4, 8, 8], "units": 1}}
NETS = {
    "unet_small": {"depth": 2, "features": 4},
    "tiny_ssd": {**SMALL, "sizes": [[10.0]]},
    "tiny_faster_rcnn": {**SMALL, "sizes": [[10.0]], "asked": 8, "proposals": 6, "sampled": 6},
    "tiny_mask_rcnn": {**SMALL, "sizes": [[10.0]], "asked": 8, "proposals": 6, "sampled": 6,
                       "most": 4, "mask_convolutions": [4], "mask_features": 4},
    "tiny_rcnn": {**SMALL, "proposals": 4, "sampled": 4, "crop_size": 8},
}  # fmt: skip


def recipe_of(net, steps):
    recipe = RECIPES["small_scenes"].replace(
        task=Task("segmentation" if net.startswith("unet") else "detection"),
        model=Model(net, NETS[net]),
        batch_size=8,
        steps=steps,
    )
    return override(recipe, "data.scenes", FEW.__dict__)


def trained(recipe, dataset, place):
    saves = Recorder()
    result = fit(prepare(recipe, 0, dataset, placement=make_placement(place)), saves=saves)
    return result, saves.tree["state"]


@pytest.mark.parametrize(
    "net",
    [
        # tiny_mask_rcnn has all that the other nets of two stages have.
        pytest.param(net, marks=pytest.mark.long)
        if net in ("tiny_faster_rcnn", "tiny_rcnn")
        else net
        for net in NETS
    ],
)
def test_two_steps_and_an_evaluation(net):
    """Of uneven numbers of objects; nine test scenes fill no batch."""
    recipe = recipe_of(net, 2)
    dataset = load_dataset(recipe.data)
    counts = (dataset.train.arrays["box_labels"] >= 0).sum(1)
    assert len(set(counts.tolist())) == 3
    result, state = trained(recipe, dataset, Place())
    for place in PLACES:
        other, elsewhere = trained(recipe, dataset, place)
        assert distance(state, elsewhere) < 1e-3  # Adam divides what is near 0 by its size
        for name, figure in result.figures.items():
            assert other.figures[name] == pytest.approx(figure, rel=1e-2, abs=0.5), name
    assert np.isfinite(result.figures["test_loss"])


@pytest.mark.long
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("net", NETS)
def test_five_steps_in_float64(net):
    """In which no matching, drawing or suppression flips."""
    recipe = recipe_of(net, 5)
    dataset = load_dataset(recipe.data)
    _, state = trained(recipe, dataset, Place())
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {np.dtype("float64")}
    for place in PLACES:
        _, elsewhere = trained(recipe, dataset, place)
        assert distance(state, elsewhere) < 1e-12, place
