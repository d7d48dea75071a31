"""The comparison table that lectures on CNNs show, cell by cell: which count reproduces a figure.

The table circulates as: AlexNet 84.70 % top-5, 62M parameters, 1.5B FLOP; VGGNet 92.30 %, 138M,
19.6B; Inception 93.30 %, 6.4M, 2B; ResNet-152 95.51 %, 60.3M, 11B. It mixes networks, ensembles and
conventions; here every variant is counted under each convention and compared with the cell as
rounded there.
"""

from dataclasses import dataclass
from typing import Any

from cnnjax.analysis.cost import Cost, model_cost
from cnnjax.core.architectures import MODELS, create_model


@dataclass(frozen=True)
class Row:
    """A row as it circulates, and what could stand behind it.

    Attributes:
      top5: accuracy in per cent, as printed.
      params, flops: as printed, e.g. "62M", "1.5B".
      variants: the networks that may be meant; the first stands in the regenerated table.
      errors: reported top-5 errors in per cent and where they stand.
    """

    network: str
    year: int
    feature: str
    top5: str
    params: str
    flops: str
    variants: tuple[str, ...]
    errors: tuple[tuple[float, str], ...]


TABLE = (
    Row(
        "AlexNet",
        2012,
        "deeper",
        "84.70",
        "62M",
        "1.5B",
        ("alexnet", "alexnet_ungrouped", "alexnet_torchvision"),
        (
            (18.2, "one net, ILSVRC-2012 validation"),
            (16.4, "five nets, validation"),
            (15.3, "seven nets, two of them pre-trained, test"),
        ),
    ),
    Row(
        "VGGNet",
        2014,
        "3x3 kernels of one size",
        "92.30",
        "138M",
        "19.6B",
        ("vgg16", "vgg19", "vgg13", "vgg11"),
        (
            (8.8, "net D, one scale, validation"),
            (9.0, "net E, one scale, validation"),
            (7.3, "seven nets, the submission, test"),
            (6.8, "two nets, after the submission, test"),
        ),
    ),
    Row(
        "Inception",
        2014,
        "wider, parallel kernels",
        "93.30",
        "6.4M",
        "2B",
        ("googlenet", "googlenet_torchvision", "googlenet_aux"),
        (
            (10.07, "one net, one crop, validation"),
            (7.89, "one net, 144 crops, validation"),
            (6.67, "seven nets, 144 crops, test"),
        ),
    ),
    Row(
        "ResNet-152",
        2015,
        "shortcut connections",
        "95.51",
        "60.3M",
        "11B",
        ("resnet152_v1", "resnet152"),
        (
            (5.71, "one model, 10 crops, validation"),
            (4.49, "one model, multi-scale, validation"),
            (3.57, "six models, test"),
        ),
    ),
)
_UNITS = {"M": 1e6, "B": 1e9}


def compare() -> list[dict[str, Any]]:
    """The table regenerated: for each row the counts, the cells, and what gives them."""
    rows = []
    for row in TABLE:
        costs = {}
        for name in row.variants:
            shape = MODELS.find(name).input_shape
            assert shape is not None, "a registered network has an input"
            costs[name] = model_cost(create_model(name), shape)
        first = costs[row.variants[0]]
        rows.append(
            {
                "network": row.network,
                "year": row.year,
                "feature": row.feature,
                "variant": row.variants[0],
                "params": first.params,
                "macs": first.macs,
                "flops": first.flops,
                "cells": {
                    "top5": _top5(row),
                    "params": _explain(row.params, _param_counts(costs)),
                    "flops": _explain(row.flops, _mac_counts(costs)),
                },
            }
        )
    return rows


def _top5(row: Row) -> dict[str, Any]:
    found = [
        f"{error} % error: {where}"
        for error, where in row.errors
        if round(100 - error, 1) == float(row.top5) or f"{100 - error:.2f}" == row.top5
    ]
    reported = [{"error": error, "of": where} for error, where in row.errors]
    return {"printed": f"{row.top5} %", "reproduced_by": found, "reported": reported}


def _explain(printed: str, counts: dict[str, int]) -> dict[str, Any]:
    """Which counts round to what is printed; the nearest one if none does."""
    figure, unit = float(printed[:-1]), _UNITS[printed[-1]]
    digits = len(printed[:-1].partition(".")[2])
    found = [what for what, count in counts.items() if round(count / unit, digits) == figure]
    nearest = min(counts, key=lambda what: abs(counts[what] / unit - figure))
    return {
        "printed": printed,
        "reproduced_by": [f"{what}: {counts[what]:,}" for what in found],
        "nearest": f"{nearest}: {counts[nearest]:,}",
    }


def _param_counts(costs: dict[str, Cost]) -> dict[str, int]:
    counts = {}
    for name, cost in costs.items():
        counts[f"{name}, trained"] = cost.params
        if cost.statistics:
            counts[f"{name}, with running statistics"] = cost.params + cost.statistics
    return counts


def _mac_counts(costs: dict[str, Cost]) -> dict[str, int]:
    counts = {}
    for name, cost in costs.items():
        counts[f"{name}, MACs"] = cost.macs
        counts[f"{name}, FLOPs = 2 x MACs"] = cost.flops
    return counts
