"""Run a study to its end, or as far as one gets: checked first, then only what is missing."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from cnnjax.core.architectures import create_model
from cnnjax.core.config import compact
from cnnjax.core.environment import check_platform, device_count
from cnnjax.core.errors import Refused, Say, refused_at, unknown
from cnnjax.core.files import append_line
from cnnjax.core.folders import own_folder
from cnnjax.core.lock import hold
from cnnjax.core.place import JIT, Place
from cnnjax.core.recipe import Data, Model
from cnnjax.core.user_code import located
from cnnjax.core.values import digest
from cnnjax.data.dataset import AnyDataset, Dataset
from cnnjax.data.load import load_dataset, reading, reading_words
from cnnjax.data.order import check_batch, total_steps
from cnnjax.data.shared import write_shared
from cnnjax.study.cells import Plan
from cnnjax.study.launch import JOBS, Launcher, run_jobs
from cnnjax.study.match import match_costs
from cnnjax.study.measures import goal_of, probed
from cnnjax.study.outcome import read_outcome
from cnnjax.study.power import power_note
from cnnjax.study.runner import Session, Status, check_workers, run_cells, worker_environments
from cnnjax.study.store import Store
from cnnjax.study.tune import TUNING, as_notes, choices, tuning_plan, with_choices
from cnnjax.study.weights import check_weights_apart
from cnnjax.study.worker import Shared, probe_sources
from cnnjax.tasks.task import Task, aliased

SHARED = ".shared-data"  # in a study's folder while it runs


def run_study(
    plan: Plan,
    workdir: Path,
    *,
    command: str,
    data_dir: str | None = None,
    workers: int | None = None,
    workers_per_device: int = 1,
    place: Place = JIT,
    mixed_bits: bool = False,
    cached: bool = True,
    launcher: Launcher | None = None,
    say: Say = lambda line: None,
    on_begin: Callable[[], object] = lambda: None,
    on_status: Callable[[Status], None] = lambda status: None,
    stop: Callable[[], bool] = lambda: False,
) -> Session | None:
    """Run the cells of `plan` that `workdir` lacks; None if there were none.

    Args:
      plan: the resolved study.
      workdir: its folder, made if absent.
      command: how a reader repeats the study.
      data_dir: where prepared data sets lie.
      workers: processes; default one a core, or `workers_per_device` for each accelerator.
      place: on which devices a cell is trained.
      mixed_bits: go on under another placement than the study began with.
      cached: use the persistent compilation cache.
      launcher: runs the cells as jobs of a cluster; None: this machine does.
      say: is told what happens, a line each.
      on_begin: called when everything is checked and cells begin to run.
      on_status: called while cells run.
      stop: asked while cells run.

    Raises:
      Refused: anything that is wrong with the study, before any training.
    """
    check_platform()
    again = partial(  # for the trials of what is tuned
        run_study,
        command=command,
        data_dir=data_dir,
        workers=workers,
        workers_per_device=workers_per_device,
        place=place,
        mixed_bits=mixed_bits,
        cached=cached,
        launcher=launcher,
        say=say,
        on_begin=on_begin,
        on_status=on_status,
        stop=stop,
    )
    if launcher is None:
        environments = worker_environments(workers, workers_per_device, place)
        run = partial(run_cells, environments=environments)
    else:
        launcher.check()
        check_workers(workers, workers_per_device)
        if place.placement != "jit":
            raise Refused(
                f"--placement {place.placement}: under a launcher a cell is trained on one device;"
                " leave it out"
            )
        run = partial(
            run_jobs,
            launcher=launcher,
            folder=workdir / JOBS,
            name=plan.study,
            workers=workers,
            workers_per_device=workers_per_device,
            say=say,
        )
    place = place.resolved(device_count())
    for variant in plan.variants:  # refused before the data are read
        with refused_at(f"variant {variant.name}"):
            check_batch(place, variant.recipe)
            create_model(variant.recipe.model.name, **variant.recipe.model.fields)
    datasets = load_datasets(plan, data_dir, say)
    plan, matched = match_costs(plan, datasets, say)
    costs, sources = check_variants(plan, datasets, say)
    own_folder(workdir, "study folder", ("study.json", "cells", TUNING))
    notes: dict[str, Any] = {}
    if matched:
        notes["matched"] = [one.sentence for one in matched]
    if plan.tune is not None:
        Store(workdir).check_tuned(plan)
        first = tuning_plan(plan)
        say(f"tuning {', '.join(plan.tune.settings)} first: {len(first.cells)} trials")
        trials = again(first, workdir / TUNING)
        if trials is not None and trials.stopped:
            return trials
        found = choices(plan, read_outcome(workdir / TUNING, say))
        notes["tuned"] = as_notes(found)
        for warning in filter(None, (choice.warning for choice in found)):
            say(warning)
        plan = with_choices(plan, found)
        costs, sources = check_variants(plan, datasets, say)
    store = Store(workdir)
    with hold(workdir, "the study"):
        described = describe_data(datasets)
        asked = plan.seeds
        plan, identity = store.claim(
            plan,
            described,
            costs,
            command,
            say,
            data_dir,
            sources,
            place=place,
            mixed_bits=mixed_bits,
            notes=notes,
        )
        if asked < plan.seeds:
            say(f"{workdir} has {plan.seeds} seeds already; seeds={asked} forgets none of them")
        results = store.results(plan, identity, say)
        missing = [cell for cell in plan.cells if (cell.variant.name, cell.seed) not in results]
        if not missing:
            return None
        if plan.contrasts or not plan.variants[0].first_seed:  # trials are not tested
            say(power_note(plan))
        on_begin()
        began = datetime.now(UTC).isoformat(timespec="seconds")
        laid = share(datasets, workdir / SHARED)
        try:
            session = run(
                missing,
                lambda cell: store.files(cell).folder,
                Shared(
                    identity,
                    laid,
                    data_dir,
                    sources,
                    located(".").absolute(),
                    cached,
                    place,
                    plan.probes,
                ),
                training_costs(plan, datasets, costs),
                on_status=on_status,
                on_failure=lambda cell, error: say(f"{cell.name} failed: {error}"),
                stop=stop,
            )
        finally:
            shutil.rmtree(workdir / SHARED, ignore_errors=True)
        append_line(store.sessions, {"began": began, **asdict(session)})
        return session


def load_datasets(plan: Plan, data_dir: str | None, say: Say) -> dict[Data, AnyDataset]:
    """Every data set that the plan's recipes name."""
    wanted = {variant.recipe.data for variant in plan.variants}
    read: dict[Data, AnyDataset] = {}
    for data in sorted({reading(data) for data in wanted}, key=repr):
        read[data] = load_dataset(data, data_dir, say)
    return {data: read[reading(data)] for data in sorted(wanted, key=repr)}


