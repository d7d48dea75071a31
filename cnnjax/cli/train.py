"""`cnnjax train`."""

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cnnjax.cli.options import changed, cluster_options, for_its_model, place_options
from cnnjax.cli.output import (
    Folder,
    ProgressLine,
    data_dir_option,
    duration,
    json_option,
    print_json,
    print_table,
    say,
    seed_option,
    set_option,
    shown,
    units_of,
)

if TYPE_CHECKING:
    from cnnjax.training.progress import Progress


@click.command()
@click.option("--workdir", type=Folder(), required=True, metavar="DIR", help="Folder of this run.")
@click.option(
    "--recipe",
    "recipe_name",
    default="he2015_cifar",
    show_default=True,
    help="What is not given comes from it: he2015_cifar (cifar_resnet20 on cifar10, 164"
    " epochs, batch 128, rate 0.1), lecun1998 (lenet5 on mnist, 20 epochs, batch 32, rate 0.005),"
    " small_images (half as wide, on digits, 15 epochs, batch"
    " 96, rate 0.05, cosine) or small_scenes (unet_small on scattered_digits).",
)
@click.option(
    "--task",
    help="classification, detection, segmentation, or FILE.py:Class.  [default: what the network is"
    " for]",
)
@click.option(
    "--model",
    help="A name (see: cnnjax models) or FILE.py:Class, with its own fields, not the recipe's."
    "  [default: the recipe's]",
)
@click.option(
    "--data",
    help="digits, any set of tensorflow-datasets, folder:DIR, coco:DIR, masks:DIR,"
    " FILE.npz or FILE.py:function (see:"
    " cnnjax data --help).  [default: the recipe's]",
)
@data_dir_option
@click.option(
    "--epochs",
    type=int,
    help="Length of the run; the schedule stretches with it.  [default: the recipe's]",
)
@click.option(
    "--batch-size",
    type=int,
    help="Examples in one update, over all devices.  [default: the recipe's]",
)
@click.option("--learning-rate", type=float, help="Peak of the schedule.  [default: the recipe's]")
@seed_option
@set_option
@click.option(
    "--save-every",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two checkpoints.",
)
@place_options
@cluster_options
@json_option
def train(
    workdir: str,
    recipe_name: str,
    task: str | None,
    model: str | None,
    data: str | None,
    data_dir: str | None,
    epochs: int | None,
    batch_size: int | None,
    learning_rate: float | None,
    seed: int,
    settings: tuple[str, ...],
    save_every: float,
    placement: str,
    devices: int | None,
    model_shards: int,
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
    peer_timeout: float,
    as_json: bool,
) -> None:  # fmt: skip
    """Train one network in the folder --workdir.

    \b
      cnnjax train --model cifar_resnet20 --data cifar10 --epochs 2 --workdir runs/first

    The same command goes on where it stopped: interrupt it (Ctrl-C saves), kill it, run it again;
    the result is bit-identical. It keeps checkpoints, metrics.jsonl and TensorBoard events.
    """
    from cnnjax.cli.supervisor import leaving_at_once, supervise
    from cnnjax.core.config import canonical
    from cnnjax.core.distributed import (
        Cluster,
        in_all,
        is_first,
        join,
        peers_named,
        surrounding,
    )
    from cnnjax.core.environment import check_platform, configure_xla, start_backend
    from cnnjax.core.errors import Refused, unknown
    from cnnjax.core.place import Place
    from cnnjax.core.values import plain
    from cnnjax.training.recipes import RECIPES

    configure_xla()
    place = Place(placement, devices, model_shards)
    cluster = Cluster(coordinator, num_processes, process_id)
    if cluster == Cluster():
        cluster = surrounding() if placement == "sharded" else None
    if cluster and placement != "sharded":
        raise Refused(
            f"--placement {placement}: processes that train together need --placement sharded"
        )
    if recipe_name not in RECIPES:
        raise unknown("recipe", recipe_name, RECIPES)
    if not math.isfinite(save_every):
        raise Refused(f"--save-every {save_every}: give seconds, 0 or more")
    if cluster:
        supervise(cluster, peer_timeout)  # before a user's file is loaded: the child loads it
    options = {
        "task.name": ("--task", task),
        "model.name": ("--model", model),
        "data.name": ("--data", data),
        "epochs": ("--epochs", epochs),
        "batch_size": ("--batch-size", batch_size),
        "optimizer.learning_rate": ("--learning-rate", learning_rate),
    }
    recipe = canonical(
        changed(for_its_model(RECIPES[recipe_name], options, settings), options, settings)
    )

    from cnnjax.core.architectures import create_model
    from cnnjax.data.load import load_dataset
    from cnnjax.data.order import check_batch
    from cnnjax.training.placement import make_placement

    create_model(recipe.model.name, **recipe.model.fields)  # refused before the data are read

    from cnnjax.training.compile_cache import compile_cache
    from cnnjax.training.run import train_run
    from cnnjax.training.signals import StopRequest

    with leaving_at_once(cluster), peers_named():
        if cluster:
            check_platform()
            join(cluster, peer_timeout)
        start_backend()
        check_batch(make_placement(place).place, recipe)
        told = say if is_first() else (lambda line: None)
        dataset = in_all(lambda: load_dataset(recipe.data, data_dir, told))
        stop = StopRequest(apart=0.5 if cluster else 0.0).listen()
        heading = f"{recipe.model.name} on {dataset.name}"
        # Of several processes jax fills the cache from the first alone.
        with compile_cache(enabled=not cluster), ProgressLine(heading) as line:
            result = train_run(
                recipe,
                seed,
                dataset,
                Path(workdir),
                data_dir=data_dir,
                save_seconds=save_every,
                place=place,
                peer_seconds=peer_timeout,
                on_progress=lambda progress: line.update(progress.part, _words(progress)),
                stop=stop,
                say=say,
            )
    result = {"model": plain(recipe.model), "data": dataset.name, "workdir": workdir, **result}
    if is_first():
        _tell(result, recipe.task.name, len(dataset.test), as_json)
    if result["status"] == "interrupted":
        sys.exit(stop.exit_code)
    if result["status"] == "diverged":
        sys.exit(1)


