"""`cnnjax import-weights` and `cnnjax export-weights`."""

from pathlib import Path
from typing import Any

import click

from cnnjax.cli.output import (
    Folder,
    echo,
    json_option,
    model_set_option,
    print_json,
    say,
    size_range,
)

_LISTED = 20  # lines of what does not fit


@click.command(name="import-weights")
@click.argument("model", metavar="NAME")
@click.argument("file", metavar="FILE")
@click.option(
    "--out", type=Folder(), required=True, metavar="DIR", help="Folder for the imported weights."
)
@click.option(
    "--input",
    "input_shape",
    type=size_range,
    nargs=3,
    metavar="H W C",
    help="Image shape that the weights are for.  [default: the model's own]",
)
@click.option(
    "--key",
    help="Which entry of FILE to read, where it has several, e.g. model_ema.  [default: the plain"
    " one]",
)
@click.option(
    "--normalization",
    type=click.Choice(["imagenet", "inception", "caffe", "lecun1998", "none"]),
    help="Of the images that the weights are for: ImageNet's mean and deviation, -1 to 1, bytes"
    " less 123, 117, 104, the paper's of LeNet-5, or 0 to 1; predict and eval go by it."
    "  [default: as the network's published weights]",
)
@model_set_option
@json_option
def import_weights(
    model: str,
    file: str,
    out: str,
    input_shape: tuple[int, int, int] | None,
    key: str | None,
    normalization: Any,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Read PyTorch's weights for network NAME (or FILE.py:Class) from FILE.

    \b
      cnnjax import-weights resnet50 resnet50.safetensors --out weights/resnet50

    FILE is a state dict as safetensors, npz or a file of PyTorch's, whatever its name (these need
    torch, which reads them without opening a pickle), with torchvision's or timm's names, or for a
    class of your own with its own (see export-weights, which this undoes). What training programs
    put around it is taken off, and said in one line: entries beside it (epoch, optimizer, ...; of
    several with weights the plain one is read, another is chosen with --key), prefixes of names
    (module., _orig_mod., model., ...), auxiliary heads that the network does without.

    Names and shapes must agree; if they do not, what is missing (-) and what is left over (+) is
    listed and nothing is written; so it is for a layer whose layout in PyTorch is not known.
    Running statistics of batch normalisation come along. eval, predict, visualize and
    export-weights take the folder. Weights of a net for other images or classes need --input or
    --set. Weights in DIR that are lost in part or damaged are written anew.
    """
    from cnnjax.cli.options import model_from
    from cnnjax.core.environment import configure_xla, use_processor
    from cnnjax.interop.mapping import Mismatch
    from cnnjax.interop.weights import import_weights as read

    configure_xla()
    use_processor()
    try:
        about = read(
            model_from(model, settings),
            Path(file),
            Path(out),
            input_shape,
            key=key,
            normalization=normalization,
            say=say,
        )
    except Mismatch as error:
        for line in error.lines[:_LISTED]:
            say(line)
        if len(error.lines) > _LISTED:
            say(f"... and {len(error.lines) - _LISTED} more")
        raise
    if as_json:
        print_json({"out": out, **about})
    else:
        echo(f"{out}: {model}, {about['params']:,} parameters from {file}")


@click.command(name="export-weights")
@click.argument("folder", metavar="DIR")
@click.argument("file", metavar="FILE")
@json_option
def export_weights(folder: str, file: str, as_json: bool) -> None:
    """Write the weights in DIR to FILE as PyTorch names them and lays them out.

    DIR is a run of cnnjax train (its newest intact checkpoint) or imported weights; FILE ends in
    .safetensors or .npz. Networks that torchvision has get its names; a class of your own keeps its
    own, joined by dots ("block1.Conv_0.weight"), for these layers of flax (and our own Conv and
    ConvTranspose):

    \b
      Conv (1, 2, 3 places; groups, dilation)    Conv1d, Conv2d, Conv3d
      ConvTranspose                              ConvTranspose1d, 2d, 3d
      Dense, DenseGeneral over the last axis     Linear
      BatchNorm, GroupNorm, InstanceNorm         the same, with weight and bias or neither
      LayerNorm, RMSNorm over the last axis      the same
      Embed                                      Embedding

    A map is [n, h, w, c] here, [n, c, h, w] there. A layer behind a map that was flattened whole
    has its rows in the order of torch.flatten(x, 1); the traced computation says which layers that
    are. Arrays of your own with at most one axis go out as they are and are named. Everything else
    is refused with the layer's name: other layers and arrays, layers in a scan or a vmap, maps that
    were flattened in part or reshaped from a layer's outputs. What a state dict does not hold, and
    differs from PyTorch's default (epsilon, padding before and after), is said on standard error.
    """
    from cnnjax.core.environment import configure_xla, use_processor
    from cnnjax.interop.mapping import to_torch
    from cnnjax.interop.state_dict import require_writable, write_state_dict
    from cnnjax.training.network import load_network

    require_writable(Path(file))
    configure_xla()
    use_processor()
    network = load_network(Path(folder), say)
    arrays = to_torch(network.module, network.variables, network.image_shape, say)
    write_state_dict(Path(file), arrays)
    if as_json:
        print_json({"file": file, "model": network.model.name, "arrays": len(arrays)})
    else:
        echo(f"{file}: {len(arrays)} arrays of {network.model.name}")
