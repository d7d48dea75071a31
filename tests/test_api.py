"""The Python interface as it is used: a script without a guard, a run that is opened again."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import cnnjax
from cnnjax import Model, Refused, small_images
from cnnjax.core.random import stream_keys

SCRIPT = """\
from cnnjax import Contrast, Study, run_study, small_images
study = Study(
    name="script", question="?", source="a test", base=small_images, seeds=2,
    factors={"rate": {"low": {"optimizer.learning_rate": 0.01}, "high": {"optimizer.name": "sgd"}}},
    metrics=("test_error",), contrasts=(Contrast("high", "low"),),
)
settings = {"model.name": "net.py:Net", "steps": 14}
outcome = run_study(study, workdir="work", settings=settings, progress=False)
print(outcome.complete, [c["status"] for c in outcome.cells], outcome.contrasts[0]["n"])
"""
NET = """\
from flax import linen as nn
class Net(nn.Module):
    num_classes: int = 10
    @nn.compact
    def __call__(self, images, *, train):
        return nn.Dense(self.num_classes)(images.reshape(images.shape[0], -1))
"""


def test_a_study_of_eight_lines_runs_in_a_script_without_a_guard(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True ['done', 'done', 'done', 'done'] 2\n"
    assert (tmp_path / "work" / "report.html").is_file()
    assert not (tmp_path / "work" / ".shared-data").exists()  # what workers mapped is gone


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    (folder / "net.py").write_text(NET)
    recipe = small_images.replace(model=Model(f"{folder}/net.py:Net"), steps=28)
    return cnnjax.train(recipe, workdir=folder / "run", seed=3, progress=False)


def test_a_run_has_its_result_its_history_and_its_network(run, digits):
    assert run.result["status"] == "done"
    assert [line["epoch"] for line in run.history] == [1, 2]
    outputs = run.predict(digits.test.images)
    wrong = outputs.argmax(-1) != digits.test.labels
    assert 100 * wrong.mean() == pytest.approx(run.result["test_error"])
    assert run.network.image_shape == (8, 8, 1)
    again = cnnjax.load_run(run.folder)
    np.testing.assert_array_equal(again.predict(digits.test.images[:5]), outputs[:5])
    with pytest.raises(Refused, match=r"images are float64.*uint8 \[n, 8x8x1\]"):
        run.predict(digits.test.images / 255)
    with pytest.raises(Refused, match="batch_size=0: give 1 or more"):
        run.predict(digits.test.images, batch_size=0)


def test_a_fresh_network_begins_as_a_run_of_its_seed():
    from cnnjax.tasks.network import fresh_variables

    network = cnnjax.init_network("cifar_resnet8", (8, 8, 1), seed=3, width=0.25)
    expected = fresh_variables(network.module, (8, 8, 1), stream_keys(3)["init"])
    np.testing.assert_array_equal(
        network.variables["params"]["head"]["kernel"], expected["params"]["head"]["kernel"]
    )
    with pytest.raises(Refused, match="no model 'cifar_resnet'"):
        cnnjax.init_network("cifar_resnet")
    with pytest.raises(Refused, match=r"image_shape=.*: give \(height, width, channels\)"):
        cnnjax.init_network("cifar_resnet8", (8, 8, 0))
    with pytest.raises(Refused, match="images of 4x4: 8x8 or more are needed"):
        cnnjax.init_network("cifar_resnet8", (4, 4, 1))


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(Refused, match="is no run"):
        cnnjax.load_run(tmp_path)


def test_what_dir_shows_is_the_interface_and_all_of_it_is_there():
    assert dir(cnnjax) == sorted([*cnnjax.__all__, "__version__"])
    assert {"Loss", "Streams", "Init", "Task", "Optimizer", "Schedule", "Data"} <= set(dir(cnnjax))
    assert all(getattr(cnnjax, name) is not None for name in cnnjax.__all__)


def test_a_run_on_a_set_at_hand_predicts_without_looking_for_it(tmp_path, digits):
    (tmp_path / "net.py").write_text(NET)
    part = cnnjax.Dataset.from_arrays(
        dict(digits.train.arrays), dict(digits.test.arrays), name="mine", max_value=17
    )
    recipe = small_images.replace(model=Model(f"{tmp_path}/net.py:Net"), steps=14)
    run = cnnjax.train(recipe, workdir=tmp_path / "run", dataset=part, progress=False)
    wrong = run.predict(part.test.images).argmax(-1) != part.test.labels
    assert 100 * wrong.mean() == pytest.approx(run.result["test_error"])


def test_a_second_interrupt_raises_where_the_process_is_the_users():
    from cnnjax.training.signals import StopRequest

    stop = StopRequest(leaves=False)
    stop._note(2, None)
    assert stop()
    with pytest.raises(KeyboardInterrupt):
        stop._note(2, None)


def test_a_run_on_a_set_that_was_given_is_opened_with_it(tmp_path, digits):
    (tmp_path / "net.py").write_text(NET)
    recipe = small_images.replace(model=Model(f"{tmp_path}/net.py:Net"), steps=14)
    part = cnnjax.Dataset.from_arrays(dict(digits.test.arrays), dict(digits.test.arrays))
    run = cnnjax.train(recipe, workdir=tmp_path / "run", dataset=part, progress=False)
    images = digits.test.images[:5]
    with pytest.raises(Refused, match=r"is given again: cnnjax.load_run\("):
        cnnjax.load_run(run.folder).predict(images)
    with pytest.raises(Refused, match="is not the one"):
        cnnjax.load_run(run.folder, dataset=digits)
    again = cnnjax.load_run(run.folder, dataset=part)
    np.testing.assert_array_equal(again.predict(images), run.predict(images))
    few = recipe.replace(data=cnnjax.Data(train_examples=300))
    with pytest.raises(Refused, match=r"data.train_examples=300, and the data set that is given"):
        cnnjax.train(few, workdir=tmp_path / "few", dataset=digits, progress=False)


def test_run_study_leaves_the_callers_threads_and_names_its_own_call(tmp_path, monkeypatch):
    monkeypatch.setenv("PJRT_NPROC", "2")
    (tmp_path / "net.py").write_text(NET)
    study = cnnjax.Study(
        name="call", question="?", source="a test", base=small_images, seeds=2,
        factors={"rate": {"low": {"optimizer.learning_rate": 0.01}, "high": {}}},
        metrics=("test_error",), contrasts=(cnnjax.Contrast("high", "low"),),
    )  # fmt: skip
    settings = {"model.name": f"{tmp_path}/net.py:Net", "steps": 1}
    with pytest.raises(Refused, match="workers=0: give 1 or more"):
        cnnjax.run_study(study, workdir=tmp_path / "w", settings=settings, workers=0)
    outcome = cnnjax.run_study(
        study, workdir=tmp_path / "w", settings=settings, seeds=1, progress=False
    )
    assert os.environ["PJRT_NPROC"] == "2"
    document = json.loads((outcome.folder / "study.json").read_text())
    document = document.get("content", document)
    assert document["bits"]["PJRT_NPROC"] == "1"
    assert document["command"].endswith(f"settings={settings!r}, seeds=1)")
