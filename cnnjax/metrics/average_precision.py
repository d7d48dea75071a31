"""Average precision by protocol, always told which: COCO, VOC 2007, VOC 2010."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Int8

from cnnjax.core.errors import Refused, unknown
from cnnjax.metrics.matching import (
    FALSE,
    IGNORED,
    TRUE,
    Matches,
    Ranges,
    match_as_coco,
    match_as_voc,
)
from cnnjax.metrics.objects import Detections, Truths

ProtocolName = Literal["coco", "voc2007", "voc2010"]
PROTOCOLS: dict[str, str] = {
    "coco": "COCO: mean over IoU .50 to .95 by .05, 101 recalls, at most 100 detections a category"
    " and image",
    "voc2007": "VOC 2007: IoU above .5, mean of 11 recalls (sizes without + 1)",
    "voc2010": "VOC 2010: IoU above .5, area under the envelope (sizes without + 1)",
}
assert set(PROTOCOLS) == set(get_args(ProtocolName))

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
AREAS: dict[str, tuple[float, float]] = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
MOST = (1, 10, 100)  # detections of one category in one image
RANGES: Ranges = tuple(AREAS.values())


@dataclass(frozen=True, eq=False)
class Curve:
    """Precision over recall of one category at one IoU threshold, a point a counted detection.

    Attributes:
      scores: falling; a point is what is found with this threshold of the score.
    """

    scores: Float[np.ndarray, " n"]
    precision: Float[np.ndarray, " n"]
    recall: Float[np.ndarray, " n"]


def match(
    truths: Truths, detections: Detections, num_categories: int, protocol: ProtocolName
) -> Matches:
    """The matches that `average_precision` of the same protocol needs.

    Raises:
      Refused: there is no such protocol, or a category outside of 0 to num_categories - 1.
    """
    if protocol not in PROTOCOLS:
        raise unknown("protocol", protocol, PROTOCOLS)
    for objects in (truths, detections):
        if len(objects) and not 0 <= objects.categories.min() <= objects.categories.max() < (
            num_categories
        ):
            raise Refused(f"categories outside of 0 to {num_categories - 1}")
    if protocol == "coco":
        return match_as_coco(
            truths,
            detections,
            num_categories,
            thresholds=THRESHOLDS,
            ranges=RANGES,
            most=MOST[-1],
        )
    return match_as_voc(truths, detections, num_categories, threshold=0.5)


def average_precision(matches: Matches, protocol: ProtocolName) -> dict[str, Any]:
    """The figures of a protocol as fractions; None where nothing says anything.

    COCO: `ap`, `ap50`, `ap75`, `ap_small`, `ap_medium`, `ap_large`, `ar1`, `ar10`, `ar100`,
    `ar_small`, `ar_medium`, `ar_large`. VOC: `ap`, its mean over the categories, which is `ap50`.
    A category without objects is in no mean, and its detections are in no figure.
    `per_category`: of each `ap` and, COCO, `ap50`.
    """
    return _coco(matches) if protocol == "coco" else _voc(matches, protocol)


def curves(matches: Matches, threshold: int = 0, area: int = 0) -> list[Curve | None]:
    """Precision and recall of each category as the score threshold falls; None: it has no object.

    Args:
      threshold, area: positions among those that the matches are of.
    """
    positives = matches.positives[:, area]
    found: list[Curve | None] = []
    for category, rows in enumerate(_by_score(matches)):
        verdicts = matches.verdicts[rows, area, threshold]
        counted = rows[verdicts != IGNORED]
        hits = np.cumsum(verdicts[verdicts != IGNORED] == TRUE)
        curve = Curve(
            matches.scores[counted],
            hits / np.arange(1, len(hits) + 1),
            hits / max(positives[category], 1),
        )
        found.append(curve if positives[category] else None)
    return found


def _coco(matches: Matches) -> dict[str, Any]:
    categories, areas = matches.positives.shape
    precision = np.full((categories, areas, len(THRESHOLDS)), np.nan)
    recall = np.full((categories, areas, len(MOST), len(THRESHOLDS)), np.nan)
    for category, rows in enumerate(_by_score(matches)):
        ranks, verdicts = matches.ranks[rows], matches.verdicts[rows]
        for area in np.flatnonzero(matches.positives[category]):
            positives = int(matches.positives[category, area])
            precision[category, area] = _over_recalls(verdicts[:, area], positives)
            for place, most in enumerate(MOST):
                hits = verdicts[ranks < most, area] == TRUE
                recall[category, area, place] = hits.sum(0) / positives
    ap = {"ap": precision[:, 0], "ap50": precision[:, 0, 0], "ap75": precision[:, 0, 5]}
    ap |= {f"ap_{name}": precision[:, place] for place, name in enumerate(AREAS) if place}
    ar = {f"ar{most}": recall[:, 0, place] for place, most in enumerate(MOST)}
    ar |= {f"ar_{name}": recall[:, place, -1] for place, name in enumerate(AREAS) if place}
    return {
        **{name: _mean(values) for name, values in (ap | ar).items()},
        "per_category": [{"ap": _mean(one), "ap50": _mean(one[:1])} for one in precision[:, 0]],
    }


def _over_recalls(verdicts: Int8[np.ndarray, "n t"], positives: int) -> Float[np.ndarray, " t"]:
    """Mean over `RECALLS` of the best precision at that recall or more, for each threshold."""
    hits, misses = (np.cumsum(verdicts == kind, axis=0) for kind in (TRUE, FALSE))
    precision = hits / (hits + misses + np.spacing(1))
    best = np.maximum.accumulate(precision[::-1])[::-1]
    best = np.concatenate([best, np.zeros((1, best.shape[1]))])  # beyond the recall reached
    reached = (hits / positives).T
    places = [np.searchsorted(recall, RECALLS, side="left") for recall in reached]
    return np.array([best[place, k].mean() for k, place in enumerate(places)])


def _voc(matches: Matches, protocol: str) -> dict[str, Any]:
    positives = matches.positives[:, 0]
    each = [
        None if curve is None else _area(curve, int(count), protocol)
        for curve, count in zip(curves(matches), positives, strict=True)
    ]
    known = [value for value in each if value is not None]
    return {
        "ap": sum(known) / len(known) if known else None,
        "per_category": [{"ap": value} for value in each],
    }


def _area(curve: Curve, positives: int, protocol: str) -> float:
    """Under one curve whose precision is made to fall."""
    best = np.maximum.accumulate(curve.precision[::-1])[::-1]
    if protocol == "voc2010":
        return float(np.sum(np.diff(curve.recall, prepend=0.0) * best))
    hits = np.round(curve.recall * positives)  # recall >= k / 10, in whole numbers
    places = np.searchsorted(10 * hits, np.arange(11) * positives, side="left")
    return float(np.append(best, 0.0)[places].mean())


def _by_score(matches: Matches) -> list[np.ndarray]:
    """Rows of each category by falling score; of equal ones by image, then by rank."""
    order = np.lexsort((matches.ranks, matches.images, -matches.scores, matches.categories))
    ends = np.arange(1, len(matches.positives))
    return np.split(order, np.searchsorted(matches.categories[order], ends))


def _mean(values: np.ndarray) -> float | None:
    known = np.asarray(values)[~np.isnan(values)]
    return float(known.mean()) if known.size else None
