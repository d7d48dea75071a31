"""What several commands read from their options."""

import difflib
from collections.abc import Callable, Mapping
from typing import Any

import click

from cnnjax.core.place import PLACEMENTS
from cnnjax.core.recipe import Model, Recipe


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
