"""`cnnjax import-weights` and `cnnjax export-weights`."""

from pathlib import Path

import click

from cnnjax.cli.output import json_option, model_set_option, print_json, say

_LISTED = 20  # lines of what does not fit


@click.command(name="import-weights")
@click.argument("model", metavar="NAME")
@click.argument("file", metavar="FILE")
@click.option("--out", required=True, metavar="DIR", help="Folder for the imported weights.")
@click.option(
    "--input",
    "input_shape",
    type=click.IntRange(min=1),
    nargs=3,
    metavar="H W C",
    help="Image shape that the weights are for.  [default: the model's own]",
)
@model_set_option
@json_option
def import_weights(
    model: str,
    file: str,
    out: str,
    input_shape: tuple[int, int, int] | None,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Read PyTorch's weights for network NAME from FILE.

    \b
      cnnjax import-weights resnet50 resnet50.safetensors --out weights/resnet50

    FILE is a state dict with torchvision's names, as .safetensors, .npz, or .pth (that one needs
    torch, which reads it without opening a pickle). Names and shapes must agree; if they do not,
    what is missing (-) and what is left over (+) is listed and nothing is written. Running
    statistics of batch normalisation come along. visualize and export-weights take the folder (eval
    does not: it judges a run). Weights of a net for other images or classes need --input or --set.
    """
    from cnnjax.cli.settings import model_from
    from cnnjax.interop.weights import Mismatch
    from cnnjax.interop.weights import import_weights as read

    try:
        about = read(model_from(model, settings), Path(file), Path(out), input_shape)
    except Mismatch as error:
        for line in error.lines[:_LISTED]:
            say(line)
        if len(error.lines) > _LISTED:
            say(f"... and {len(error.lines) - _LISTED} more")
        raise
    if as_json:
        print_json({"out": out, **about})
    else:
        click.echo(f"{out}: {model}, {about['params']:,} parameters from {file}")


@click.command(name="export-weights")
@click.argument("folder", metavar="DIR")
@click.argument("file", metavar="FILE")
@json_option
def export_weights(folder: str, file: str, as_json: bool) -> None:
    """Write the weights in DIR to FILE as PyTorch names them.

    DIR is a run of cnnjax train (its newest intact checkpoint) or imported weights; FILE ends in
    .safetensors or .npz. Networks that torchvision has get its names and layouts; others keep
    their own names, joined by dots, in PyTorch's layouts.
    """
    from cnnjax.core.environment import configure_xla
    from cnnjax.interop.state_dict import write_state_dict
    from cnnjax.interop.weights import load_network, to_torch

    configure_xla()
    network = load_network(Path(folder), say)
    arrays = to_torch(network.module, network.variables)
    write_state_dict(Path(file), arrays)
    if as_json:
        print_json({"file": file, "model": network.model.name, "arrays": len(arrays)})
    else:
        click.echo(f"{file}: {len(arrays)} arrays of {network.model.name}")
