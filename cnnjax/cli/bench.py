"""`cnnjax bench step|compile|data|study`."""

from collections.abc import Callable
from typing import Any

import click

from cnnjax.cli.options import changed, only, place_options
from cnnjax.cli.output import (
    ProgressLine,
    data_dir_option,
    echo,
    json_option,
    print_json,
    print_table,
    say,
    set_option,
)
from cnnjax.core.words import counted


def _on_noise_options(rounds: int, what: str) -> Callable[[Callable], Callable]:
    """Of what is measured on random images: the network, its settings, where, how often."""

    def decorate(command: Callable) -> Callable:
        for option in (
            json_option,
            place_options,
            set_option,
            click.option(
                "--rounds",
                type=click.IntRange(min=1),
                default=rounds,
                show_default=True,
                help=what,
            ),
            click.option(
                "--batch-size",
                type=int,
                default=128,
                show_default=True,
                help="Over all devices.",
            ),
            click.option(
                "--model",
                default="cifar_resnet20",
                show_default=True,
                help="See: cnnjax models.",
            ),
        ):
            command = option(command)
        return command

    return decorate


@click.group()
def bench() -> None:
    """Measure how fast this machine trains.

    \b
      cnnjax bench step --model cifar_resnet20 --batch-size 128
      cnnjax bench compile --model cifar_resnet110
      cnnjax bench data folder:photographs
      cnnjax bench study degradation --preset smoke
    """


@bench.command()
@_on_noise_options(7, "Dispatches that are timed, of half a second or of an epoch of the images.")
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
    recipe, dataset, where = _on_noise(
        model, batch_size, settings, (placement, devices, model_shards)
    )
    from cnnjax.bench.step import bench_step
    from cnnjax.core.values import plain

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


@bench.command(name="compile")
@_on_noise_options(3, "Compilations.")
def compile_(
    model: str,
    batch_size: int,
    rounds: int,
    settings: tuple[str, ...],
    placement: str,
    devices: int | None,
    model_shards: int,
    as_json: bool,
) -> None:
    """Compile the programs that train and evaluate a network, and run none.

    It says how long that takes, without the cache, and what memory the training program will ask
    for beside its arguments: try a batch size, --set compute.remat=true, or --placement.
    """
    recipe, dataset, where = _on_noise(
        model, batch_size, settings, (placement, devices, model_shards)
    )
    from cnnjax.bench.compile import bench_compile
    from cnnjax.core.values import plain

    figures = bench_compile(recipe, dataset, placement=where, rounds=rounds)
    if as_json:
        print_json(plain(figures))
        return
    spread = f"({figures.least_seconds:.1f} to {figures.most_seconds:.1f})"
    rows = [
        ("compilation", f"{figures.compile_seconds:.1f} s {spread}"),
        ("first state", f"{figures.init_seconds:.1f} s"),
        ("memory of the program", f"{figures.program_bytes / 2**20:,.0f} MiB a device"),
        ("parameters", f"{figures.params:,}"),
    ]
    print_table(("", ""), rows)
    echo(f"\n{model}, batch {batch_size}, {figures.placement}; median and range of {rounds} rounds")