def share(datasets: Mapping[Data, AnyDataset], folder: Path) -> dict[Data, tuple[str, Path | None]]:
    """Lay what is in memory where every worker maps the same pages; see `Shared.data`."""
    shutil.rmtree(folder, ignore_errors=True)  # of a session that was killed
    laid: dict[Data, tuple[str, Path | None]] = {}
    for data, dataset in datasets.items():
        key = reading(data)
        if key in laid:
            continue
        place = None
        if isinstance(dataset, Dataset):
            place = folder.absolute() / str(len(laid))
            place.mkdir(parents=True)
            write_shared(dataset, place)
        laid[key] = dataset.fingerprint, place
    return laid


def describe_data(datasets: dict[Data, AnyDataset]) -> dict[str, dict]:
    """Name, size, shape and fingerprint of each data set, for study.json."""
    return {
        reading_words(data): {
            "train": len(dataset.train),
            "test": len(dataset.test),
            "image_shape": list(dataset.image_shape),
            "classes": dataset.num_classes,
            "source": dataset.source,
            "fingerprint": dataset.fingerprint,
        }
        for data, dataset in datasets.items()
    }


def check_variants(
    plan: Plan, datasets: dict[Data, AnyDataset], say: Say = lambda line: None
) -> tuple[dict[str, dict], dict[str, str]]:
    """Parameters and MACs of each variant, and the digests of the users' files behind them.

    Raises:
      Refused: what cannot be trained: an unknown or impossible model, a batch larger than the set,
        unfit images.
    """
    from cnnjax.analysis.cost import model_cost
    from cnnjax.training.make import make_task, sources_of
    from cnnjax.training.pretrained import weights_digest

    costs, counted, twins, pretrained = {}, {}, {}, []
    sources = probe_sources(plan.probes)
    for variant in plan.variants:
        recipe = variant.recipe
        dataset = datasets[recipe.data]
        with refused_at(f"variant {variant.name}"):
            task = make_task(recipe, dataset)
            total_steps(recipe, len(dataset.train))
        _check_measured(plan, variant.name, task)
        for file, sha256 in (sources_of(recipe, task) | weights_digest(recipe)).items():
            if sources.setdefault(file, sha256) != sha256:
                raise Refused(f"{file} was edited while it was read; type the command again")
        rest = digest(compact(replace(recipe, model=Model(), source="")))
        if (twin := twins.setdefault((task.model, rest), variant.name)) != variant.name:
            raise Refused(f"study {plan.study}: {twin} and {variant.name} are the same network")
        key = (task, recipe.batch_size, recipe.init)
        if key not in counted:
            with refused_at(f"variant {variant.name}"):
                task.check(recipe.batch_size)
                layers = _layers(plan, task, recipe.batch_size)
            cost = model_cost(task.model, task.data.image_shape)
            pretrained += [(recipe, task.data)] if recipe.init.weights is not None else []
            numbers = {"params": cost.params, "macs": cost.macs, "input": list(cost.input)}
            counted[key] = numbers, layers
        costs[variant.name], layers = counted[key]
        _check_probed(plan, variant.name, layers)
    check_weights_apart(pretrained, say)
    return costs, dict(sorted(sources.items()))


