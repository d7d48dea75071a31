"""`cnnjax visualize`."""

from pathlib import Path

import click

from cnnjax.cli.output import data_dir_option, json_option, print_json, say, set_option


@click.command()
@click.argument("model", metavar="NAME")
@click.option("--workdir", required=True, metavar="DIR", help="A run, weights, or a new folder.")
@click.option(
    "--data",
    help="digits, any set of tensorflow-datasets, or folder:DIR.  [default: the run's, or digits]",
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
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of untrained weights.",
)
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
    from cnnjax.core.config import convert, override, override_text
    from cnnjax.core.environment import configure_xla
    from cnnjax.core.errors import Refused
    from cnnjax.core.folders import own_folder
    from cnnjax.core.recipe import Recipe
    from cnnjax.core.registry import create_model

    configure_xla()
    folder = Path(workdir)
    recipe = Recipe()
    if (folder / "run.json").is_file():
        from cnnjax.train.run import read_run

        recipe = convert(read_run(folder)["recipe"], Recipe, f"{folder}/run.json")
    if recipe.model.name != model:
        recipe = override(recipe, "model.name", model)
    if data is not None:
        recipe = override(recipe, "data.name", data)
    for assignment in settings:
        recipe = override_text(recipe, assignment)
    create_model(model, **recipe.model.fields)  # refused before the data are read

    import jax

    from cnnjax.core.files import atomic_write
    from cnnjax.data.load import load_dataset
    from cnnjax.data.normalization import normalization_arrays
    from cnnjax.interop.weights import check_fits, load_network
    from cnnjax.report.visualize import draw, stored_image
    from cnnjax.train.loop import make_task

    dataset = load_dataset(recipe.data, data_dir, say)
    stored, label = stored_image(dataset, split, index)
    if any((folder / name).is_file() for name in ("run.json", "weights.json")):
        network = load_network(folder, say)
        if network.model.name != model:
            raise Refused(f"{folder} holds {network.model.name}, not {model}")
        if own := [setting for setting in settings if setting.startswith("model.")]:
            raise Refused(f"--set {own[0]}: the network in {folder} is as it was trained")
        check_fits(network.module, network.variables, dataset.image_shape)
        module, variables, whose = network.module, network.variables, f"weights of {folder.name}"
    else:
        task = make_task(recipe, dataset)
        task.check()
        state = task.init(jax.random.key(seed))
        module, variables = task.model, {"params": state.params, **state.model_state}
        whose = f"untrained, seed {seed}"
        say(f"{folder} holds no run: drawing untrained weights of seed {seed}")
    title = f"{model} ({whose}), {dataset.name} {split} {index}: {label}"
    image = stored / dataset.max_value
    normal = normalization_arrays(recipe.data, dataset)
    normalized = (image - normal["mean"]) / normal.get("deviation", 1.0)
    drawn = draw(module, variables, image, normalized, title)
    own_folder(folder, "folder", ("run.json", "weights.json", *drawn))
    for name, png in drawn.items():
        atomic_write(folder / name, png)
    paths = [str(folder / name) for name in drawn]
    if as_json:
        print_json({"model": model, "weights": whose, "label": label, "pictures": paths})
        return
    for path in paths:
        click.echo(path)
