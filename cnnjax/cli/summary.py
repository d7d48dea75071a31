"""`cnnjax summary`."""

import click

from cnnjax.cli.output import (
    byte_size,
    json_option,
    model_set_option,
    print_json,
    print_table,
    print_text,
    size_range,
)


@click.command()
@click.argument("model", metavar="MODEL")
@click.option(
    "--input",
    "input_shape",
    type=size_range,
    nargs=3,
    metavar="H W C",
    help="Image shape.  [default: the model's own]",
)
@click.option(
    "--batch",
    type=size_range,
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

    MACs are those of convolution and dense layers; FLOPs = 2 x MACs. A layer's weights are trained,
    come from the images (attention) or, fixed, mix features: what fixed weights do along the map
    alone (resizing, cutting patches, blurring, pooling) moves data and counts nothing.

    The receptive field is that of the unit that sees most; it, its stride and its offset (the
    centre of what the first unit sees) are in pixels, along the height. Padding continues the map
    beyond the image, so a field may exceed it, until something sees the whole map (a mean over it
    that is fed back, or the statistics of a batch while training). It is "unknown" behind an
    operation that moves pixels by what they show, and empty where there is no map.

    Activations are the elements that convolution and dense layers put out; the peak is an estimate
    of the most bytes of activations alive at one time, forward.
    """
    from cnnjax.core.environment import use_processor

    use_processor()
    from cnnjax.analysis.cost import CONVENTION, model_cost
    from cnnjax.analysis.receptive_field import field_record
    from cnnjax.cli.options import model_from
    from cnnjax.core.architectures import MODELS, create_model
    from cnnjax.core.errors import Refused

    wanted = model_from(model, settings)
    network = create_model(wanted.name, **wanted.fields)
    shape = input_shape or MODELS.find(wanted.name).input_shape
    if shape is None:
        raise Refused(f"{model} has no default input; give one, e.g. --input 32 32 3")
    cost = model_cost(network, shape, batch, train=train)
    convention = CONVENTION if batch == 1 else CONVENTION.replace("one image", f"{batch} images")
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
        **field_record(cost.field),
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
                **field_record(layer.field),
            }
            for layer in cost.layers
        ]
        print_json({**totals, "convention": convention, "layers": layers})
        return
    print_text(f"{model}, input {'x'.join(map(str, shape))}: {convention}\n")
    print_table(
        ("layer", "", "output", "parameters", "MACs", "RF", "stride", "offset"),
        [
            (
                layer.name,
                layer.kind,
                "x".join(map(str, layer.output if batch > 1 else layer.output[1:])),
                f"{layer.params:,}",
                f"{layer.macs:,}",
                *map(_shown, field_record(layer.field).values()),
            )
            for layer in cost.layers
        ],
        numeric=(3, 4, 5, 6, 7),
        optional=("offset", "stride", "RF"),
    )
    field = field_record(cost.field)
    print_text(
        f"\n{cost.params:,} parameters ({byte_size(cost.param_bytes)})"
        + (f" and {cost.statistics:,} running statistics" if cost.statistics else "")
        + f"; {cost.macs:,} MACs = {cost.flops:,} FLOPs"
        f"\n{cost.activations:,} activations; about {byte_size(cost.peak_bytes)} at the peak"
        + "".join(
            f"{mark}{_shown(field[key])}"
            for mark, key in (("; receptive field ", "receptive_field"), (", stride ", "stride"))
            if field[key] is not None
        )
    )


def _shown(value: float | int | str | None) -> str:
    """A column of the receptive field: empty for None."""
    if value is None:
        return ""
    return value if isinstance(value, str) else f"{value:g}"
