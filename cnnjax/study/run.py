"""Run a study to its end, or as far as one gets: checked first, then only what is missing."""

from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from cnnjax.core.config import differences
from cnnjax.core.errors import Refused
from cnnjax.core.files import append_line
from cnnjax.core.folders import own_folder
from cnnjax.core.lock import hold
from cnnjax.core.recipe import Data
from cnnjax.core.registry import create_model, source_digests
from cnnjax.data.dataset import AnyDataset
from cnnjax.data.load import load_dataset, reading
from cnnjax.data.order import total_steps
from cnnjax.study.cells import Cell, Plan
from cnnjax.study.runner import Session, Status, run_cells
from cnnjax.study.store import CellFiles, Store
from cnnjax.study.verdict import power_note
from cnnjax.study.worker import train_cell

Say = Callable[[str], None]


def run_study(
    plan: Plan,
    workdir: Path,
    *,
    command: str,
    data_dir: str | None = None,
    workers: int | None = None,
    cached: bool = True,
    say: Say = lambda line: None,
    on_status: Callable[[Status], None] = lambda status: None,
    stop: Callable[[], bool] = lambda: False,
) -> Session | None:
    """Run the cells of `plan` that `workdir` lacks; None if there were none.

    Args:
      plan: the resolved study.
      workdir: its folder, made if absent.
      command: how a reader repeats the study.
      data_dir: where prepared data sets lie.
      workers: processes; default one a core.
      cached: use the persistent compilation cache.
      say: is told what happens, a line each.
      on_status: called while cells run.
      stop: asked while cells run.

    Raises:
      Refused: anything that is wrong with the study, before any training.
    """
    import jax

    jax.config.update("jax_platforms", "cpu")  # this process counts; the workers own devices
    for variant in plan.variants:  # refused before the data are read
        create_model(variant.recipe.model.name, **variant.recipe.model.fields)
    datasets = load_datasets(plan, data_dir, say)
    costs = check_variants(plan, datasets)
    own_folder(workdir, "study folder", ("study.json", "cells"))
    store = Store(workdir)
    with hold(workdir, "the study"):
        described = describe_data(datasets)
        asked = plan.seeds
        plan, identity = store.claim(plan, described, costs, command, say, data_dir)
        if asked < plan.seeds:
            say(f"{workdir} has {plan.seeds} seeds already; seeds={asked} forgets none of them")
        results = store.results(plan, identity, say)
        missing = [cell for cell in plan.cells if (cell.variant.name, cell.seed) not in results]
        if not missing:
            return None
        say(power_note(plan))
        began = datetime.now(UTC).isoformat(timespec="seconds")
        session = run_cells(
            missing,
            lambda cell: store.files(cell).folder,
            identity,
            datasets,
            training_costs(plan, datasets, costs),
            workers=workers,
            cached=cached,
            on_status=on_status,
            on_failure=lambda cell, error: say(f"{cell.name} failed: {error}"),
            stop=stop,
        )
        append_line(store.sessions, {"began": began, **asdict(session)})
        return session


def repeat_cell(
    store: Store, cell: Cell, folder: Path, data_dir: str | None, say: Say
) -> tuple[dict, dict | None]:
    """Train a cell of a study again in `folder`; the new result and the study's own."""
    plan, document = store.read()
    try:
        old = store.files(cell).read(document["identity"])
    except ValueError as error:
        say(f"{error}; there is nothing to compare with")
        old = None
    sources = source_digests(variant.recipe.model.name for variant in plan.variants)
    if changed := differences(document["sources"], sources):
        raise Refused(f"sources have changed since {store.folder} was run ({'; '.join(changed)})")
    datasets = load_datasets(plan, data_dir or document["data_dir"], say)
    if describe_data(datasets) != document["data"]:
        raise Refused(f"the data are not those of {store.folder}; give their folder: --data-dir")
    files = CellFiles(folder)
    files.begin(cell, document["identity"])
    return train_cell(cell, files, datasets[cell.variant.recipe.data], {}), old


def load_datasets(plan: Plan, data_dir: str | None, say: Say) -> dict[Data, AnyDataset]:
    """Every data set that the plan's recipes name."""
    wanted = {variant.recipe.data for variant in plan.variants}
    read: dict[Data, AnyDataset] = {}
    for data in sorted({reading(data) for data in wanted}, key=repr):
        read[data] = load_dataset(data, data_dir, say)
    return {data: read[reading(data)] for data in sorted(wanted, key=repr)}


def describe_data(datasets: dict[Data, AnyDataset]) -> dict[str, dict]:
    """Name, size, shape and fingerprint of each data set, for study.json."""
    return {
        _reading_of(data): {
            "train": len(dataset.train),
            "test": len(dataset.test),
            "image_shape": list(dataset.image_shape),
            "classes": dataset.num_classes,
            "source": dataset.source,
            "fingerprint": dataset.fingerprint,
        }
        for data, dataset in datasets.items()
    }


def _reading_of(data: Data) -> str:
    """How a set is read, as a key; equal readings share it."""
    parts = [data.train_split, data.test_split, str(data.image_size or "own size")]
    parts += [data.streaming] * (data.streaming != "auto") + ["ten crops"] * (data.test_crops == 10)
    return f"{data.name} ({', '.join(parts)})"


def check_variants(plan: Plan, datasets: dict[Data, AnyDataset]) -> dict[str, dict]:
    """Parameters and MACs of each variant; what cannot be trained is refused here.

    Raises:
      Refused: an unknown or impossible model, a batch larger than the set, unfit images.
    """
    from cnnjax.analysis.cost import model_cost
    from cnnjax.train.loop import make_task

    costs = {}
    counted = {}
    for variant in plan.variants:
        dataset = datasets[variant.recipe.data]
        task = make_task(variant.recipe, dataset)
        total_steps(variant.recipe, len(dataset.train))
        key = (task.model, task.image_shape)
        if key not in counted:
            task.check()
            cost = model_cost(task.model, task.image_shape)
            counted[key] = {"params": cost.params, "macs": cost.macs, "input": list(cost.input)}
        costs[variant.name] = counted[key]
    return costs


def training_costs(
    plan: Plan, datasets: dict[Data, AnyDataset], costs: dict[str, dict]
) -> dict[str, float]:
    """Images times MACs of one cell of each variant: the relative time that it takes."""
    return {
        variant.name: float(
            costs[variant.name]["macs"]
            * total_steps(variant.recipe, len(datasets[variant.recipe.data].train))
            * variant.recipe.batch_size
        )
        for variant in plan.variants
    }
