"""From a recipe to its task: what is learned, by which network, and what of it is compiled."""

from dataclasses import replace
from typing import Any, get_args

from cnnjax.core.architectures import MODELS, create_model
from cnnjax.core.config import effective, idle_settings
from cnnjax.core.errors import Refused
from cnnjax.core.recipe import Recipe, registry_of
from cnnjax.core.registry import source_digests
from cnnjax.core.user_code import refused
from cnnjax.core.values import digest, plain
from cnnjax.data.dataset import PLACED, AnyDataset
from cnnjax.data.normalization import chosen_normalization
from cnnjax.layers.layer import Dtype
from cnnjax.tasks.network import NetworkTask
from cnnjax.tasks.optimizers import update_of
from cnnjax.tasks.registry import TASKS
from cnnjax.tasks.task import DataSpec, Task
from cnnjax.training.feed import on_device


def make_task(recipe: Recipe, dataset: AnyDataset) -> Any:
    """The task of a recipe on a data set.

    Raises:
      Refused: the model or the task does not exist, is impossible, or does not fit the data.
    """
    on_device(recipe.data, dataset)
    needs = registry_of(recipe.task).find(recipe.task.name).make.needs
    placed = [name for name in needs if name in PLACED]
    if placed and recipe.data.permute_pixels is not None:
        raise Refused(
            f"data.permute_pixels={recipe.data.permute_pixels}: it moves the pixels of an image and"
            f" not its {placed[0]}, which task {recipe.task.name} needs; leave it out"
        )
    chosen_normalization(recipe.data, dataset)
    return task_for(recipe, data_spec(dataset))


def data_spec(dataset: AnyDataset) -> DataSpec:
    """What a task knows of a data set."""
    fields = tuple((name, f.shape, str(f.dtype)) for name, f in dataset.fields.items())
    return DataSpec(dataset.name, fields, dataset.num_classes)


def task_for(recipe: Recipe, data: DataSpec) -> Any:
    """`make_task` from what it needs of a data set: the network gets as many outputs as the task
    wants."""
    entry = registry_of(recipe.task).find(recipe.task.name)
    _check_fields(recipe.task.name, entry.make.needs, data)
    given, default = effective(recipe), effective(Recipe())
    for path, why in idle_settings(recipe).items():
        if path.startswith(("loss.", "data.")) and given[path] != default[path]:
            raise Refused(f"{path}={given[path]} has no effect: {why}")
    settings = registry_of(recipe.task).converted(recipe.task.name, recipe.task.fields)
    update = update_of(recipe.optimizer)
    with refused(f"task {recipe.task.name} cannot be made"):
        with_data = entry.make(
            model=None,
            data=data,
            loss=recipe.loss,
            update=update,
            compute=recipe.compute,
            **settings,
        )
        outputs = with_data.num_outputs
        hash(with_data)  # programs are kept by task: a list among its settings has no hash
    fields = dict(recipe.model.fields)
    if outputs is not None and "num_classes" in MODELS.settings(recipe.model.name):
        fields.setdefault("num_classes", outputs)
        if fields["num_classes"] != outputs:
            raise Refused(
                f"model.num_classes={fields['num_classes']}: {recipe.task.name} of data set"
                f" {data.name} has {with_data.outputs_in_words}; leave it out"
            )
    if recipe.compute.precision != "float32":
        if "dtype" not in MODELS.settings(recipe.model.name):
            raise Refused(
                f"compute.precision={recipe.compute.precision}: {recipe.model.name} has no field"
                " dtype, in which it would compute"
            )
        fields.setdefault("dtype", recipe.compute.precision)
    given = fields.get("dtype")
    if given in get_args(Dtype) and given != recipe.compute.precision:
        raise Refused(
            f"model.dtype={given} and compute.precision={recipe.compute.precision} are"
            " one thing; leave out model.dtype and set compute.precision"
        )
    task = replace(with_data, model=create_model(recipe.model.name, **fields))
    if recipe.data.test_crops != 1 and type(task).over_views is NetworkTask.over_views:
        raise Refused(
            f"data.test_crops={recipe.data.test_crops}: task {recipe.task.name} has one output for"
            " an image; define over_views to judge several views of it"
        )
    if recipe.compute.remat and not task.runs:
        raise Refused(
            f"compute.remat=true has no effect: {recipe.model.name} has no equal blocks to scan"
        )
    return task


def sources_of(recipe: Recipe, task: Task) -> dict[str, str]:
    """Digests of the users' files behind a run."""
    return source_digests(
        [
            (recipe.model.name, type(task.model)),  # type: ignore[attr-defined]
            (recipe.task.name, type(task)),
            (recipe.optimizer.name, task.update.make),  # type: ignore[attr-defined]
        ]
    )


def program_key(recipe: Recipe) -> str:
    """Recipes with the same value share one compiled program."""
    update = update_of(recipe.optimizer)
    form = [update.numbers, update.fixed, update.decayed, update.freeze]
    parts = (recipe.task, recipe.model, recipe.data, recipe.loss, recipe.compute)
    return digest([*map(plain, parts), recipe.batch_size, recipe.optimizer.name, repr(form)])


def _check_fields(task: str, needs: dict[str, str], data: DataSpec) -> None:
    """Refuse data whose examples lack a field that the task needs, or have it in another form."""
    fields = {name: (shape, dtype) for name, shape, dtype in data.fields}
    sizes: dict[str, int] = {}
    for name, wanted in needs.items():
        dtype, *axes = wanted.split()
        if name not in fields:
            there = ", ".join(fields)
            tasks = {name: getattr(TASKS.find(name).make, "needs", {}) for name in TASKS.names()}
            fit = [name for name, others in tasks.items() if others.keys() <= fields.keys()]
            hint = f", which task {' or '.join(fit)} takes (networks: cnnjax models)" if fit else ""
            raise Refused(f"task {task} needs {name}, and data set {data.name} has {there}{hint}")
        shape, found = fields[name]
        if found != dtype or len(shape) != len(axes):
            raise Refused(
                f"task {task} needs {name} as {dtype}{axes}, and in data set {data.name} they are"
                f" {found}{list(shape)}"
            )
        for axis, size in zip(axes, shape, strict=True):
            if sizes.setdefault(axis, size) != size:
                raise Refused(
                    f"task {task} needs {name} as {dtype}{axes}: {axis} is {sizes[axis]} and {size}"
                    f" in data set {data.name}"
                )
