"""What several commands read from their options."""

import difflib
from collections.abc import Callable, Mapping
from typing import Any

import click

from cnnjax.core.place import PLACEMENTS
from cnnjax.core.recipe import Model, Recipe, Task

# What decides which images imported weights see, and how they look.
IMAGES_OF_WEIGHTS = (
    *("data.train_split", "data.test_split", "data.image_size", "data.streaming"),
    "data.normalization",
)


def place_options(command: Callable) -> Callable:
    """--placement, --devices, --model-shards."""
    for option in (
        click.option(
            "--model-shards",
            type=int,
            default=1,
            show_default=True,
            help="Of sharded: over how many devices each parameter is divided.",
        ),
        click.option("--devices", type=int, help="How many devices.  [default: all; one for jit]"),
        click.option(
            "--placement",
            default="jit",
            show_default=True,
            metavar="|".join(PLACEMENTS),
            help="One device, the devices of a host, or a mesh of devices. The batch size is that"
            " over all of them; figures are equal up to rounding.",
        ),
    ):
        command = option(command)
    return command


def cluster_options(command: Callable) -> Callable:
    """--coordinator, --num-processes, --process-id, --peer-timeout."""
    for option in (
        click.option(
            "--peer-timeout",
            type=click.FloatRange(min=1),
            default=300.0,
            show_default=True,
            metavar="SECONDS",
            help="How long to wait for another process of the training, to come or to move.",
        ),
        click.option("--process-id", type=int, metavar="I", help="This process, from 0."),
        click.option("--num-processes", type=int, metavar="N", help="How many train together."),
        click.option(
            "--coordinator",
            metavar="HOST:PORT",
            help="Of process 0, where the processes of one training meet: type the command once for"
            " each, with --placement sharded. Under srun and on TPU pods this is found.",
        ),
    ):
        command = option(command)
    return command


def launcher_options(command: Callable) -> Callable:
    """--launcher, --jobs, --job-option."""
    for option in (
        click.option(
            "--job-option",
            "job_options",
            multiple=True,
            metavar="KEY=VALUE",
            help="Of a job, by submitit's names, repeatable: time=240 (minutes, needed),"
            " partition=gpu, gpus_per_node=8, cpus_per_task=32.",
        ),
        click.option("--jobs", type=click.IntRange(min=1), help="How many.  [default: 1]"),
        click.option(
            "--launcher",
            metavar="slurm|local",
            help="Run the cells as jobs of a cluster that shares the folder, each on a node of its"
            " own; local: as processes here, to try it. Needs submitit: pip install"
            " 'cnnjax[slurm]'.",
        ),
    ):
        command = option(command)
    return command


def launcher_from(name: str | None, jobs: int | None, options: tuple[str, ...]) -> Any:
    """The launcher that the options describe; None: there is none.

    Raises:
      Refused: an option without a launcher, or one that is no KEY=VALUE.
    """
    from cnnjax.core.config import json_or_word
    from cnnjax.core.errors import Refused

    if name is None:
        if jobs is not None or options:
            what = f"--jobs {jobs}" if jobs is not None else f"--job-option {options[0]}"
            raise Refused(f"{what} has no effect without --launcher")
        return None
    from cnnjax.study.launch import Launcher

    given: dict[str, Any] = {}
    for text in options:
        key, separator, value = text.partition("=")
        if not separator or not key or key in given:
            what = "is given twice" if key in given else "write it as KEY=VALUE, e.g. time=240"
            raise Refused(f"--job-option {text}: {what}")
        given[key] = json_or_word(value)
    return Launcher(name, jobs or 1, given)  # type: ignore[arg-type]


def changed(
    recipe: Recipe, options: Mapping[str, tuple[str, Any]], settings: tuple[str, ...]
) -> Recipe:
    """`recipe` with options and --set.

    Args:
      options: by the path that they set, the flag and its value; None: not given.
      settings: "KEY=VALUE".

    Raises:
      Refused: a setting is unknown, given twice, or has no effect.
    """
    from cnnjax.core.config import Assignment, assignment, override_all

    given = [
        Assignment(path, value, f"{flag} {value}")
        for path, (flag, value) in options.items()
        if value is not None
    ]
    return override_all(recipe, [*given, *(assignment(text) for text in settings)])


def for_its_model(
    recipe: Recipe, options: Mapping[str, tuple[str, Any]], settings: tuple[str, ...]
) -> Recipe:
    """`recipe` with the task that the chosen network is for, where no other is named.

    Args:
      options, settings: as of `changed`.
    """
    from cnnjax.core.architectures import MODELS
    from cnnjax.core.config import assignment
    from cnnjax.core.user_code import is_own

    given = {path: value for path, (_, value) in options.items() if value is not None}
    given |= {one.path: one.value for one in map(assignment, settings)}
    name = str(given.get("model.name", recipe.model.name))
    if "task.name" in given or is_own(name):
        return recipe
    task = MODELS.find(name).task
    return recipe if task == recipe.task.name else recipe.replace(task=Task(task))


def model_from(name: str, settings: tuple[str, ...]) -> Model:
    """The model `name` with what --set says.

    Raises:
      Refused: no such model or field; a setting that is not the model's.
    """
    from cnnjax.core.architectures import MODELS

    MODELS.find(name)
    only(settings, ("model.",), "only model.FIELD=VALUE counts here")
    return changed(Recipe(), {"model.name": ("the model", name)}, settings).model


def only(settings: tuple[str, ...], allowed: tuple[str, ...], why: str) -> None:
    """Refuse a --set outside of what has an effect here.

    Args:
      allowed: whole paths, or beginnings that end in a dot.
    """
    from cnnjax.core.config import assignment
    from cnnjax.core.errors import Refused

    for text in settings:
        path = assignment(text).path
        if not any(path == a or (a.endswith(".") and path.startswith(a)) for a in allowed):
            near = difflib.get_close_matches(path, allowed, n=1, cutoff=0.9)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise Refused(f"--set {text} has no effect: {why}{hint}")


def start_jax() -> None:
    """Start the backend; what the command compiles is kept for others, until it ends."""
    from cnnjax.core.environment import start_backend
    from cnnjax.training.compile_cache import compile_cache

    start_backend()
    click.get_current_context().with_resource(compile_cache())
