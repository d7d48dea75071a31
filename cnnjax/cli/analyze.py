"""`cnnjax analyze`."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from cnnjax.cli.options import changed, only
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

_DATA = (
    *("data.train_split", "data.test_split", "data.image_size", "data.streaming"),
    "data.normalization",
)
WHAT = ("filters", "maps", "gradcam", "erf", "landscape", "confusion")
_OF_MAPS = ("maps", "gradcam", "erf")
_BESIDE = ("erf", "landscape")  # what is drawn of more than one network


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
    help="Images.  [default: 8 of gradcam, 64 of erf, 256 of landscape]",
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

    \b
      cnnjax analyze runs/plain runs/residual --what landscape

    Of erf and landscape more than one DIR is drawn side by side; landscapes on one scale, an erf by
    its own strongest pixel.
    """
    from cnnjax.core.environment import configure_xla, start_backend
    from cnnjax.core.errors import Refused
    from cnnjax.core.files import atomic_write
    from cnnjax.core.recipe import Recipe
    from cnnjax.training.network import holds

    configure_xla()
    _refuse_idle(what)
    if points % 2 == 0:
        raise Refused(f"--points {points}: an odd number has the network itself in the middle")
    if not math.isfinite(reach):
        raise Refused(f"--reach {reach}: must be a number")
    places = [Path(folder) for folder in folders]
    if twice := [str(place) for place in places if places.count(place) > 1]:
        raise Refused(f"{twice[0]} is given twice; leave it out once")
    if len(places) > 1 and what not in _BESIDE:
        raise Refused(f"--what {what}: of one network at a time; side by side are drawn: erf,"
                      " landscape")  # fmt: skip
    for place in places:
        holds(place)  # a wrong folder is refused before jax is started
    target = Path(out) if out is not None else places[0] / f"{what}.png"
    if target.suffix != ".png" or not target.absolute().parent.is_dir():
        raise Refused(f"--out {target}: give a .png file in a folder that is there")
    only(settings, _DATA, f"of the data count {', '.join(_DATA)}")
    if settings and data is None:
        raise Refused(f"--set {settings[0]} has no effect without --data")
    wanted = None
    if data is not None:
        wanted = changed(Recipe(), {"data.name": ("--data", data)}, settings).data
    start_backend()

    from cnnjax.core.user_code import refused
    from cnnjax.training.subject import load_subject

    subjects = [load_subject(place, wanted, data_dir, say) for place in places]
    for subject in subjects:
        if what in _OF_MAPS and not hasattr(subject.task.model, "feature_maps"):
            raise Refused(
                f"{_name(subject)} has no feature maps (no method feature_maps(images, *, train) ->"
                " {stride: map}); landscape and confusion need none"
            )
    chosen = _Chosen(split, index, count, points, reach, seed)
    with refused(f"--what {what}: {', '.join(folders)} cannot be looked at so"):
        png, found = _LOOKS[what](subjects, chosen)
    atomic_write(target, png)
    if as_json:
        print_json({"what": what, "picture": str(target), **found})
        return
    for line in found.get("lines", []):
        echo(line)
    echo(target)


# Options that not every look has.
_OPTIONS = {
    "index": ("maps", "gradcam", "erf", "landscape"),
    "count": ("gradcam", "erf", "landscape"),
    "points": ("landscape",),
    "reach": ("landscape",),
    "seed": ("landscape",),
}


def _refuse_idle(what: str) -> None:
    from cnnjax.core.errors import Refused

    context = click.get_current_context()
    for name, looks in _OPTIONS.items():
        typed = context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if typed and what not in looks:
            raise Refused(f"--{name} has no effect on {what}; it is of {', '.join(looks)}")


@dataclass(frozen=True)
class _Chosen:
    """What of the data is looked at, and how finely."""

    split: Any
    index: int
    count: int | None
    points: int
    reach: float
    seed: int


def _class_names(subject: Any) -> list[str]:
    count = subject.task.num_outputs
    known = list(subject.dataset.label_names)
    return known if len(known) == count else [str(index) for index in range(count)]


def _name(subject: Any) -> str:
    return f"{subject.name} ({subject.folder.name})"


def _picture(subjects: list[Any], chosen: _Chosen, what: str) -> tuple[bytes, dict[str, Any]]:
    """The first convolution, or the feature maps of an image: of `cnnjax visualize` one picture."""
    import numpy as np

    from cnnjax.core.errors import Refused
    from cnnjax.report.visualize import (
        filters_picture,
        first_filters,
        maps_picture,
        network_maps,
        stored_image,
    )

    (subject,) = subjects
    module, state, dataset = subject.task.model, subject.state, subject.dataset
    _, batch = subject.batch(chosen.split, chosen.index, 1)
    _, label = stored_image(dataset, chosen.split, chosen.index)
    title = f"{_name(subject)}, {dataset.name} {chosen.split} {chosen.index}: {label}"
    if what == "maps":
        variables = {"params": state.params, **state.model_state}
        maps = network_maps(module, variables, np.asarray(batch["images"][0]))
        return maps_picture(maps, title), {"label": label}
    first = first_filters(module, state.params, dataset.image_shape)
    if first is None:
        raise Refused(f"{subject.name} has no convolution")
    return filters_picture(*first, _name(subject)), {"layer": first[0]}


