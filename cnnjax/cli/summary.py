"""`cnnjax summary`."""

import click

from cnnjax.cli.output import json_option, model_set_option, print_json, print_table


@click.command()
@click.argument("model", metavar="MODEL")
@click.option(
    "--input",
    "input_shape",
    type=click.IntRange(min=1),
    nargs=3,
    metavar="H W C",
    help="Image shape.  [default: the model's own]",
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Images that shapes, MACs, activations and memory are for.",
)
@click.option("--train", is_flag=True, help="Count what runs while training: auxiliary heads too.")
@model_set_option
@json_option
def summary(
    model: str,
    input_shape: tuple[int, int, int] | None,
    batch: int,
    train: bool,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Count MODEL (a name or FILE.py:Class) layer by layer, without running it.

    \b
      cnnjax summary alexnet
      cnnjax summary my_net.py:MyNet --input 32 32 3

    MACs are those of convolution and dense layers; FLOPs = 2 x MACs. The receptive field, its
    stride and its offset (the centre of what the first unit sees) are in pixels, along the height.
    Activations are the elements that convolution and dense layers put out; the peak is an estimate
    of the most bytes of activations alive at one time, forward.
    """
    from cnnjax.analysis.cost import CONVENTION, model_cost
    from cnnjax.cli.settings import model_from
    from cnnjax.core.errors import Refused
    from cnnjax.core.registry import create_model, find

    wanted = model_from(model, settings)
    network = create_model(wanted.name, **wanted.fields)
    shape = input_shape or find(wanted.name).input_shape
    if shape is None:
        raise Refused(f"{model} has no default input; give one, e.g. --input 32 32 3")
    cost = model_cost(network, shape, batch, train=train)
    convention = CONVENTION if batch == 1 else CONVENTION.replace("one image", f"{batch} images")
    field = cost.field
    totals = {
        "name": model,
        "params": cost.params,
        "statistics": cost.statistics,
        "macs": cost.macs,
        "flops": cost.flops,
        "activations": cost.activations,
        "connections": sum(layer.connections for layer in cost.layers),
        "input": list(shape),
        "batch": batch,
        "param_bytes": cost.param_bytes,
        "peak_activation_bytes": cost.peak_bytes,
        "receptive_field": field.size if field else None,
        "stride": field.stride if field else None,
        "offset": field.offset if field else None,
    }
    if as_json:
        layers = [
            {
                "name": layer.name,
                "kind": layer.kind,
                "output": list(layer.output),
                "params": layer.params,
                "macs": layer.macs,
                "activations": layer.activations,
                "connections": layer.connections,
                "receptive_field": layer.field.size if layer.field else None,
                "stride": layer.field.stride if layer.field else None,
                "offset": layer.field.offset if layer.field else None,
            }
            for layer in cost.layers
        ]
        print_json({**totals, "convention": convention, "layers": layers})
        return
    click.echo(f"{model}, input {'x'.join(map(str, shape))}: {convention}\n")
    print_table(
        ("layer", "", "output", "parameters", "MACs", "RF", "stride", "offset"),
        [
            (
                layer.name,
                layer.kind,
                "x".join(map(str, layer.output if batch > 1 else layer.output[1:])),
                f"{layer.params:,}",
                f"{layer.macs:,}",
                *((f"{v:g}" for v in (layer.field.size, layer.field.stride, layer.field.offset))
                  if layer.field else ("", "", "")),
            )
            for layer in cost.layers
        ],
        numeric=(3, 4, 5, 6, 7),
    )  # fmt: skip
    click.echo(
        f"\n{cost.params:,} parameters ({cost.param_bytes / 2**20:.1f} MiB)"
        + (f" and {cost.statistics:,} running statistics" if cost.statistics else "")
        + f"; {cost.macs:,} MACs = {cost.flops:,} FLOPs"
        f"\n{cost.activations:,} activations; about {cost.peak_bytes / 2**20:.1f} MiB at the peak"
        + (f"; receptive field {field.size:g}, stride {field.stride:g}" if field else "")
    )
