"""The Python interface: a study, a training, a network, each by one call.

For a notebook or a script. Nothing needs a guard: workers are programs of their own.
"""

import functools
import html
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.cli.output import ProgressLine, say
from cnnjax.core.architectures import MODELS, create_model
from cnnjax.core.config import canonical
from cnnjax.core.environment import configure_xla, start_backend
from cnnjax.core.errors import Refused
from cnnjax.core.files import read_lines
from cnnjax.core.place import JIT, Place
from cnnjax.core.recipe import Model, Recipe
from cnnjax.core.user_code import refused
from cnnjax.core.words import counted
from cnnjax.data.dataset import AnyDataset
from cnnjax.data.load import load_dataset
from cnnjax.data.order import check_batch
from cnnjax.interop.weights import Network
from cnnjax.study.launch import Launcher
from cnnjax.study.spec import Study
from cnnjax.training.signals import StopRequest


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came out of a study; shows itself in a notebook.

    Attributes:
      contrasts: one dict for each contrast: difference, interval, p, verdict, sentence, ...
      cells: one flat dict for each cell: its levels, seed, status and metrics; for
        `pandas.DataFrame(outcome.cells)`.
      report: the page.
      folder: of the study.
      complete: whether every cell has a result.
    """

    contrasts: list[dict[str, Any]]
    cells: list[dict[str, Any]]
    report: Path
    folder: Path
    complete: bool
    _tables: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        done = sum(cell["status"] in ("done", "diverged") for cell in self.cells)
        lines = [f"{done} of {counted(len(self.cells), 'cell')} done; {self.report}"]
        return "\n".join([*lines, *(f"* {one['sentence']}" for one in self.contrasts)])

    def _repr_html_(self) -> str:
        sentences = "".join(f"<li>{html.escape(c['sentence'])}</li>" for c in self.contrasts)
        tables = "".join(_html_table(table) for table in self._tables)
        return f"<ul>{sentences}</ul>{tables}<p>{html.escape(str(self.report))}</p>"


@dataclass(frozen=True, eq=False)
class Run:
    """A training that has ended, or was interrupted.

    Attributes:
      folder: of the run.
      result: how it ended: status, steps, the metrics of both splits, seconds.
    """

    folder: Path
    result: dict[str, Any]
    _dataset: AnyDataset | None = None

    @property
    def history(self) -> list[dict[str, Any]]:
        """The figures of each epoch."""
        return read_lines(self.folder / "metrics.jsonl")

    @functools.cached_property
    def network(self) -> Network:
        """The module with its trained variables (their moving average, if one is kept)."""
        from cnnjax.training.network import load_network

        return load_network(self.folder, say)

    def predict(self, images: np.ndarray, batch_size: int = 256) -> np.ndarray:
        """The network's outputs for stored images: float32 [n, k]; of a classifier the logits.

        Args:
          images: uint8 [n, h, w, c], of the size of the run's data; normalised as its test images.
        """
        from cnnjax.training.network import predict_stored

        return predict_stored(self._outputs, self.network.image_shape, images, batch_size)

    @functools.cached_property
    def _outputs(self) -> Callable[[Any], Any]:
        from cnnjax.training.network import stored_outputs

        return stored_outputs(self.folder, self.network, say, self._dataset)


def run_study(
    study: Study,
    preset: str = "quick",
    *,
    workdir: str | Path | None = None,
    data: str | None = None,
    data_dir: str | None = None,
    settings: Mapping[str, Any] | None = None,
    seeds: int | None = None,
    workers: int | None = None,
    workers_per_device: int = 1,
    place: Place = JIT,
    mixed_bits: bool = False,
    launcher: Launcher | None = None,
    progress: bool = True,
) -> Outcome:
    """Run the cells that `workdir` lacks, judge, write the report.

    Interrupt it at any moment: the same call goes on, with the same bits.

    Args:
      study: as `cnnjax study run` takes it from a file.
      preset: one of its sizes.
      workdir: default runs/NAME-PRESET.
      data, data_dir, seeds, workers, workers_per_device: as the options of `cnnjax study run`.
      place: on which devices a cell is trained: `Place("pmap")`.
      mixed_bits: go on under another placement than the study began with.
      launcher: runs the cells as jobs of a cluster: `Launcher("slurm", jobs=8, options=...)`.
      settings: {"path": value} over the base recipe.
      progress: show it on standard error.

    Raises:
      Refused: something is wrong with the study; nothing was run.
      KeyboardInterrupt: it was interrupted; what is done is kept.
    """
    configure_xla()
    from cnnjax.core.config import Assignment
    from cnnjax.core.values import plain, shown
    from cnnjax.report.page import write_report
    from cnnjax.report.tables import contrast_table, metric_table
    from cnnjax.study.cells import resolve
    from cnnjax.study.outcome import as_json
    from cnnjax.study.run import run_study as run

    folder = Path(workdir or f"runs/{study.name}-{preset}")
    given = [
        Assignment(path, plain(value), f"settings[{path!r}]={shown(value)}")
        for path, value in (settings or {}).items()
    ]
    plan = resolve(study, preset, data=data, settings=tuple(given), seeds=seeds)
    shown_call = {"data": data, "data_dir": data_dir, "settings": settings, "seeds": seeds}
    shown_call |= {"place": None if place == JIT else place}
    more = "".join(f", {key}={value!r}" for key, value in shown_call.items() if value is not None)
    with _shown(f"{study.name} ({preset})", progress) as line, StopRequest(leaves=False) as stop:
        session = run(
            plan,
            folder,
            command=f"cnnjax.run_study(study, {preset!r}, workdir={str(folder)!r}{more})",
            data_dir=data_dir,
            workers=workers,
            workers_per_device=workers_per_device,
            place=place,
            mixed_bits=mixed_bits,
            launcher=launcher,
            say=say if progress else lambda text: None,
            on_begin=stop.listen,
            on_status=lambda status: line(status.part, f"{status.done}/{status.total} cells"),
            stop=stop,
        )
    if session is not None and session.stopped:
        raise KeyboardInterrupt(f"{folder} keeps what is done; the same call goes on")
    written = write_report(folder)
    found = as_json(written.outcome, written.html)
    cells = [{**cell.pop("variant"), **cell} for cell in found["cells"]]
    return Outcome(
        contrasts=found["contrasts"],
        cells=cells,
        report=written.html,
        folder=folder,
        complete=not written.outcome.missing,
        _tables=(metric_table(written.outcome), contrast_table(written.outcome)),
    )


def train(
    recipe: Recipe,
    *,
    workdir: str | Path,
    seed: int = 0,
    dataset: AnyDataset | None = None,
    data_dir: str | None = None,
    place: Place = JIT,
    peer_seconds: float = 300.0,
    progress: bool = True,
) -> Run:
    """Train one network in `workdir`, going on from what is there; see `cnnjax train`.

    Args:
      dataset: arrays of one's own, or what `load_dataset(recipe.data)` gave; default: it is read.
      place: on which devices: `Place("sharded", devices=8)`.
      peer_seconds: where you have called jax.distributed.initialize(): how long to wait for a
        process that does not move; then this one ends, with exit code 75.

    Raises:
      Refused: something is wrong with recipe, data or folder; nothing was run.
      KeyboardInterrupt: it was interrupted, and saved.
    """
    configure_xla()
    from cnnjax.training.placement import make_placement
    from cnnjax.training.run import train_run

    recipe = canonical(recipe)
    there, wanted = dataset and len(dataset.train), recipe.data.train_examples
    if there and wanted not in (None, there):
        raise Refused(
            f"data.train_examples={wanted}, and the data set that is given has {there}; give"
            " load_dataset(recipe.data), or leave one of the two out"
        )
    start_backend()
    check_batch(make_placement(place).place, recipe)  # refused before the data are read
    dataset = load_dataset(recipe.data, data_dir, say) if dataset is None else dataset
    title = f"{recipe.model.name} on {dataset.name}"
    with _shown(title, progress) as line, StopRequest(leaves=False) as stop:
        result = train_run(
            recipe,
            seed,
            dataset,
            Path(workdir),
            data_dir=data_dir,
            place=place,
            peer_seconds=peer_seconds,
            on_progress=lambda p: line(p.part, f"{p.phase}, step {p.step}/{p.steps} {p.figure}"),
            stop=stop.listen(),
            say=say if progress else lambda text: None,
        )
    if result["status"] == "interrupted":
        raise KeyboardInterrupt(f"{workdir} is saved at step {result['steps']}; the same call"
                                " goes on")  # fmt: skip
    return Run(Path(workdir), result, dataset)


def load_run(folder: str | Path, dataset: AnyDataset | None = None) -> Run:
    """A run that `train` or `cnnjax train` left in a folder.

    Args:
      dataset: that `train` was given, if it was; it normalises the images of `Run.predict`.

    Raises:
      Refused: the folder holds no run, one that has not ended, or one of other data.
    """
    from cnnjax.training.restore import check_dataset, read_result, read_run

    folder = Path(folder)
    result = read_result(folder)
    if dataset is not None:
        check_dataset(folder, read_run(folder), dataset)
    return Run(folder, result, dataset)


def init_network(
    name: str, image_shape: tuple[int, int, int] | None = None, seed: int = 0, **fields: Any
) -> Network:
    """A network with fresh parameters, the same as those with which a run of this seed begins.

    Args:
      name: a name or FILE.py:Class.
      image_shape: height, width, channels; default the model's own.
      fields: of the model, e.g. num_classes=100.

    Raises:
      Refused: no such model, or it does not take such images.
    """
    configure_xla()
    from cnnjax.core.random import stream_keys
    from cnnjax.tasks.network import fresh_variables

    module = create_model(name, **fields)
    shape = image_shape or MODELS.find(name).input_shape
    if shape is None:
        raise Refused(f"{name} has no default image_shape; give (height, width, channels)")
    if len(shape) != 3 or min(shape) < 1:
        raise Refused(f"image_shape={shape}: give (height, width, channels)")
    key = stream_keys(seed)["init"]
    with refused(f"{name} does not take images of {'x'.join(map(str, shape))}"):
        variables = fresh_variables(module, shape, key)
    return Network(Model(name, fields), module, variables, shape)


@contextmanager
def _shown(what: str, wanted: bool) -> Iterator[Callable[[float, str], None]]:
    """A progress bar, if it is wanted."""
    if not wanted:
        yield lambda part, text: None
        return
    with ProgressLine(what) as line:
        yield line.update


def _html_table(table: Any) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in table.head)
    rows = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows
    )
    caption = f"<caption>{html.escape(table.caption)}</caption>"
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
