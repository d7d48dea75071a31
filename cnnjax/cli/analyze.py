"""`cnnjax analyze`."""

import math
from pathlib import Path

import click

from cnnjax.cli.options import IMAGES_OF_WEIGHTS, changed, only, start_jax
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

WHAT = (
    "filters",
    "maps",
    "gradcam",
    "erf",
    "landscape",
    "confusion",
    "predictions",
    "precision_recall",
)


@click.command()
@click.argument("folders", metavar="DIR...", nargs=-1, required=True)
@click.option("--what", type=click.Choice(WHAT), required=True)
@click.option("--data", help="For imported weights: as cnnjax eval takes it.  [a run: its own]")
@data_dir_option
@click.option("--split", type=click.Choice(["train", "test"]), default="test", show_default=True)
@click.option(
    "--index", type=click.IntRange(min=0), default=0, show_default=True, help="The first image."
)
@click.option(
    "--count",
    type=click.IntRange(min=1),
    help="Images.  [default: 8 of gradcam and predictions, 64 of erf, 256 of landscape]",
)
@click.option(
    "--points",
    type=click.IntRange(min=3),
    default=21,
    show_default=True,
    help="Of landscape, along each direction.",
)
@click.option(
    "--reach",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Of landscape: how far to go, 1 being as far as the filters are long.",
)
@seed_option
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="Of a detector's predictions: the score from which on they are drawn.  [default: 0.5]",
)
@click.option(
    "--out", type=Folder(), metavar="FILE.png", help="[default: WHAT.png in the first DIR]"
)
@set_option
@json_option
def analyze(
    folders: tuple[str, ...],
    what: str,
    data: str | None,
    data_dir: str | None,
    split: str,
    index: int,
    count: int | None,
    points: int,
    reach: float,
    seed: int,
    threshold: float | None,
    out: str | None,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Draw what the network in DIR has learned: a run, or imported weights.

    \b
      filters    its first convolution
      maps       its feature maps of an image
      gradcam    where it looks for the likeliest class (Selvaraju et al. 2017)
      erf        from where in an image the middle unit of its last map draws (Luo et al. 2016)
      landscape  the loss in two random, filter-normalised directions of --seed (Li et al. 2018)
      confusion  which class is taken for which
      predictions  of a detector its boxes, found (TP), wrong (FP) and missed (FN); of a
                 segmentation the classes of pixels, above the true ones
      precision_recall  of a detector, class by class, with IoU and score thresholds marked

    \b
      cnnjax analyze runs/plain runs/residual --what landscape

    Of erf and landscape more than one DIR is drawn side by side; landscapes on one scale, an erf by
    its own strongest pixel.
    """
    from cnnjax.core.environment import configure_xla
    from cnnjax.core.errors import Refused
    from cnnjax.core.files import atomic_write
    from cnnjax.core.recipe import Recipe
    from cnnjax.training.network import holds

    configure_xla()
    _refuse_idle(what)
    if points % 2 == 0:
        raise Refused(f"--points {points}: an odd number has the network itself in the middle")
    if threshold is not None and math.isnan(threshold):
        raise Refused(f"--threshold {threshold}: 0 to 1")
    if not math.isfinite(reach):
        raise Refused(f"--reach {reach}: must be a number")
    places = [Path(folder) for folder in folders]
    if twice := [str(place) for place in places if places.count(place) > 1]:
        raise Refused(f"{twice[0]} is given twice; leave it out once")
    for place in places:
        holds(place)  # a wrong folder is refused before jax is started
    target = Path(out) if out is not None else places[0] / f"{what}.png"
    if target.suffix != ".png" or not target.absolute().parent.is_dir():
        raise Refused(f"--out {target}: give a .png file in a folder that is there")
    only(settings, IMAGES_OF_WEIGHTS, f"of the data count {', '.join(IMAGES_OF_WEIGHTS)}")
    if settings and data is None:
        raise Refused(f"--set {settings[0]} has no effect without --data")
    wanted = None
    if data is not None:
        wanted = changed(Recipe(), {"data.name": ("--data", data)}, settings).data
    start_jax()

    from cnnjax.core.user_code import refused
    from cnnjax.report.looks import BESIDE, LOOKS, OF_MAPS, Chosen, named
    from cnnjax.training.subject import load_subject

    if len(places) > 1 and what not in BESIDE:
        raise Refused(
            f"--what {what}: of one network at a time; side by side are drawn: {', '.join(BESIDE)}"
        )
    subjects = [load_subject(place, wanted, data_dir, say) for place in places]
    for subject in subjects:
        if what in OF_MAPS and not hasattr(subject.task.model, "feature_maps"):
            raise Refused(
                f"{named(subject)} has no feature maps (no method feature_maps(images, *, train) ->"
                " {stride: map}); landscape and confusion need none"
            )
    with refused(f"--what {what}: {', '.join(folders)} cannot be looked at so"):
        look = LOOKS[what](subjects, Chosen(split, index, count, points, reach, seed, threshold))
    atomic_write(target, look.png)
    if as_json:
        print_json({"what": what, "picture": str(target), **look.found})
        return
    for line in look.lines:
        echo(line)
    echo(target)


# Options that not every look has.
_OPTIONS = {
    "index": ("maps", "gradcam", "erf", "landscape", "predictions"),
    "count": ("gradcam", "erf", "landscape", "predictions"),
    "points": ("landscape",),
    "reach": ("landscape",),
    "seed": ("landscape",),
    "threshold": ("predictions",),
}


def _refuse_idle(what: str) -> None:
    from cnnjax.core.errors import Refused

    context = click.get_current_context()
    for name, looks in _OPTIONS.items():
        typed = context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if typed and what not in looks:
            raise Refused(f"--{name} has no effect on {what}; it is of {', '.join(looks)}")
