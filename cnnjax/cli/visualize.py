"""`cnnjax visualize`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from cnnjax.cli.options import changed, only, start_jax
from cnnjax.cli.output import (
    Folder,
    data_dir_option,
    echo,
    json_option,
    print_json,
    say,
    seed_option,
    set_option,
)

# What decides how an image looks on the way into a network that is not trained.
_READ = ("name", "train_split", "test_split", "image_size", "streaming", "test_share",
         "validation_share", "train_examples", "split_seed", "unreadable",
         "normalization")  # fmt: skip
_DATA = tuple(f"data.{name}" for name in _READ)
_WORDS = ", ".join(_DATA)
_STORED = ("run.json", "weights.json", "weights.safetensors")
_PICTURES = ("channels.png", "filters.png", "maps.png")


@click.command()
@click.argument("model", metavar="NAME")
@click.option(
    "--workdir",
    type=Folder(),
    required=True,
    metavar="DIR",
    help="A run, weights, or a new folder.",
)
@click.option(
    "--data",
    help="digits, any set of tensorflow-datasets, folder:DIR, coco:DIR, masks:DIR,"
    " FILE.npz or FILE.py:function."
    "  [default: the run's, or digits]",
)
@data_dir_option
@click.option("--split", type=click.Choice(["train", "test"]), default="test", show_default=True)
@click.option(
    "--index",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Which image of the split.",
)
@seed_option
@set_option
@json_option
def visualize(
    model: str,
    workdir: str,
    data: str | None,
    data_dir: str | None,
    split: str,
    index: int,
    seed: int,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Draw how network NAME (or FILE.py:Class) sees one image.

    \b
      cnnjax visualize cifar_resnet8 --data digits --workdir runs/first

    Three pictures are written into DIR: channels.png (the image and its channels as grey pictures),
    filters.png (the first convolution) and maps.png (the feature maps at each stride). Where DIR
    holds a run of NAME or imported weights, those are drawn, else fresh weights of --seed. A class
    of your own needs a method feature_maps(images, *, train) -> {stride: map}.
    """
    from cnnjax.core.architectures import create_model
    from cnnjax.core.environment import configure_xla
    from cnnjax.core.errors import Refused
    from cnnjax.core.folders import own_folder
    from cnnjax.core.recipe import Recipe
    from cnnjax.core.values import convert

    configure_xla()
    folder = Path(workdir)
    stored_weights = any((folder / name).is_file() for name in _STORED)
    if stored_weights:
        only(
            settings,
            _DATA,
            f"the network in {folder} is as it was trained; of the data count {_WORDS}",
        )
        source = click.get_current_context().get_parameter_source("seed")
        if source is click.core.ParameterSource.COMMANDLINE:
            raise Refused(f"--seed {seed} has no effect: {folder} holds weights")
    else:
        only(settings, ("model.", *_DATA), f"of the data count {_WORDS}, of the model its fields")
    recipe, described = Recipe(), {}
    if (folder / "run.json").is_file():
        from cnnjax.training.restore import read_run

        described = read_run(folder)
        recipe = convert(described["recipe"], Recipe, f"{folder}/run.json")
        if recipe.model.name != model:
            raise Refused(f"{folder} holds {recipe.model.name}, not {model}")
        given = {"data.name": ("--data", data)}
    else:
        given = {"model.name": ("the model", model), "data.name": ("--data", data)}
    recipe = changed(recipe, given, settings)

    import jax

    from cnnjax.core.files import atomic_write
    from cnnjax.core.user_code import paths_of, refused
    from cnnjax.data.load import load_dataset
    from cnnjax.data.normalization import normalization_arrays
    from cnnjax.interop.weights import described_weights
    from cnnjax.report.visualize import draw, network_maps, stored_image
    from cnnjax.training.make import make_task
    from cnnjax.training.network import check_fits, load_network

    start_jax()
    network = load_network(folder, say) if stored_weights else None
    if network is None:
        create_model(model, **recipe.model.fields)  # refused before the data are read
    elif network.model.name != model:
        raise Refused(f"{folder} holds {network.model.name}, not {model}")
    own_data = {} if data is not None else described  # the run's, from where they lay
    with paths_of(own_data):
        dataset = load_dataset(recipe.data, data_dir or own_data.get("data_dir"), say)
    stored, label = stored_image(dataset, split, index)
    seen = recipe.data
    if network is None:
        task = make_task(recipe, dataset)
        task.check()
        module, whose = task.model, f"untrained, seed {seed}"
        variables = task.fresh_variables
    else:
        check_fits(network.module, network.variables, dataset.image_shape)
        if not described and seen.normalization == "default":  # weights know what they want
            seen = replace(seen, normalization=described_weights(folder)["normalization"])
        module, whose = network.module, f"weights of {folder.name}"
        stored_variables = network.variables

        def variables(key: Any) -> Any:
            return stored_variables

    image = stored / dataset.max_value
    normal = normalization_arrays(seen, dataset)
    normalized = (image - normal["mean"]) / normal.get("deviation", 1.0)
    key = jax.random.key(seed)
    with refused(f"{model} has no feature maps that can be drawn"):
        jax.eval_shape(lambda key, x: network_maps(module, variables(key), x), key, normalized)
    own_folder(folder, "folder", (*_STORED, *_PICTURES))
    if network is None:
        say(f"{folder} holds no run: drawing untrained weights of seed {seed}")
    title = f"{model} ({whose}), {dataset.name} {split} {index}: {label}"
    drawn = draw(module, variables(key), image, normalized, title)
    for name, png in drawn.items():
        atomic_write(folder / name, png)
    paths = [str(folder / name) for name in drawn]
    if as_json:
        print_json({"model": model, "weights": whose, "label": label, "pictures": paths})
        return
    for path in paths:
        echo(path)