def _tell(result: dict, task: str, test_examples: int, as_json: bool) -> None:
    """What came out, and how far runs with other seeds would lie from it."""
    from cnnjax.study.statistics import expected_sd
    from cnnjax.tasks.registry import TASKS
    from cnnjax.tasks.task import figures_in

    if result["status"] == "interrupted":
        say(f"interrupted at step {result['steps']} and saved; the same command goes on")
        return
    if as_json:
        print_json(result)
    else:
        keys = ("status", "steps", *figures_in(result), "train_seconds", "compile_seconds")
        units = units_of(task)
        print_table(("", ""), [(key, shown(result[key], units.get(key))) for key in keys])
        task_class: Any = TASKS.find(task).make
        for metric in task_class.metrics:
            name = f"test_{metric.name}"
            if metric.decisions and result["status"] == "done" and (error := result.get(name)):
                say(
                    f"{name}: runs with other seeds scatter by about"
                    f" {expected_sd(error, test_examples):.2f} points, if together they"
                    f" are calibrated (foretold from it and {test_examples:,} test images:"
                    " docs/statistics.md)"
                )
    if result["status"] == "diverged":
        where = result["diverged"]
        say(f"diverged at step {where['step']}: {where['leaf']} is not finite")


def _words(progress: "Progress") -> str:
    if progress.phase == "compiling":  # before it is known from which step the run goes on
        return progress.phase
    text = f"epoch {progress.epoch + 1}, step {progress.step}/{progress.steps}"
    if progress.seconds_left is None:
        return f"{progress.phase}, {text}"
    if progress.figure:
        text += f", {progress.figure}"
    if progress.phase == "training":
        text += f", {progress.images_per_second:,.0f} img/s"
    else:
        text += f", {progress.phase}"
    return f"{text}, {duration(progress.seconds_left)} left"
