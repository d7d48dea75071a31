"""`cnnjax settings`."""

from typing import Any

import click

from cnnjax.cli.options import changed
from cnnjax.cli.output import json_option, print_json, print_table


@click.command()
@click.argument("prefix", default="")
@click.option(
    "--recipe",
    "recipe_name",
    default="he2015_cifar",
    show_default=True,
    help="Whose values are the defaults, as in cnnjax train: he2015_cifar, lecun1998,"
    " small_images or small_scenes.",
)
@click.option("--task", help="With the settings of this task.  [default: the recipe's]")
@click.option("--model", help="With the fields of this network.  [default: the recipe's]")
@click.option("--optimizer", help="With the settings of this optimiser.  [default: the recipe's]")
@json_option
def settings(
    prefix: str,
    recipe_name: str,
    task: str | None,
    model: str | None,
    optimizer: str | None,
    as_json: bool,
) -> None:
    """List what --set and a study's factors take: the settings that begin with PREFIX, or all.

    \b
      cnnjax settings data
      cnnjax settings optimizer --optimizer adamw
      cnnjax settings model --model my_net.py:MyNet

    Each with its values, its default in the recipe, and what it does. A name (of a task, a network,
    an optimiser) decides which settings there are in its group.
    """
    from cnnjax.core.errors import unknown
    from cnnjax.core.listing import list_settings
    from cnnjax.core.registry import REQUIRED
    from cnnjax.training.recipes import RECIPES

    if recipe_name not in RECIPES:
        raise unknown("recipe", recipe_name, RECIPES)
    names = {
        "task.name": ("--task", task),
        "model.name": ("--model", model),
        "optimizer.name": ("--optimizer", optimizer),
    }
    recipe = RECIPES[recipe_name]
    if any(name is not None for _, name in names.values()):  # else nothing imports jax
        recipe = changed(recipe, names, ())
    found = list_settings(recipe, prefix)
    if as_json:
        rows = [
            {
                "path": one.path,
                "type": one.type,
                "default": None if one.default is REQUIRED else _json(one.default),
                "allowed": one.allowed,
                "sentence": one.sentence,
            }
            for one in found
        ]
        print_json({"recipe": recipe_name, "settings": rows})
        return
    print_table(
        ("setting", "default", "values", "what it does"),
        [
            (
                one.path,
                "(needed)" if one.default is REQUIRED else typed(one.default),
                one.type if one.allowed is None else ", ".join(map(typed, one.allowed)),
                one.sentence,
            )
            for one in found
        ],
    )


def typed(value: Any) -> str:
    """A value as it is typed behind --set."""
    from cnnjax.core.values import shown

    return shown(value)


def _json(value: Any) -> Any:
    """What JSON has no form for, a user's object say, as a word."""
    import json

    try:
        return json.loads(json.dumps(value, default=str, allow_nan=False))
    except (TypeError, ValueError):  # names that are no words, a number that is none
        return typed(value)