def _layers(plan: Plan, task: Task, batch_size: int) -> dict[str, tuple[str, ...] | None]:
    """Of each probe the layers that it tells of in this network; None: it gives one number."""
    if not plan.probes:
        return {}
    from cnnjax.probes.registry import PROBES
    from cnnjax.training.probing import check_probe

    return {
        probe.label: check_probe(probe.name, PROBES.find(probe.name).make, task, batch_size)
        for probe in plan.probes
    }


def _check_probed(plan: Plan, variant: str, layers: Mapping[str, tuple[str, ...] | None]) -> None:
    """Refuse a contrast on what a probe does not see in a variant."""
    for contrast in plan.contrasts:
        of_probe = probed(contrast.metric)
        if of_probe is None or variant not in plan.weights(contrast):
            continue
        moment, layer = of_probe
        label, _, share = moment.rpartition("@")
        known = layers[label]
        with refused_at(f"contrast {contrast.title}, variant {variant}"):
            if known is None and layer:
                raise Refused(f"probe {label} gives one number: write {moment}")
            if known is not None and layer not in known:
                if not layer:
                    raise Refused(f"say of which layer: {label}/{known[0]}@{share}")
                raise unknown(f"layer that probe {label} tells of:", layer, known)


def _check_measured(plan: Plan, variant: str, task: Task) -> None:
    """Refuse a metric that the task has, but not on these data (top-5 of five classes)."""
    there = {metric.name for metric in task.judged}
    for name in plan.metrics:
        goal = goal_of(name)
        figure = goal.figure if goal else name
        if (
            aliased(task.aliases, figure.replace("batch_", "train_", 1)).partition("_")[2]
            not in there
        ):
            raise Refused(
                f"study {plan.study}: {variant} on data set {task.data.name} has no {name};"
                f" there is {', '.join(sorted(there))}"
            )


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
