"""A network with the data on which it is looked at or judged: a run, or imported weights."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from cnnjax.core.environment import start_backend
from cnnjax.core.errors import Refused, Say
from cnnjax.core.recipe import Data
from cnnjax.core.words import counted
from cnnjax.data.dataset import AnyDataset, StreamedDataset
from cnnjax.data.folder import PREFIX
from cnnjax.data.load import load_dataset
from cnnjax.data.normalization import normalization_arrays
from cnnjax.data.order import evaluation_batches
from cnnjax.data.stream import evaluation_stream
from cnnjax.interop.weights import described_weights, load_weights
from cnnjax.tasks.classification import Classification
from cnnjax.tasks.network import evaluated
from cnnjax.tasks.state import TrainState
from cnnjax.tasks.task import Accumulator, Batch
from cnnjax.training.feed import on_device
from cnnjax.training.loop import evaluate
from cnnjax.training.make import data_spec
from cnnjax.training.network import check_fits, holds
from cnnjax.training.program import normalized
from cnnjax.training.restore import dataset_of, read_run, restore_run


@dataclass(frozen=True, eq=False)
class Subject:
    """A network with the data on which it is looked at.

    Attributes:
      state: as a program takes it, with a name for each block.
      data: how the images look on their way to it.
    """

    name: str
    folder: Path
    task: Any
    state: TrainState
    dataset: AnyDataset
    data: Data

    def batch(self, split: str, first: int, count: int) -> tuple[np.ndarray, Batch]:
        """Images `first` to `first` + `count` - 1 of a split: as stored, and as the network takes
        them with their other fields.

        Raises:
          Refused: the split has fewer.
        """
        dataset = self.dataset
        examples: Any = dataset.train if split == "train" else dataset.test
        if first + count > len(examples):
            raise Refused(
                f"{dataset.name} {split} has {counted(len(examples), 'image')}: {first} to"
                f" {first + count - 1} are not all there"
            )
        chosen = examples.at(np.arange(first, first + count))
        if isinstance(dataset, StreamedDataset):
            view = dataset.view.training("none")
            with closing(evaluation_stream(chosen, view, count)) as batches:
                found = next(batches)
        else:
            found = next(evaluation_batches(chosen, count))
        figures = normalization_arrays(self.data, dataset)
        scales: Any = {name: jnp.asarray(array) for name, array in figures.items()}
        batch = {name: jnp.asarray(array) for name, array in found.items()}
        batch["images"] = normalized(batch["images"], scales)
        return np.asarray(found["images"]), batch


def without_data(folder: Path) -> Refused:
    """The error for imported weights that are to be looked at on nothing."""
    return Refused(
        f"{folder} holds weights, which no data belong to; give --data, e.g. --data"
        " folder:photographs"
    )


def load_subject(folder: Path, data: Data | None, data_dir: str | None, say: Say) -> Subject:
    """A run on its own data, or imported weights on `data`.

    Raises:
      Refused: the folder holds neither; `data` are given to a run, or not to weights; there are no
        such data, or they do not fit.
    """
    if holds(folder) == "run":
        if data is not None:
            raise Refused(
                f"--data {data.name} has no effect: {folder} is a run, looked at on the data of its"
                " recipe"
            )
        described = read_run(folder)
        recipe, task, state = restore_run(folder, say)
        dataset = dataset_of(folder, described, recipe, data_dir, say)
        variables = evaluated(state)
        params, rest = variables["params"], {k: v for k, v in variables.items() if k != "params"}
        state = state.replace(params=params, model_state=rest)
        return Subject(recipe.model.name, folder, task, state, dataset, recipe.data)
    if data is None:
        raise without_data(folder)
    return _weights_subject(folder, data, data_dir, say)


def _weights_subject(folder: Path, data: Data, data_dir: str | None, say: Say) -> Subject:
    described, network = described_weights(folder), load_weights(folder)
    if data.normalization == "default":
        data = replace(data, normalization=described["normalization"])
    height, width, _ = network.image_shape
    streamed = data.name.startswith(PREFIX) or data.streaming == "always"
    if streamed and data.image_size is None and height == width:
        data = replace(data, image_size=height)
    dataset = load_dataset(data, data_dir, say)
    on_device(data, dataset)  # settings that do not go with the data are refused
    check_fits(network.module, network.variables, dataset.image_shape)
    task = Classification(model=network.module, data=data_spec(dataset))
    task.check()
    variables = dict(network.variables)
    params = variables.pop("params", {})
    state = TrainState(jnp.zeros((), jnp.int32), params, variables, opt_state=())
    return Subject(network.model.name, folder, task, state, dataset, data)


def evaluate_weights(
    folder: Path,
    data: Data,
    data_dir: str | None,
    split: str,
    say: Say,
    *,
    keep: Callable[[Accumulator], None] = lambda accumulator: None,
) -> dict:
    """`loss`, `top1_error` and `examples` of imported weights on "test" or "train" of `data`.

    Images are normalised as the weights want them unless `data.normalization` says otherwise; a
    folder of images is brought to the size that the weights are for.

    Raises:
      Refused: no such weights or data, or they do not fit.
    """
    start_backend()
    subject = _weights_subject(folder, data, data_dir, say)
    task, data, dataset = subject.task, subject.data, subject.dataset
    accumulator = task.accumulator(detailed=True)
    figures = evaluate(task, data, subject.state, dataset, split, accumulator=accumulator)
    if accumulator is not None:
        keep(accumulator)
    about = {
        "task": "classification",
        "model": subject.name,
        "data": dataset.name,
        "split": split,
    }
    return {**about, "normalization": data.normalization, **figures}
