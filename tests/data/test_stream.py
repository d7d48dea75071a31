"""Streamed sets: a folder of images and a TFDS set, read by Grain in our own order."""

import dataclasses
import io
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from cnnjax import Data, Recipe, Refused, load_dataset
from cnnjax.core.config import override
from cnnjax.core.errors import Failed
from cnnjax.core.random import stream_keys
from cnnjax.core.recipe import Optimizer
from cnnjax.data.dataset import StreamedDataset
from cnnjax.data.order import evaluation_batches
from cnnjax.data.preview import contact_sheet
from cnnjax.data.stream import evaluation_stream, training_stream
from cnnjax.testing import check_dataset
from cnnjax.training.loop import evaluate
from cnnjax.training.make import make_task
from tests.data.test_views import photograph
from tests.runs import train


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes, 13 + 7 images of different sizes."""
    root = tmp_path_factory.mktemp("photographs")
    for split, count in (("train", 13), ("val", 7)):
        for index in range(count):
            name = root / split / ("cat" if index % 2 else "dog") / f"{index}.jpg"
            name.parent.mkdir(parents=True, exist_ok=True)
            name.write_bytes(
                photograph(40 + index, 52 - index, seed=index + 100 * (split == "val"))
            )
    return root


@pytest.fixture(scope="module")
def dataset(folder):
    return load_dataset(Data(f"folder:{folder}", image_size=24))


def read(dataset, first, last, batch_size=4, seed=0, **options):
    batches = training_stream(
        dataset, "random_resized_crop", stream_keys(seed), batch_size, first, last, **options
    )
    return list(batches)


@pytest.mark.parametrize("kind", ["training", "evaluation", "in memory"])
def test_the_rows_of_two_processes_are_the_batch(dataset, digits, kind):
    """What one reads the other does not."""

    def batches(rows):
        if kind == "training":
            return read(dataset, 0, 4, rows=rows)
        if kind == "evaluation":
            return list(evaluation_stream(dataset.test, dataset.view, 4, rows))
        return list(evaluation_batches(digits.test, 128, rows))

    size = 128 if kind == "in memory" else 4
    halves = batches(slice(0, size // 2)), batches(slice(size // 2, size))
    for batch, first, second in zip(batches(slice(None)), *halves, strict=True):
        for name, whole in batch.items():
            np.testing.assert_array_equal(whole, np.concatenate([first[name], second[name]]))


def test_a_process_whose_rows_are_all_padding_hands_in_as_much(dataset):
    few = dataset.test.at(np.arange(2))
    first, second = (
        next(evaluation_stream(few, dataset.view, 4, rows)) for rows in (slice(0, 2), slice(2, 4))
    )
    assert {n: (a.shape, a.dtype) for n, a in first.items()} == {
        n: (a.shape, a.dtype) for n, a in second.items()
    }
    assert not second["mask"].any()


def test_a_folder_says_what_it_holds(dataset):
    assert isinstance(dataset, StreamedDataset)
    assert dataset.label_names == ("cat", "dog")
    assert dataset.image_shape == (24, 24, 3)
    assert (len(dataset.train), len(dataset.test)) == (13, 7)
    labels = [dataset.train.read(i)[1] for i in range(13)]
    assert labels == [0] * 6 + [1] * 7


def test_an_epoch_shows_no_example_twice_and_the_next_in_another_order(dataset):
    first, second = (
        np.concatenate([b["indices"] for b in read(dataset, *steps)]) for steps in ((0, 3), (3, 6))
    )
    assert len(set(first)) == len(set(second)) == 12  # the ragged rest is left out
    assert (first != second).any()


def test_a_run_goes_on_from_any_step_with_the_same_bits(dataset):
    whole = read(dataset, 0, 7)
    for first in (1, 3, 5):
        jax.tree.map(np.testing.assert_array_equal, read(dataset, first, 7), whole[first:])
    jax.tree.map(np.testing.assert_array_equal, read(dataset, 0, 7, threads=5), whole)


def test_an_example_looks_the_same_in_a_batch_of_another_size(dataset):
    def by_index(batches):
        return {
            int(index): image.tobytes()
            for batch in batches
            for index, image in zip(batch["indices"], batch["images"], strict=True)
        }

    small, large = by_index(read(dataset, 0, 4, 3)), by_index(read(dataset, 0, 2, 6))
    assert len(small) == len(large) == 12
    both = set(small) & set(large)
    assert all(small[index] == large[index] for index in both)
    other = by_index(read(dataset, 0, 4, 3, seed=1))
    assert all(small[index] != other[index] for index in set(small) & set(other))


def test_evaluation_covers_every_example_exactly_once(dataset):
    batches = list(evaluation_stream(dataset.test, dataset.view, 4))
    assert [batch["mask"].sum() for batch in batches] == [4, 3]
    assert all(batch["images"].shape == (4, 24, 24, 3) for batch in batches)
    labels = np.concatenate([batch["labels"][batch["mask"] > 0] for batch in batches])
    assert labels.tolist() == [0] * 3 + [1] * 4
    assert [batch["indices"].tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 0]]


def recipe(folder, **changes):
    data = Data(f"folder:{folder}", image_size=24, pca_colour=0.1, mixup=0.2, cutmix=1.0)
    base = Recipe(data=data, optimizer=Optimizer(learning_rate=0.01), batch_size=4, epochs=2)
    base = override(override(base, "model.name", "cifar_resnet8"), "model.width", 0.25)
    for path, value in changes.items():
        base = override(base, path, value)
    return base


class Memory:
    """Saves that keep the last state and stop a run after its first dispatch."""

    keeps_last = False
    in_parts = False

    def __init__(self):
        self.kept = None

    def due(self):
        return False

    def restore(self, template):
        return self.kept

    def save(self, step, tree, *, force=False):
        self.kept = jax.device_get(tree)


def test_training_on_a_stream_stops_and_goes_on_with_the_same_bits(folder, dataset):
    whole = train(recipe(folder), 0, dataset)
    assert (whole.status, whole.steps) == ("done", 6)
    saves = Memory()
    stopped = train(recipe(folder), 0, dataset, saves=saves, stop=lambda: True)
    assert stopped.status == "interrupted"
    resumed = train(recipe(folder), 0, dataset, saves=saves)
    for key in ("train_loss", "test_loss", "train_error", "test_error", "steps"):
        assert resumed.flat()[key] == whole.flat()[key]
    assert train(recipe(folder), 1, dataset).figures["train_loss"] != whole.figures["train_loss"]


def test_ten_crops_of_an_image_of_one_colour_are_judged_as_one(folder):
    ten = load_dataset(Data(f"folder:{folder}", image_size=24, test_crops=10))
    assert ten.view.pixels == 27
    one = load_dataset(Data(f"folder:{folder}", image_size=24))
    out = io.BytesIO()
    Image.new("RGB", (27, 27), (90, 90, 90)).save(out, "PNG")
    constant = dataclasses.replace(ten.test, read=lambda index: (out.getvalue(), index % 2))
    task = make_task(recipe(folder), one)
    state = task.init(jax.random.key(0))
    many = recipe(folder, **{"data.test_crops": 10})
    a = evaluate(task, many.data, state, dataclasses.replace(ten, test=constant), "test")
    b = evaluate(task, recipe(folder).data, state, dataclasses.replace(one, test=constant), "test")
    assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
    assert a["examples"] == b["examples"] == 7


def test_a_stream_keeps_the_contract_of_a_data_set(dataset):
    assert len(check_dataset(dataset)) == 6


def test_a_broken_image_is_named(folder, dataset):
    def read_broken(index):
        return b"not an image", 0

    broken = dataclasses.replace(dataset.train, read=read_broken)
    with pytest.raises(Failed, match=r"dog|cat"):
        list(evaluation_stream(broken, dataset.view, 4))


def test_a_stream_reads_no_further_than_its_run(folder, dataset):
    read_indices = []

    def counted(index):
        read_indices.append(index)
        return dataset.train.read(index)

    counting = dataclasses.replace(dataset, train=dataclasses.replace(dataset.train, read=counted))
    list(training_stream(counting, "none", stream_keys(0), 4, 0, 2))
    assert len(read_indices) == 8


def test_a_contact_sheet_of_a_stream(dataset):
    assert contact_sheet(dataset).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data.augmentation": "pad_crop_flip"}, "is streamed; use random_resized_crop"),
        ({"data.normalization": "pixel_mean"}, "its mean image is not known"),
    ],
)
def test_what_a_stream_cannot_do_is_refused(folder, dataset, settings, message):
    with pytest.raises(Refused, match=message):
        make_task(recipe(folder, **settings), dataset)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"augmentation": "random_resized_crop"}, "digits is in memory"),
        ({"test_crops": 10}, "embedded as it is"),
        ({"pca_colour": 0.1}, "digits has no colour"),
    ],
)
def test_what_a_set_in_memory_cannot_do_is_refused(digits, settings, message):
    base = Recipe(data=Data("digits", **settings))
    with pytest.raises(Refused, match=message):
        make_task(base, load_dataset(base.data))


def test_folders_that_hold_no_set_are_refused(tmp_path, folder):
    def load(path, **options):
        return load_dataset(Data(f"folder:{path}", **options))

    with pytest.raises(Refused, match="there is no folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(Refused, match=r"has train/CLASS/\*\.jpg"):
        load(tmp_path)
    (tmp_path / "train").mkdir()
    with pytest.raises(Refused, match="one for each class"):
        load(tmp_path)
    (tmp_path / "train" / "cat").mkdir()
    (tmp_path / "test" / "bird").mkdir(parents=True)
    with pytest.raises(Refused, match="has not: bird"):
        load(tmp_path)
    (tmp_path / "test" / "bird").rename(tmp_path / "test" / "cat")
    with pytest.raises(Refused, match="holds no images"):
        load(tmp_path)
    with pytest.raises(Refused, match="has no slices"):
        load(folder, train_split="train[:10%]")
    with pytest.raises(Refused, match="always streamed"):
        load(folder, streaming="never")


def test_another_file_is_another_fingerprint(folder, dataset, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    assert load_dataset(Data(f"folder:{copy}", image_size=24)).fingerprint == dataset.fingerprint
    (copy / "train" / "cat" / "new.jpg").write_bytes(photograph(seed=9))
    assert load_dataset(Data(f"folder:{copy}", image_size=24)).fingerprint != dataset.fingerprint


def test_a_tfds_set_streams_the_images_that_it_holds(real_data):
    data = Data("cifar10", image_size=32, streaming="always")
    streamed, held = load_dataset(data, real_data), load_dataset("cifar10", real_data)
    assert isinstance(streamed, StreamedDataset)
    assert len(streamed.train) == 50_000
    labels = [streamed.test.read(i)[1] for i in range(50)]
    assert labels == held.test.labels[:50].tolist()
    batch = next(training_stream(streamed, "none", stream_keys(0), 8, 0, 1))
    assert batch["labels"].tolist() == held.train.labels[batch["indices"]].tolist()
    with pytest.raises(Refused, match="say to which size"):
        load_dataset(Data("cifar10", streaming="always"), real_data)
