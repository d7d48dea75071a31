"""`cnnjax bench step`."""

import click

from cnnjax.cli.options import changed, only, place_options
from cnnjax.cli.output import (
    echo,
    json_option,
    print_json,
    print_table,
    set_option,
)


@click.group()
def bench() -> None:
    """Measure how fast this machine trains.

    \b
      cnnjax bench step --model cifar_resnet20 --batch-size 128
    """


@bench.command()
@click.option("--model", default="cifar_resnet20", show_default=True, help="See: cnnjax models.")
@click.option("--batch-size", type=int, default=128, show_default=True, help="Over all devices.")
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=7,
    show_default=True,
    help="Dispatches that are timed, of half a second or of an epoch of the random images.",
)
@set_option
@place_options
@json_option
def step(
    model: str,
    batch_size: int,
    rounds: int,
    settings: tuple[str, ...],
    placement: str,
    devices: int | None,
    model_shards: int,
    as_json: bool,
) -> None:
    """Time one training step on random images of the network's own size.

    The set lies on the device and many steps are one dispatch, as in a training. FLOPs are 6 for
    each MAC of convolution and dense layers and each image: forward 2, backward 4. The scale is
    what square matrix products reach here in the same precision.
    """
    from cnnjax.core.environment import configure_xla, start_backend
    from cnnjax.core.place import Place

    configure_xla()
    place = Place(placement, devices, model_shards)
    start_backend()
    from cnnjax.bench.step import bench_step, epoch_of, noise
    from cnnjax.core.architectures import MODELS, create_model
    from cnnjax.core.errors import Refused
    from cnnjax.core.values import plain
    from cnnjax.data.order import check_batch
    from cnnjax.training.placement import make_placement
    from cnnjax.training.recipes import he2015_cifar

    only(settings, ("model.", "compute.", "optimizer.", "loss."), "data and length are its own")
    options = {"model.name": ("--model", model), "batch_size": ("--batch-size", batch_size)}
    recipe = changed(he2015_cifar, options, settings)
    shape = MODELS.find(model).input_shape
    if shape is None:
        raise Refused(f"{model} has no images of its own size; bench one of: cnnjax models")
    where = make_placement(place)
    check_batch(where.place, recipe)
    classes = create_model(recipe.model.name, **recipe.model.fields).num_classes
    dataset = noise(shape, epoch_of(shape, batch_size), classes)
    figures = bench_step(recipe, dataset, placement=where, rounds=rounds)
    if as_json:
        print_json(plain(figures))
        return
    rows = [
        ("step", f"{figures.step_ms:,.2f} ms ({figures.least_ms:,.2f} to {figures.most_ms:,.2f})"),
        ("images", f"{figures.images_per_second:,.0f} a second"),
        ("FLOPs", f"{figures.flops_per_second / 1e9:,.1f} G a second"),
        (f"matrix products, {figures.precision}", f"{figures.matmul_flops / 1e9:,.1f} G a second"),
        ("share of them", f"{100 * figures.peak_share:.1f} %"),
        ("first state", f"{figures.init_seconds:.1f} s"),
        ("compilation", f"{figures.compile_seconds:.1f} s"),
    ]
    if figures.peak_memory_bytes is not None:
        rows.append(("memory at most", f"{figures.peak_memory_bytes / 2**20:,.0f} MiB a device"))
    print_table(("", ""), rows)
    echo(
        f"\n{recipe.model.name}, batch {batch_size}, {figures.placement} ({figures.device}); median"
        f" and range of {rounds} rounds of {figures.steps_in_a_dispatch} steps"
    )
