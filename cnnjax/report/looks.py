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
from cnnjax.core.words import counted
from cnnjax.metrics.matching import found_and_missed
from cnnjax.probes.grad_cam import grad_cam
from cnnjax.probes.landscape import loss_surface
from cnnjax.probes.receptive_field import effective_receptive_field, influence_map
from cnnjax.report.analyses import (
    confusion_picture,
    grad_cam_picture,
    influence_picture,
    landscape_picture,
)
from cnnjax.report.detection import curve_picture
from cnnjax.report.scenes import Seen, detections_picture, segmentations_picture
from cnnjax.report.visualize import (
    filters_picture,
    first_filters,
    maps_picture,
    network_maps,
    stored_image,
)
from cnnjax.tasks.detection import FoundObjects
from cnnjax.training.loop import evaluate
from cnnjax.training.subject import Subject

SCORE = 0.5  # of a detection that is drawn, at least


@dataclass(frozen=True)
class Chosen:
    """What of the data is looked at, and how finely.

    Attributes:
      index, count: the first image and how many; None: as many as the look needs.
      points: of the landscape, along each direction; odd, so that the network is in the middle.
      reach: of the landscape; 1 is as far as the filters are long.
      seed: of the landscape's directions.
      threshold: score from which on a detection is drawn; None: `SCORE`.
    """

    split: str = "test"
    index: int = 0
    count: int | None = None
    points: int = 21
    reach: float = 1.0
    seed: int = 0
    threshold: float | None = None


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
    unit = "pixels" if "class_map" in task.needs else "examples"
    title = f"{named(subject)}, {dataset.name} {chosen.split}, {counts.sum():,} {unit}"
    wrong = counts - np.diag(np.diag(counts))
    worst = np.argsort(-wrong, axis=None, kind="stable")[:5]
    names = _class_names(subject)
    pairs = [np.unravel_index(one, wrong.shape) for one in worst if wrong.flat[one]]
    lines = [
        f"{names[row]} taken for {names[column]}: {wrong[row, column]:,}" for row, column in pairs
    ]
    png = confusion_picture(counts, names, title, unit)
    return Look(png, {"confusion": counts.tolist()}, tuple(lines))


def precision_recall(subjects: Sequence[Subject], chosen: Chosen) -> Look:
    """Of a detector over a whole split: precision over recall of each class, and COCO's AP."""
    (subject,) = subjects
    task, dataset = subject.task, subject.dataset
    found = task.accumulator(detailed=True)
    if not isinstance(found, FoundObjects):
        raise Refused(f"{named(subject)} finds no objects; of classes show --what confusion")
    figures = evaluate(task, subject.data, subject.state, dataset, chosen.split, accumulator=found)
    names = list(dataset.label_names)
    judged = {name: figures[name] for name in ("ap", "ap50", "ap75")}
    classes = dict(zip(names, figures["class_ap"], strict=True))
    line = ", ".join(f"{name.upper()} {_percent(value)}" for name, value in judged.items())
    heading = f"{named(subject)}, {dataset.name} {chosen.split}: {line}"
    png = curve_picture(found.matches(), names, "coco", heading).png
    return Look(png, {**judged, "class_ap": classes}, (line,))


def predictions(subjects: Sequence[Subject], chosen: Chosen) -> Look:
    """What a detector or a segmentation makes of some images, beside what is there."""
    (subject,) = subjects
    task, dataset = subject.task, subject.dataset
    kind = next((name for name in ("boxes", "class_map") if name in task.needs), None)
    if kind is None or not hasattr(task, "predictions"):
        raise Refused(
            f"{named(subject)} predicts neither boxes nor the classes of pixels; gradcam and"
            " confusion are for classes of images"
        )
    if kind != "boxes" and chosen.threshold is not None:
        raise Refused(f"{named(subject)} has no scores; leave --threshold out")
    stored, batch = subject.batch(chosen.split, chosen.index, chosen.count or 8)
    model, state = task.model, subject.state

    @jax.jit
    def predicted(state: Any, images: Any) -> Any:
        variables = {"params": state.params, **state.model_state}
        return task.predictions(model.apply(variables, images, train=False))

    found = jax.device_get(predicted(state, batch["images"]))
    images = stored / dataset.max_value
    heading = f"{named(subject)}, {dataset.name} {chosen.split}"
    if kind == "boxes":
        least = SCORE if chosen.threshold is None else chosen.threshold
        names = dataset.label_names
        return _detections(images, jax.device_get(batch), found, names, heading, least)
    truth, seen = np.asarray(batch["class_map"]), found[..., 0].astype(np.uint8)
    top, left = ((a - b) // 2 for a, b in zip(truth.shape[1:], seen.shape[1:], strict=True))
    rows, columns = slice(top, top + seen.shape[1]), slice(left, left + seen.shape[2])
    both = list(zip(truth[:, rows, columns], seen, strict=True))
    names = ("ground", *dataset.label_names)
    png = segmentations_picture(list(images[:, rows, columns]), both, names, heading)
    right = [float((a == b)[a != 255].mean()) for a, b in both if (a != 255).any()]
    mean = 100 * sum(right) / len(right) if right else None
    line = f"right of the pixels that count: {_percent(mean)}"
    return Look(png, {"pixel_accuracy": mean}, (line,))


def _detections(
    images: np.ndarray,
    batch: Any,
    found: Any,
    names: Sequence[str],
    heading: str,
    least: float,
) -> Look:
    """Detections with a score of `least` and more."""
    seen: list[Seen] = []
    counts: dict[str, int] = {"TP": 0, "FP": 0, "FN": 0}
    for index, image in enumerate(images):
        truth = batch["boxes"][index], batch["box_labels"][index]
        shown = (found["labels"][index] >= 0) & (found["scores"][index] >= least)
        detected = found["boxes"][index][shown], found["labels"][index][shown]
        hits, missed, out = found_and_missed(truth, detected)
        shown[np.flatnonzero(shown)[out]] = False  # neither right nor wrong
        detected, hits = (detected[0][~out], detected[1][~out]), hits[~out]
        kinds = ["TP" if hit else "FP" for hit in hits] + ["FN"] * int(missed.sum())
        scores = found["scores"][index][shown].tolist()
        titles = [
            *(f"{names[label]} {s:.2f}" for label, s in zip(detected[1], scores, strict=True)),
            *(names[label] for label in truth[1][missed]),
        ]
        boxes = np.concatenate([detected[0], truth[0][missed]])
        seen.append(Seen(image, boxes, kinds, titles))
        for kind in kinds:
            counts[kind] += 1
    line = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    line += f" in {counted(len(images), 'image')}, scores of {least:g} and IoU of .5 or more"
    heading = f"{heading}: scores of {least:g} and more, IoU of .5"
    return Look(detections_picture(seen, heading), counts, (line,))


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} %"


LOOKS: dict[str, Callable[[Sequence[Subject], Chosen], Look]] = {
    "filters": filters,
    "maps": maps,
    "gradcam": gradcam,
    "erf": erf,
    "landscape": landscape,
    "confusion": confusion,
    "precision_recall": precision_recall,
    "predictions": predictions,
}
OF_MAPS = ("maps", "gradcam", "erf")  # what needs a network's feature maps
BESIDE = ("erf", "landscape")  # what is drawn of more than one network
