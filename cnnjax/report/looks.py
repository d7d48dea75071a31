"""What `cnnjax analyze` shows of trained networks.

Each look takes networks with their data and what of these is looked at, and gives a picture:
computed in `probes`, drawn in `report.analyses`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.core.errors import Refused
from cnnjax.probes.grad_cam import grad_cam
from cnnjax.probes.landscape import loss_surface
from cnnjax.probes.receptive_field import effective_receptive_field, influence_map
from cnnjax.report.analyses import (
    confusion_picture,
    grad_cam_picture,
    influence_picture,
    landscape_picture,
)
from cnnjax.report.visualize import (
    filters_picture,
    first_filters,
    maps_picture,
    network_maps,
    stored_image,
)
from cnnjax.training.loop import evaluate
from cnnjax.training.subject import Subject


@dataclass(frozen=True)
class Chosen:
    """What of the data is looked at, and how finely.

    Attributes:
      index, count: the first image and how many; None: as many as the look needs.
      points: of the landscape, along each direction; odd, so that the network is in the middle.
      reach: of the landscape; 1 is as far as the filters are long.
      seed: of the landscape's directions.
    """

    split: str = "test"
    index: int = 0
    count: int | None = None
    points: int = 21
    reach: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Look:
    """A picture, what it says as plain values, and in lines for the eye."""

    png: bytes
    found: dict[str, Any]
    lines: tuple[str, ...] = ()


def _class_names(subject: Subject) -> list[str]:
    count = subject.task.num_outputs
    known = list(subject.dataset.label_names)
    if len(known) + 1 == count:  # of pixels
        known = ["ground", *known]
    return known if len(known) == count else [str(index) for index in range(count)]


def named(subject: Subject) -> str:
    """Network and folder: two runs of one network are told apart by it."""
    return f"{subject.name} ({subject.folder.name})"


def filters(subjects: Sequence[Subject], chosen: Chosen) -> Look:
    """The first convolution."""
    (subject,) = subjects
    first = first_filters(subject.task.model, subject.state.params, subject.dataset.image_shape)
    if first is None:
        raise Refused(f"{subject.name} has no convolution")
    return Look(filters_picture(*first, named(subject)), {"layer": first[0]})


def maps(subjects: Sequence[Subject], chosen: Chosen) -> Look:
    """The feature maps of an image."""
    (subject,) = subjects
    state, dataset = subject.state, subject.dataset
    _, batch = subject.batch(chosen.split, chosen.index, 1)
    _, label = stored_image(dataset, chosen.split, chosen.index)
    title = f"{named(subject)}, {dataset.name} {chosen.split} {chosen.index}: {label}"
    variables = {"params": state.params, **state.model_state}
    seen = network_maps(subject.task.model, variables, np.asarray(batch["images"][0]))
    return Look(maps_picture(seen, title), {"label": label})


def gradcam(subjects: Sequence[Subject], chosen: Chosen) -> Look:
    """Where a network looks for the likeliest class."""
    (subject,) = subjects
    if "labels" not in subject.task.needs:
        raise Refused(f"{named(subject)} tells no class of a whole image, which gradcam is about")
    stored, batch = subject.batch(chosen.split, chosen.index, chosen.count or 8)
    task = subject.task
    heat, classes = jax.jit(lambda s, x: grad_cam(task, s, x))(subject.state, batch["images"])
    names = _class_names(subject)
    labels, seen = np.asarray(batch["labels"]).tolist(), np.asarray(classes).tolist()
    titles = [
        f"{names[label]}, seen as {names[one]}" for label, one in zip(labels, seen, strict=True)
    ]
    heading = (
        f"{named(subject)}, {subject.dataset.name} {chosen.split}: below, the lighter the more"
    )
    png = grad_cam_picture(stored / subject.dataset.max_value, np.asarray(heat), titles, heading)
    return Look(png, {"labels": labels, "classes": seen})


def erf(subjects: Sequence[Subject], chosen: Chosen) -> Look:
    """From where in an image the middle unit of the last map draws."""
    influences, sides = [], []
    for subject in subjects:
        _, batch = subject.batch(chosen.split, chosen.index, chosen.count or 64)

        def look(state: Any, batch: Any, task: Any = subject.task) -> Any:
            return influence_map(task, state, batch), effective_receptive_field(task, state, batch)

        map_, side = jax.jit(look)(subject.state, batch)
        influences.append(np.asarray(map_))
        sides.append(float(side))
    titles = [f"{named(s)}: {side:.1f} px" for s, side in zip(subjects, sides, strict=True)]
    return Look(influence_picture(influences, titles), {"side_px": sides}, tuple(titles))


def landscape(subjects: Sequence[Subject], chosen: Chosen) -> Look:
    """The loss in two random directions around each network."""
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
    titles = [named(subject) for subject in subjects]
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
    return Look(png, {"places": np.asarray(places).tolist(), "losses": finite}, tuple(lines))


def confusion(subjects: Sequence[Subject], chosen: Chosen) -> Look:
    """Which class is taken for which, over a whole split."""
    (subject,) = subjects
    task, dataset = subject.task, subject.dataset
    accumulator = task.accumulator(detailed=True)
    figures = evaluate(
        task, subject.data, subject.state, dataset, chosen.split, accumulator=accumulator
    )
    if "confusion" not in figures:
        raise Refused(f"task of {subject.name} has no classes to confuse")
    counts = np.asarray(figures["confusion"])
    title = f"{named(subject)}, {dataset.name} {chosen.split}, {counts.sum():,} examples"
    wrong = counts - np.diag(np.diag(counts))
    worst = np.argsort(-wrong, axis=None, kind="stable")[:5]
    names = _class_names(subject)
    pairs = [np.unravel_index(one, wrong.shape) for one in worst if wrong.flat[one]]
    lines = [
        f"{names[row]} taken for {names[column]}: {wrong[row, column]:,}" for row, column in pairs
    ]
    return Look(
        confusion_picture(counts, names, title), {"confusion": counts.tolist()}, tuple(lines)
    )


LOOKS: dict[str, Callable[[Sequence[Subject], Chosen], Look]] = {
    "filters": filters,
    "maps": maps,
    "gradcam": gradcam,
    "erf": erf,
    "landscape": landscape,
    "confusion": confusion,
}
OF_MAPS = ("maps", "gradcam", "erf")  # what needs a network's feature maps
BESIDE = ("erf", "landscape")  # what is drawn of more than one network
