"""cnnjax: ask questions about convolutional networks and get answers with error bars.

The names below are the public interface. They are loaded on first use, so that `import cnnjax`
and `cnnjax --help` import neither jax nor flax.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from cnnjax.cli.study import study_command
    from cnnjax.core.errors import Refused
    from cnnjax.core.recipe import Data, Model, Optimizer, Recipe, Schedule
    from cnnjax.core.registry import create_model, list_models, register_models
    from cnnjax.data.load import load_dataset
    from cnnjax.interop.weights import load_network
    from cnnjax.study.spec import Arm, Contrast, Preset, Study
    from cnnjax.train.recipes import RECIPES, he2015_cifar, lecun1998, small_images

_HOME = {
    "Arm": "cnnjax.study.spec",
    "Contrast": "cnnjax.study.spec",
    "Data": "cnnjax.core.recipe",
    "Model": "cnnjax.core.recipe",
    "Optimizer": "cnnjax.core.recipe",
    "Preset": "cnnjax.study.spec",
    "RECIPES": "cnnjax.train.recipes",
    "Recipe": "cnnjax.core.recipe",
    "Refused": "cnnjax.core.errors",
    "Schedule": "cnnjax.core.recipe",
    "Study": "cnnjax.study.spec",
    "create_model": "cnnjax.core.registry",
    "he2015_cifar": "cnnjax.train.recipes",
    "lecun1998": "cnnjax.train.recipes",
    "list_models": "cnnjax.core.registry",
    "load_dataset": "cnnjax.data.load",
    "load_network": "cnnjax.interop.weights",
    "register_models": "cnnjax.core.registry",
    "small_images": "cnnjax.train.recipes",
    "study_command": "cnnjax.cli.study",
}

__all__ = [  # noqa: RUF022  (the order of _HOME)
    "Arm",
    "Contrast",
    "Data",
    "Model",
    "Optimizer",
    "Preset",
    "RECIPES",
    "Recipe",
    "Refused",
    "Schedule",
    "Study",
    "create_model",
    "he2015_cifar",
    "lecun1998",
    "list_models",
    "load_dataset",
    "load_network",
    "register_models",
    "small_images",
    "study_command",
]


def __getattr__(name: str):
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'cnnjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
