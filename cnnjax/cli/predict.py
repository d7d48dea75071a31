"""`cnnjax predict`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cnnjax.cli.options import start_jax
from cnnjax.cli.output import Folder, data_dir_option, json_option, print_json, print_table, say

if TYPE_CHECKING:
    from cnnjax.data.coco_json import Instances

_CLASSES = 5  # the most probable
_THRESHOLD = 0.5


@click.command()
@click.argument("folder", metavar="DIR")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option(
    "--out",
    type=Folder(),
    metavar="DIR",
    help="Of a detector or a segmentation, which need it: where the pictures go.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help=f"Of a detector: least score of what is shown.  [default: {_THRESHOLD}]",
)
@click.option(
    "--ids",
    metavar="GT.json",
    help="Of a detector: take the ids of images and categories from this file of annotations, by"
    " the names of files and classes.  [default: 1, 2, ... in their order]",
)
@data_dir_option
@json_option
def predict(
    folder: str,
    images: tuple[str, ...],
    out: str | None,
    threshold: float | None,
    ids: str | None,
    data_dir: str | None,
    as_json: bool,
) -> None:
    """Tell what the network in DIR sees in each IMAGE.

    \b
      cnnjax predict weights/resnet50 cat.jpg dog.png
      cnnjax predict runs/detector street.jpg --out found --threshold 0.3

    A classifier: the five most probable classes, in per cent. A detector: boxes, drawn in
    OUT/IMAGE.png and written to OUT/detections.json in COCO's format, in pixels of the image as it
    is (what cnnjax score reads, with --threshold 0 and --ids); with the mask of each object where
    the detector tells it. A segmentation: the class of each pixel, drawn in OUT/IMAGE.png and as a
    mask of classes in OUT/IMAGE-mask.png, of the image as the network sees it.

    DIR is a run of cnnjax train (its newest intact checkpoint) or imported weights. An image is
    seen as a test image of the run's data: brought to their size, normalised by their figures; for
    that the data must be there, which also give the names of the classes. For imported weights
    the shorter side is resized to 256/224 of the input's and the centre cropped (an image of just
    the input's size is taken as it is), normalised as import-weights was told, and classes are
    numbers. JPEG, PNG, WebP, BMP, GIF, TIFF and PPM are read.
    """
    from cnnjax.core.environment import configure_xla
    from cnnjax.core.errors import Refused
    from cnnjax.core.recipe import Task
    from cnnjax.data.coco_json import read_instances
    from cnnjax.training.network import holds, load_predictor, read_image

    configure_xla()
    given = None if ids is None else read_instances(Path(ids), "--ids")
    holds(Path(folder))  # a wrong folder, then a wrong image, is refused before jax is started
    encoded = [read_image(Path(image)) for image in images]
    start_jax()
    predictor = load_predictor(Path(folder), data_dir, say)
    task, about = predictor.task_name, {"model": predictor.network.model.name, "weights": folder}
    if task != "detection" and threshold is not None:
        raise Refused(f"--threshold {threshold} has no effect: {folder} is no detector")
    if task != "detection" and ids is not None:
        raise Refused(f"--ids {ids} has no effect: {folder} is no detector")
    if task == Task.name:
        if out is not None:
            raise Refused(f"--out {out} has no effect: {folder} tells classes and draws nothing")
        _classes(predictor, images, encoded, about, as_json)
        return
    if out is None:
        raise Refused(f"{folder} was trained on task {task}: say where its pictures go, --out DIR")
    if task not in ("detection", "segmentation"):
        raise Refused(f"task {task}: nothing is drawn of what it predicts")
    if Path(out).exists() and not Path(out).is_dir():
        raise Refused(f"--out {out}: it is a file; give a folder")
    numbers = _ids(images, predictor.label_names, given, ids) if task == "detection" else ([], [])
    _refuse_overwriting(images, Path(out), "-mask" if task == "segmentation" else "")
    Path(out).mkdir(parents=True, exist_ok=True)
    least = _THRESHOLD if threshold is None else threshold
    if task == "detection":
        _detections(predictor, images, encoded, Path(out), least, numbers, about, as_json)
    else:
        _class_maps(predictor, images, encoded, Path(out), about, as_json)


def _refuse_overwriting(images: tuple[str, ...], out: Path, also: str) -> None:
    """Refuse pictures that would be one file, or an image that is looked at."""
    from cnnjax.core.errors import Refused

    stems = [Path(image).stem for image in images]
    written = [f"{stem}{end}.png" for stem in stems for end in dict.fromkeys(("", also))]
    if twice := [name for name in written if written.count(name) > 1]:
        raise Refused(f"two pictures would be named {twice[0]}; rename an image")
    inputs = {Path(image).resolve() for image in images}
    if lost := [name for name in written if (out / name).resolve() in inputs]:
        raise Refused(f"--out {out}: {lost[0]} there is an image that is looked at; give another")


def _ids(
    images: tuple[str, ...], names: Any, given: "Instances | None", where: str | None
) -> tuple[list[int], list[int]]:
    """Of images and of classes, as `given` has them; else counted from 1.

    Raises:
      Refused: `given` has no such file or class, or one more than once.
    """
    from cnnjax.core.errors import Refused

    if given is None:
        return list(range(1, len(images) + 1)), list(range(1, len(names) + 1))
    found = []
    for what, wanted, known in (
        (
            "image",
            [Path(i).name for i in images],
            [(Path(i.file_name).name, i.id) for i in given.images],
        ),
        ("category", list(names), [(one.name, one.id) for one in given.categories]),
    ):
        for name in wanted:
            ids = [number for other, number in known if other == name]
            if len(ids) != 1:
                raise Refused(
                    f"--ids {where}: {what} {name} is there {len(ids)} times; give the annotations"
                    " of these images and of the run's classes"
                )
        by_name = dict(known)
        found.append([by_name[name] for name in wanted])
    return found[0], found[1]


def _classes(
    predictor: Any,
    images: tuple[str, ...],
    encoded: list[bytes],
    about: dict[str, Any],
    as_json: bool,
) -> None:
    names, found = predictor.label_names, []
    for image, data in zip(images, encoded, strict=True):
        chances = predictor.probabilities(data)
        likeliest = [int(index) for index in (-chances).argsort(kind="stable")[:_CLASSES]]
        classes = [
            {
                "index": index,
                "class": names[index] if names else str(index),
                "probability": 100 * float(chances[index]),
            }
            for index in likeliest
        ]
        found.append({"image": image, "classes": classes})
    if as_json:
        print_json({**about, "images": found})
        return
    rows = [
        (one["image"] if not rank else "", each["class"], f"{each['probability']:.2f} %")
        for one in found
        for rank, each in enumerate(one["classes"])
    ]
    print_table(("image", "class", "probability"), rows, numeric=(2,))


def _detections(
    predictor: Any,
    images: tuple[str, ...],
    encoded: list[bytes],
    out: Path,
    threshold: float,
    numbers: tuple[list[int], list[int]],
    about: dict[str, Any],
    as_json: bool,
) -> None:
    """
    Args:
      numbers: ids of the images, and of the classes.
    """
    import json

    import numpy as np

    from cnnjax.core.files import atomic_write
    from cnnjax.data.decode import decode
    from cnnjax.ops.paste import paste_mask
    from cnnjax.ops.rle import RunLengths
    from cnnjax.report.scenes import boxes_picture

    found: list[dict[str, Any]] = []
    names, channels = predictor.label_names, predictor.network.image_shape[2]
    image_ids, category_ids = numbers
    for number, image, data in zip(image_ids, images, encoded, strict=True):
        original = decode(data, channels)
        seen = predictor.see(data)
        one = predictor.predictions(seen)
        shown = (one["labels"] >= 0) & (one["scores"] >= threshold)
        left, top, width, height = _part_looked_at(predictor, image, original)
        scale = np.array([width / seen.shape[1], height / seen.shape[0]] * 2)
        boxes = one["boxes"][shown].astype(np.float64) * scale + [left, top] * 2
        cut = boxes.clip(0, [original.shape[1], original.shape[0]] * 2)  # what is laid round it
        seen_of = (cut[:, 2:] > cut[:, :2]).all(1)
        shown, whole, boxes = np.flatnonzero(shown)[seen_of], boxes[seen_of], cut[seen_of]
        masks: list[Any] = [None] * len(boxes)
        if "masks" in one:
            masks = [
                paste_mask(mask, box, original.shape[:2])
                for mask, box in zip(one["masks"][shown], whole, strict=True)
            ]
        labels, scores = one["labels"][shown].tolist(), one["scores"][shown].tolist()
        titles = [f"{names[label]} {s:.2f}" for label, s in zip(labels, scores, strict=True)]
        drawn = boxes_picture(original, boxes, titles, [m for m in masks if m is not None])
        atomic_write(out / f"{Path(image).stem}.png", drawn)
        rows = zip(boxes.tolist(), labels, scores, masks, strict=True)
        for (x, y, x2, y2), label, score, mask in rows:
            entry = {
                "image_id": number,
                "category_id": category_ids[label],
                "bbox": [x, y, x2 - x, y2 - y],
                "score": score,
                "image": image,
                "category": names[label],
            }
            if mask is not None:
                counts = RunLengths.of_mask(mask).text()
                entry["segmentation"] = {"size": list(mask.shape), "counts": counts}
            found.append(entry)
    atomic_write(out / "detections.json", json.dumps(found, indent=1).encode())
    if as_json:
        print_json({**about, "threshold": threshold, "detections": found, "out": str(out)})
        return
    rows = [
        (
            one["image"],
            one["category"],
            f"{one['score']:.2f}",
            ", ".join(f"{value:.1f}" for value in one["bbox"]),
        )
        for one in found
    ]
    print_table(("image", "class", "score", "x, y, width, height"), rows, numeric=(2,))
    seen = {one["image"] for one in found}
    for image in images:
        if image not in seen:
            say(f"{image}: nothing with a score of {threshold:g} or more")
    say(f"pictures and detections.json are in {out}")


def _part_looked_at(predictor: Any, image: str, original: Any) -> tuple[float, float, float, float]:
    """Left, top, width and height in the original; said where that is not the whole."""
    left, top, width, height = predictor.part(original.shape[:2])
    if left + top > 1:
        say(f"{image}: only its middle, {width:.0f}x{height:.0f}, is looked at")
    return left, top, width, height


def _class_maps(
    predictor: Any,
    images: tuple[str, ...],
    encoded: list[bytes],
    out: Path,
    about: dict[str, Any],
    as_json: bool,
) -> None:
    import numpy as np

    from cnnjax.core.files import atomic_write
    from cnnjax.data.decode import decode
    from cnnjax.report.scenes import classes_picture, mask_png

    names = ("ground", *predictor.label_names)
    found = []
    for image, data in zip(images, encoded, strict=True):
        seen = predictor.see(data)
        original = decode(data, predictor.network.image_shape[2])
        _part_looked_at(predictor, image, original)
        class_map = predictor.predictions(seen)[..., 0].astype(np.uint8)
        row, column = ((s - m) // 2 for s, m in zip(seen.shape, class_map.shape, strict=False))
        middle = seen[row : row + class_map.shape[0], column : column + class_map.shape[1]]
        name = Path(image).stem
        atomic_write(out / f"{name}.png", classes_picture(middle, class_map, names))
        atomic_write(out / f"{name}-mask.png", mask_png(class_map))
        shares = np.bincount(class_map.ravel(), minlength=len(names)) / class_map.size
        classes = {names[k]: 100 * float(shares[k]) for k in np.flatnonzero(shares)}
        found.append({"image": image, "pixels": classes})
    if as_json:
        print_json({**about, "images": found, "out": str(out)})
        return
    rows = [
        (one["image"] if not place else "", name, f"{share:.2f} %")
        for one in found
        for place, (name, share) in enumerate(one["pixels"].items())
    ]
    print_table(("image", "class", "pixels"), rows, numeric=(2,))
    say(f"pictures and masks are in {out}")
