"""Writes what in docs/ is made by a program (make docs); a test holds it current.

The pages of reference/ come from the dataclasses, the registries and their docstrings, the notebook
from docs/python.md.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from cnnjax import RECIPES, Model, Optimizer, Recipe, list_models
from cnnjax.core.architectures import MODELS
from cnnjax.core.config import effective
from cnnjax.core.listing import Described, list_settings
from cnnjax.core.recipe import Named
from cnnjax.core.values import shown
from cnnjax.tasks.optimizers import OPTIMIZERS
from cnnjax.tasks.registry import TASKS

HERE = Path(__file__).parent
MADE = "<!-- Written by: make docs; a test holds it current. -->"
HEAD = ("setting", "default", "values", "what it does")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def row(one: Described) -> list[str]:
    """One setting."""
    values = one.type if one.allowed is None else ", ".join(map(shown, one.allowed))
    return [f"`{one.path}`", f"`{shown(one.default)}`", values, one.sentence]


def first_line(thing: Any) -> str:
    """Of its docstring, up to its first stop."""
    return " ".join((thing.__doc__ or "").split("\n\n")[0].split())


def settings_page() -> str:
    """Every setting of a recipe, with what the names decide."""
    default = Recipe()
    parts = [
        "# Settings",
        MADE,
        "What `--set PATH=VALUE` and a study's factors take. `cnnjax settings [PREFIX]` lists them"
        " with the defaults of a recipe and the fields of any task, network or optimiser, your own"
        " too. A value is JSON or a word; `null` is Python's `None`.",
    ]
    single = [f.name for f in fields(default) if f.name in {o.path for o in list_settings(default)}]
    parts += ["## The run", table(HEAD, [row(list_settings(default, name)[0]) for name in single])]
    for field in fields(default):
        value = getattr(default, field.name)
        if not hasattr(value, "__dataclass_fields__"):
            continue
        found = list_settings(default, f"{field.name}.")
        if isinstance(value, Named):
            found = found[:1]
        parts += [f"## {field.name}", first_line(type(value)), table(HEAD, map(row, found))]
        if isinstance(value, Optimizer):
            parts += optimizers()
        if isinstance(value, Model):
            parts += models()
    parts += ["## Recipes", "Where a recipe differs from these defaults.", recipes()]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def optimizers() -> list[str]:
    """What each name has, with its defaults; what all have."""
    names = OPTIMIZERS.names()
    own = {name: OPTIMIZERS.settings(name) for name in names}
    shared = [path for path in own["sgd"] if all(path in known for known in own.values())]
    found = {one.path: one for name in names for one in list_settings(_with(name), "optimizer.")}
    keys = list(dict.fromkeys(key for known in own.values() for key in known))
    numbers = [key for key in keys if key not in shared or key in ("learning_rate", "weight_decay")]
    defaults = [
        [f"`{name}`", *(shown(own[name][k].default) if k in own[name] else "" for k in numbers)]
        for name in names
    ]
    sentences = [[f"`optimizer.{key}`", found[f"optimizer.{key}"].sentence] for key in numbers]
    common = [row(found[f"optimizer.{key}"]) for key in shared if key not in numbers]
    return [
        "Each name has its own settings, with these defaults:",
        table(("name", *numbers), defaults),
        table(("setting", "what it does"), sentences),
        "Every name has:",
        table(HEAD, common),
    ]


def _with(optimizer: str) -> Recipe:
    return Recipe(optimizer=Optimizer(optimizer))


def models() -> list[str]:
    """The fields of each family."""
    parts = ["Fields are those of the network's class; a name fixes some of their defaults."]
    families: dict[Any, list[str]] = {}
    for name in list_models():
        families.setdefault(MODELS.find(name).make, []).append(name)
    for names in families.values():
        found = list_settings(Recipe(model=Model(names[0])), "model.")[1:]
        parts += [f"### {names[0]} and its kind", table(HEAD, map(row, found))]
    return parts


def recipes() -> str:
    """In what the named recipes differ from a plain one."""
    plain, rows = effective(Recipe()), []
    for name, recipe in RECIPES.items():
        given = [
            f"`{path}={shown(value)}`"
            for path, value in effective(recipe).items()
            if plain.get(path) != value and path != "source" and not _by_name(recipe, path)
        ]
        rows.append([f"`{name}`", ", ".join(given), recipe.source])
    return table(("recipe", "settings", "source"), rows)


def _by_name(recipe: Recipe, path: str) -> bool:
    """Whether a setting is as the name of its part has it."""
    group, _, key = path.partition(".")
    part = getattr(recipe, group)
    return isinstance(part, Named) and key not in ("name", *part.fields)


def metrics_page() -> str:
    """What each task is judged by, and under which names it is found."""
    parts = [
        "# Metrics",
        MADE,
        "A task declares by what it is judged; `train`, `eval`, studies and reports know no more."
        " A study says `train_` or `test_` and a name: the whole split, in evaluation mode. In"
        " metrics.jsonl `test_` is the same after each epoch, and `batch_` is of the epoch's"
        " batches as they were trained on: augmented, mixed, with the parameters of the moment."
        " `worst` is what a run that diverged counts as; where a metric has none, a contrast is not"
        " judged if a run diverged, nor where a run could not be measured. A task of your own:"
        " [how to](../how-to/task.md).",
    ]
    for name in TASKS.names():
        task: Any = TASKS.find(name).make
        rows = [
            [f"`{m.name}`", m.unit, m.better, "" if m.worst is None else f"{m.worst:g}", m.sentence]
            for m in task.metrics
        ]
        parts += [f"## {name}", first_line(task)]
        parts.append(table(("name", "unit", "better", "worst", "what it is"), rows))
        parts += [f"`{short}` is a short name of `{m}`: `test_{short}` is `test_{m}`."
                  for short, m in task.aliases.items()]  # fmt: skip
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def notebook(page: str) -> str:
    """A page as a notebook: its Python blocks are cells of code, what stands between them text."""
    cells: list[dict[str, Any]] = []
    for index, part in enumerate(re.split(r"^```python\n(.*?)^```\n", page, flags=re.M | re.S)):
        if not part.strip():
            continue
        source = part.strip("\n").splitlines(keepends=True)
        if index % 2:
            cells.append(
                {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
                | {"source": source}
            )
        else:
            cells.append({"cell_type": "markdown", "metadata": {}, "source": source})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    made = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 4}
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def files() -> dict[str, str]:
    """What is written, by its path in docs/."""
    page = (HERE / "python.md").read_text().replace(" The same as [a notebook](python.ipynb).", "")
    return {
        "python.ipynb": notebook(page),
        "reference/settings.md": settings_page(),
        "reference/metrics.md": metrics_page(),
    }


if __name__ == "__main__":
    for name, text in files().items():
        (HERE / name).parent.mkdir(exist_ok=True)
        (HERE / name).write_text(text)
