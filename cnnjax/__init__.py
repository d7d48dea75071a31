"""cnnjax: ask questions about convolutional networks and get answers with error bars.

The names below are the public interface. They are loaded on first use, so that `import cnnjax`
and `cnnjax --help` import neither jax nor flax.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.2.0"

if TYPE_CHECKING:
    from cnnjax.api import Outcome, Run, init_network, load_run, run_study, train
    from cnnjax.cli.study import study_command
    from cnnjax.core.architectures import create_model, list_models, register_models
    from cnnjax.core.errors import Refused
    from cnnjax.core.place import Place
    from cnnjax.core.recipe import (
        Compute,
        Data,
        Init,
        Loss,
        Model,
        Optimizer,
        Recipe,
        Schedule,
        Streams,
        Task,
    )
    from cnnjax.data.dataset import Dataset
    from cnnjax.data.load import load_dataset
    from cnnjax.interop.weights import Network
    from cnnjax.study.launch import Launcher
    from cnnjax.study.spec import (
        Arm,
        Contrast,
        Match,
        Preset,
        Probe,
        Spread,
        Study,
        Trend,
        Tune,
    )
    from cnnjax.tasks.network import NetworkTask
    from cnnjax.tasks.task import Metric
    from cnnjax.training.make import make_task
    from cnnjax.training.network import load_network
    from cnnjax.training.pretrained import first_state
    from cnnjax.training.recipes import (
        RECIPES,
        he2015_cifar,
        lecun1998,
        small_images,
        small_scenes,
    )

_HOME = {
    "Arm": "cnnjax.study.spec",
    "Compute": "cnnjax.core.recipe",
    "Contrast": "cnnjax.study.spec",
    "Data": "cnnjax.core.recipe",
    "Dataset": "cnnjax.data.dataset",
    "Init": "cnnjax.core.recipe",
    "Launcher": "cnnjax.study.launch",
    "Loss": "cnnjax.core.recipe",
    "Match": "cnnjax.study.spec",
    "Metric": "cnnjax.tasks.task",
    "Model": "cnnjax.core.recipe",
    "Network": "cnnjax.interop.weights",
    "NetworkTask": "cnnjax.tasks.network",
    "Optimizer": "cnnjax.core.recipe",
    "Outcome": "cnnjax.api",
    "Place": "cnnjax.core.place",
    "Preset": "cnnjax.study.spec",
    "Probe": "cnnjax.study.spec",
    "RECIPES": "cnnjax.training.recipes",
    "Recipe": "cnnjax.core.recipe",
    "Refused": "cnnjax.core.errors",
    "Run": "cnnjax.api",
    "Schedule": "cnnjax.core.recipe",
    "Streams": "cnnjax.core.recipe",
    "Study": "cnnjax.study.spec",
    "Task": "cnnjax.core.recipe",
    "Spread": "cnnjax.study.spec",
    "Trend": "cnnjax.study.spec",
    "Tune": "cnnjax.study.spec",
    "create_model": "cnnjax.core.architectures",
    "first_state": "cnnjax.training.pretrained",
    "he2015_cifar": "cnnjax.training.recipes",
    "init_network": "cnnjax.api",
    "lecun1998": "cnnjax.training.recipes",
    "list_models": "cnnjax.core.architectures",
    "load_dataset": "cnnjax.data.load",
    "load_network": "cnnjax.training.network",
    "load_run": "cnnjax.api",
    "make_task": "cnnjax.training.make",
    "register_models": "cnnjax.core.architectures",
    "run_study": "cnnjax.api",
    "small_images": "cnnjax.training.recipes",
    "small_scenes": "cnnjax.training.recipes",
    "study_command": "cnnjax.cli.study",
    "train": "cnnjax.api",
}

__all__ = [  # noqa: RUF022  (the order of _HOME)
    "Arm",
    "Compute",
    "Contrast",
    "Data",
    "Dataset",
    "Init",
    "Launcher",
    "Loss",
    "Match",
    "Metric",
    "Model",
    "Network",
    "NetworkTask",
    "Optimizer",
    "Outcome",
    "Place",
    "Preset",
    "Probe",
    "RECIPES",
    "Recipe",
    "Refused",
    "Run",
    "Schedule",
    "Streams",
    "Study",
    "Task",
    "Spread",
    "Trend",
    "Tune",
    "create_model",
    "first_state",
    "he2015_cifar",
    "init_network",
    "lecun1998",
    "list_models",
    "load_dataset",
    "load_network",
    "load_run",
    "make_task",
    "register_models",
    "run_study",
    "small_images",
    "small_scenes",
    "study_command",
    "train",
]


def __getattr__(name: str):
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'cnnjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