@bench.command(name="data")
@click.argument("name", metavar="NAME")
@click.option("--batch-size", type=int, default=128, show_default=True)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="That are timed, of about two seconds.",
)
@data_dir_option
@set_option
@json_option
def data_(
    name: str,
    batch_size: int,
    rounds: int,
    data_dir: str | None,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """How many training images a second a data set gives, augmented, in random order.

    Of a stream (folder:DIR, or data.streaming=always) what the host decodes and crops, on all its
    cores; of a set in memory what the device takes, normalises and augments.
    """
    from cnnjax.core.environment import configure_xla, start_backend
    from cnnjax.core.recipe import Recipe

    configure_xla()
    only(settings, ("data.",), "only data.FIELD=VALUE counts here")
    options = {"data.name": ("the data set", name), "batch_size": ("--batch-size", batch_size)}
    recipe = changed(Recipe(), options, settings)
    start_backend()
    from cnnjax.bench.data import bench_data
    from cnnjax.core.values import plain
    from cnnjax.data.load import load_dataset

    dataset = load_dataset(recipe.data, data_dir, say)
    figures = bench_data(recipe.data, dataset, batch_size=recipe.batch_size, rounds=rounds)
    if as_json:
        print_json(plain(figures))
        return
    spread = f"({figures.least:,.0f} to {figures.most:,.0f})"
    rows = [("images", f"{figures.images_per_second:,.0f} a second {spread}")]
    if figures.images_per_core_second is not None:
        rows.append(("of a core", f"{figures.images_per_core_second:,.0f} a second"))
    if figures.bytes_on_device is not None:
        rows.append(("on the device", f"{figures.bytes_on_device / 2**20:,.1f} MiB"))
    print_table(("", ""), rows)
    shape = "x".join(map(str, figures.image_shape))
    echo(
        f"\n{name}, {'streamed' if figures.streamed else 'in memory'}, {shape}, augmentation"
        f" {figures.augmentation}, batches of {batch_size}; {figures.cores} cores"
        f" ({figures.device}); median and range of {rounds} rounds"
    )


@bench.command(name="study")
@click.argument("name", metavar="NAME|FILE.py")
@click.option("--preset", default="quick", show_default=True, help="Size; see: cnnjax study list.")
@click.option("--data", help="Another data set for all cells.")
@data_dir_option
@set_option
@click.option("--seeds", type=int, help="Replicates of each variant.")
@click.option("--workers", type=click.IntRange(min=1), help="As in: cnnjax study run.")
@click.option("--workers-per-device", type=click.IntRange(min=1), default=1, show_default=True)
@json_option
def study_(
    name: str,
    preset: str,
    data: str | None,
    data_dir: str | None,
    settings: tuple[str, ...],
    seeds: int | None,
    workers: int | None,
    workers_per_device: int,
    as_json: bool,
) -> None:
    """Run a study twice, with an empty cache of compiled programs and with a full one.

    Its folders are removed; what it found is not looked at.
    """
    from cnnjax.cli.study import find_study, words_of
    from cnnjax.core.environment import configure_xla, use_processor
    from cnnjax.core.user_code import paths_from
    from cnnjax.study.cells import resolve

    configure_xla(threads=1)
    found, base = find_study(name)
    from cnnjax.bench.study import bench_study
    from cnnjax.core.values import plain

    with paths_from(base), ProgressLine(f"{found.name} ({preset})") as line:
        plan = resolve(found, preset, data=data, settings=settings, seeds=seeds)
        use_processor()
        figures = bench_study(
            plan,
            data_dir=data_dir,
            workers=workers,
            workers_per_device=workers_per_device,
            on_status=lambda cache, status: line.update(
                status.part, f"{cache}, {words_of(status)}"
            ),
        )
    if as_json:
        print_json({"runs": [plain(one) for one in figures]})
        return
    head = ("cache", "seconds", "training", "compiling", "processor", "cores busy")
    rows = [
        (
            one.cache,
            f"{one.seconds:.0f}",
            f"{one.train_seconds:.0f}",
            f"{one.compile_seconds:.0f}",
            f"{one.cpu_seconds:.0f}",
            f"{100 * one.cores_busy:.0f} %",
        )
        for one in figures
    ]
    print_table(head, rows, (1, 2, 3, 4, 5))
    last = figures[-1]
    echo(
        f"\n{found.name} ({preset}): {counted(last.cells, 'cell')} on"
        f" {counted(last.workers, 'worker')}; seconds of the whole, the rest summed over cells or"
        " workers"
    )


def _on_noise(
    model: str, batch_size: int, settings: tuple[str, ...], place: tuple[str, int | None, int]
) -> tuple[Any, Any, Any]:
    """Recipe, random images of the network's own size, and where; jax is started.

    Raises:
      Refused: no such model, setting or place.
    """
    from cnnjax.core.environment import configure_xla, start_backend
    from cnnjax.core.place import Place

    configure_xla()
    wanted = Place(*place)
    start_backend()
    from cnnjax.bench.step import epoch_of, noise
    from cnnjax.core.architectures import MODELS, create_model
    from cnnjax.core.errors import Refused
    from cnnjax.data.order import check_batch
    from cnnjax.training.placement import make_placement
    from cnnjax.training.recipes import he2015_cifar

    only(settings, ("model.", "compute.", "optimizer.", "loss."), "data and length are its own")
    options = {"model.name": ("--model", model), "batch_size": ("--batch-size", batch_size)}
    recipe = changed(he2015_cifar, options, settings)
    shape = MODELS.find(model).input_shape
    if shape is None:
        raise Refused(f"{model} has no images of its own size; bench one of: cnnjax models")
    where = make_placement(wanted)
    check_batch(where.place, recipe)
    classes = create_model(recipe.model.name, **recipe.model.fields).num_classes
    return recipe, noise(shape, epoch_of(shape, batch_size), classes), where