def _grad_cam(subjects: list[Any], chosen: _Chosen) -> tuple[bytes, dict[str, Any]]:
    import jax
    import numpy as np

    from cnnjax.probes.grad_cam import grad_cam
    from cnnjax.report.analyses import grad_cam_picture

    (subject,) = subjects
    stored, batch = subject.batch(chosen.split, chosen.index, chosen.count or 8)
    task = subject.task
    heat, classes = jax.jit(lambda s, x: grad_cam(task, s, x))(subject.state, batch["images"])
    names = _class_names(subject)
    labels, seen = np.asarray(batch["labels"]).tolist(), np.asarray(classes).tolist()
    titles = [
        f"{names[label]}, seen as {names[one]}" for label, one in zip(labels, seen, strict=True)
    ]
    heading = (
        f"{_name(subject)}, {subject.dataset.name} {chosen.split}: below, the lighter the more"
    )
    png = grad_cam_picture(stored / subject.dataset.max_value, np.asarray(heat), titles, heading)
    return png, {"labels": labels, "classes": seen}


def _influence(subjects: list[Any], chosen: _Chosen) -> tuple[bytes, dict[str, Any]]:
    import jax
    import numpy as np

    from cnnjax.probes.receptive_field import effective_receptive_field, influence_map
    from cnnjax.report.analyses import influence_picture

    maps, sides = [], []
    for subject in subjects:
        _, batch = subject.batch(chosen.split, chosen.index, chosen.count or 64)

        def look(state: Any, batch: Any, task: Any = subject.task) -> Any:
            return influence_map(task, state, batch), effective_receptive_field(task, state, batch)

        map_, side = jax.jit(look)(subject.state, batch)
        maps.append(np.asarray(map_))
        sides.append(float(side))
    titles = [f"{_name(s)}: {side:.1f} px" for s, side in zip(subjects, sides, strict=True)]
    return influence_picture(maps, titles), {"side_px": sides, "lines": titles}


def _landscape(subjects: list[Any], chosen: _Chosen) -> tuple[bytes, dict[str, Any]]:
    import jax
    import jax.numpy as jnp
    import numpy as np

    from cnnjax.probes.landscape import loss_surface
    from cnnjax.report.analyses import landscape_picture

    places = jnp.linspace(-chosen.reach, chosen.reach, chosen.points)
    surfaces = []
    for subject in subjects:
        _, batch = subject.batch(chosen.split, chosen.index, chosen.count or 256)

        def look(state: Any, batch: Any, key: Any, task: Any = subject.task) -> Any:
            return loss_surface(task, state, batch, key, places)

        surfaces.append(
            np.asarray(jax.jit(look)(subject.state, batch, jax.random.key(chosen.seed)))
        )
    middle = chosen.points // 2
    titles = [_name(subject) for subject in subjects]
    lines = [
        f"{name}: loss {surface[middle, middle]:.4g} in the middle, {np.nanmedian(surface):.4g} in"
        " the median of the plane"
        for name, surface in zip(titles, surfaces, strict=True)
    ]
    finite = [
        [[float(loss) if np.isfinite(loss) else None for loss in row] for row in surface]
        for surface in surfaces
    ]
    png = landscape_picture(surfaces, np.asarray(places).tolist(), titles)
    return png, {"places": np.asarray(places).tolist(), "losses": finite, "lines": lines}


def _confusion(subjects: list[Any], chosen: _Chosen) -> tuple[bytes, dict[str, Any]]:
    import numpy as np

    from cnnjax.core.errors import Refused
    from cnnjax.report.analyses import confusion_picture
    from cnnjax.training.loop import evaluate

    (subject,) = subjects
    task, dataset = subject.task, subject.dataset
    accumulator = task.accumulator(detailed=True)
    figures = evaluate(
        task, subject.data, subject.state, dataset, chosen.split, accumulator=accumulator
    )
    if "confusion" not in figures:
        raise Refused(f"task of {subject.name} has no classes to confuse")
    counts = np.asarray(figures["confusion"])
    title = f"{_name(subject)}, {dataset.name} {chosen.split}, {counts.sum():,} examples"
    wrong = counts - np.diag(np.diag(counts))
    worst = np.argsort(-wrong, axis=None, kind="stable")[:5]
    names = _class_names(subject)
    pairs = [np.unravel_index(one, wrong.shape) for one in worst if wrong.flat[one]]
    lines = [
        f"{names[row]} taken for {names[column]}: {wrong[row, column]:,}" for row, column in pairs
    ]
    return confusion_picture(counts, names, title), {"confusion": counts.tolist(), "lines": lines}


_LOOKS: dict[str, Callable[[list[Any], _Chosen], tuple[bytes, dict[str, Any]]]] = {
    "filters": lambda subjects, chosen: _picture(subjects, chosen, "filters"),
    "maps": lambda subjects, chosen: _picture(subjects, chosen, "maps"),
    "gradcam": _grad_cam,
    "erf": _influence,
    "landscape": _landscape,
    "confusion": _confusion,
}
