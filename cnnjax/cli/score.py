"""`cnnjax score`."""

from pathlib import Path
from typing import Any

import click

from cnnjax.cli.output import json_option, print_json, print_table, print_text, say
from cnnjax.core.words import counted

_ROWS = {  # figure: in words, with its IoU and areas
    "ap": "AP, IoU .50 to .95",
    "ap50": "AP50, IoU .50",
    "ap75": "AP75, IoU .75",
    "ap_small": "AP small, up to 32 x 32 px",
    "ap_medium": "AP medium, up to 96 x 96 px",
    "ap_large": "AP large",
    "ar1": "AR, 1 detection a category and image",
    "ar10": "AR, 10 detections",
    "ar100": "AR, 100 detections",
    "ar_small": "AR small",
    "ar_medium": "AR medium",
    "ar_large": "AR large",
}


@click.command()
@click.option("--truth", metavar="GT.json", required=True, help="Annotations in COCO's format.")
@click.option(
    "--detections",
    metavar="DT.json",
    required=True,
    help="A list of {image_id, category_id, score, bbox | segmentation}.",
)
@click.option(
    "--protocol",
    type=click.Choice(["coco", "voc2007", "voc2010"]),
    default="coco",
    show_default=True,
    help="By which rule detections are matched and averaged.",
)
@click.option(
    "--iou-type",
    type=click.Choice(["bbox", "segm"]),
    default="bbox",
    show_default=True,
    help="Compare boxes or masks.",
)
@click.option(
    "--curves",
    metavar="FILE.png|svg",
    help="Draw precision over recall of the categories with the most objects.",
)
@json_option
def score(
    truth: str,
    detections: str,
    protocol: Any,
    iou_type: Any,
    curves: str | None,
    as_json: bool,
) -> None:
    """Judge the detections of any detector: average precision by protocol.

    \b
      cnnjax score --truth instances_val2017.json --detections mine.json
      cnnjax score --truth val.json --detections mine.json --protocol voc2007 --curves pr.png

    Both files are in COCO's format: boxes are x, y, width, height in pixels; masks are polygons or
    run lengths. Figures are fractions, equal to those of pycocotools (coco); "-" (null with --json)
    where no object says anything, for which pycocotools prints -1. A category without objects is
    in no mean.

    Where pycocotools is surprising: an annotation of id 0 is an object like others here, and with
    --iou-type segm the area of a detection is its mask's, also where it has a box.
    """
    from cnnjax.core.errors import Refused, refused_at
    from cnnjax.data.coco_json import read_detections, read_instances
    from cnnjax.metrics.average_precision import PROTOCOLS, average_precision, match
    from cnnjax.metrics.objects import detections_of, truths_of

    out = None if curves is None else Path(curves)
    if out is not None and (
        out.suffix not in (".png", ".svg") or not out.absolute().parent.is_dir()
    ):
        raise Refused(f"--curves {out}: give a .png or .svg file in a folder that is there")
    instances = read_instances(Path(truth), "--truth")
    found = read_detections(Path(detections), instances, "--detections")
    if any(one.id == 0 for one in instances.annotations) and protocol == "coco":
        say("note: annotation id 0 counts as an object here; pycocotools never finds one of id 0")
    with refused_at(f"--truth {truth}"):
        objects = truths_of(instances, iou_type, difficult=protocol != "coco")
    with refused_at(f"--detections {detections}"):
        rated = detections_of(found, instances, iou_type)
    matches = match(objects, rated, len(instances.categories), protocol)
    figures = average_precision(matches, protocol)
    categories = sorted(instances.categories, key=lambda one: one.id)
    counts = matches.positives[:, 0].tolist()
    each = [
        {"id": one.id, "name": one.name, **values, "objects": count}
        for one, values, count in zip(categories, figures.pop("per_category"), counts, strict=True)
    ]
    if out is not None:
        from cnnjax.core.files import atomic_write
        from cnnjax.report.detection import curve_picture

        names = [one.name for one in categories]
        heading = f"{Path(detections).name} beside {Path(truth).name}: {PROTOCOLS[protocol]}"
        drawn = curve_picture(matches, names, protocol, heading)
        atomic_write(out, drawn.png if out.suffix == ".png" else drawn.svg)
    if as_json:
        about = {"protocol": protocol, "iou_type": iou_type}
        sizes = {"images": len(instances.images), "detections": len(found)}
        print_json({**about, **dict.fromkeys(_ROWS), **figures, "per_class": each, **sizes})
        return
    print_text(
        f"{PROTOCOLS[protocol]}; {'masks' if iou_type == 'segm' else 'boxes'};"
        f" {counted(len(instances.images), 'image')}, {counted(sum(counts), 'object')},"
        f" {counted(len(found), 'detection')}\n"
    )
    words = _ROWS if protocol == "coco" else {"ap": "AP, mean over the categories"}
    print_table(
        ("", ""), [(line, _shown(figures[name])) for name, line in words.items()], numeric=(1,)
    )
    print_text("")
    heads = ("AP", "AP50") if protocol == "coco" else ("AP",)
    print_table(
        ("category", "objects", *heads),
        [
            (
                one["name"],
                f"{one['objects']:,}",
                *(_shown(one[head.lower()]) for head in heads),
            )
            for one in each
        ],
        numeric=(1, 2, 3)[: 1 + len(heads)],
    )


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
