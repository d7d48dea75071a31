"""Probes look at declared moments, once each, and training keeps its bits."""

import chex
import pytest

from cnnjax.training.loop import fit
from cnnjax.training.probing import Probing, named
from cnnjax.training.setup import prepare
from tests.training.test_loop import Recorder, recipe

WANTED = {
    "attenuation": ("gradient_attenuation", (0, 0.1, 0.5, 1)),
    "dead": ("dead_channels", (1,)),
}


def run(digits, wanted, saves, **options):
    training = prepare(recipe(), 3, digits)
    records = []
    probing = Probing(training, wanted, records.append)
    result = fit(training, saves=saves, pauses=probing.steps, on_pause=probing, **options)
    return result, records


@pytest.fixture(scope="module")
def plain(digits):
    saves = Recorder()
    return run(digits, {}, saves)[0], saves.tree


def test_training_keeps_its_bits_and_every_moment_is_seen_once(digits, plain):
    saves = Recorder()
    result, records = run(digits, WANTED, saves)
    assert result.figures == plain[0].figures
    chex.assert_trees_all_equal(saves.tree["state"], plain[1]["state"])
    assert [record["step"] for record in records] == [0, 4, 21, 42]
    assert list(records[0]["probes"]) == ["attenuation@0"]
    assert list(records[3]["probes"]) == ["attenuation@1", "dead@1"]
    values = [record["probes"][named("attenuation", share)]
              for record, share in zip(records, (0, 0.1, 0.5, 1), strict=True)]  # fmt: skip
    assert len(set(values)) == 4
    assert list(records[3]["probes"]["dead@1"])[:2] == ["stem", "stage1_block1"]


def test_what_was_seen_before_an_interruption_is_not_seen_again(digits, plain, monkeypatch):
    monkeypatch.setattr("cnnjax.training.loop.DISPATCH_SECONDS", 0.0)  # one step a dispatch
    stopper, records = Recorder(25), []
    result, first = run(digits, WANTED, stopper, stop=stopper.stop)
    assert result.status == "interrupted"
    saves = Recorder()
    saves.tree = stopper.tree
    result, second = run(digits, WANTED, saves)
    records = [*first, *second]
    assert [record["step"] for record in records] == [0, 4, 21, 42]
    assert result.figures == plain[0].figures


def test_a_run_that_diverges_is_seen_until_then(digits):
    training = prepare(recipe(**{"optimizer.learning_rate": 1e30}), 3, digits)
    records = []
    probing = Probing(training, WANTED, records.append)
    result = fit(training, pauses=probing.steps, on_pause=probing)
    assert result.status == "diverged"
    assert [record["step"] for record in records if record["step"] > 1] == []
    assert records[0]["step"] == 0
