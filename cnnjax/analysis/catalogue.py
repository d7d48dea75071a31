"""Every registered network with its counts beside the published ones."""

from typing import Any

from cnnjax.analysis.cost import CONVENTION, model_cost
from cnnjax.analysis.receptive_field import field_record
from cnnjax.core.architectures import MODELS, create_model
from cnnjax.core.errors import Refused


def catalogue_row(name: str) -> dict[str, Any]:
    """What is known of a registered network at its default input, as plain data."""
    entry = MODELS.find(name)
    shape = entry.input_shape
    if shape is None:
        raise Refused(f"{name} has no default input; type: cnnjax summary {name} --input 32 32 3")
    cost = model_cost(create_model(name), shape)
    field = field_record(cost.field)
    return {
        "name": name,
        "task": entry.task,
        "year": entry.year,
        "paper": entry.paper,
        "params": cost.params,
        "published_params": entry.params,
        "published_params_source": entry.source,
        "macs": cost.macs,
        "flops": cost.flops,
        "published_macs": entry.macs,
        "published_macs_source": entry.macs_source,
        "activations": cost.activations,
        "input": list(shape),
        "receptive_field": field["receptive_field"],
        "stride": field["stride"],
        "departs": entry.departs,
    }


def params_deviation(row: dict[str, Any]) -> str:
    """ "=" where the count is the published one, else the difference; "" without one."""
    if row["published_params"] is None:
        return ""
    difference = row["params"] - row["published_params"]
    return "=" if difference == 0 else f"{difference:+,}"


def macs_deviation(row: dict[str, Any]) -> str:
    """The published MACs, rounded as they are, and how far the count is from them in per cent."""
    if row["published_macs"] is None:
        return ""
    published = row["published_macs"]
    deviation = round(100 * (row["macs"] / published - 1), 1)
    return f"{published / 1e9:g} G ({f'{deviation:+.1f}' if deviation else '0.0'} %)"


def catalogue_markdown(rows: list[dict[str, Any]]) -> str:
    """docs/reference/models.md."""
    lines = [
        "# The networks",
        "",
        "<!-- Written by: cnnjax models --markdown; a test holds it current. -->",
        "",
        f"{CONVENTION}. Parameters are what is trained; `=` says that the count is, to the digit,"
        " the one at the source named: documented there, or arithmetic over the paper's layers"
        " where the paper prints it rounded. The receptive field (RF) and its stride, in pixels,"
        " are those of the last map before the classifier; `cnnjax summary NAME` has each layer's.",
        "",
        "| name | parameters | source of the count | MACs | published, rounded | input | RF, stride"
        " | departs from the paper |",
        "| --- | ---: | --- | ---: | --- | --- | --- | --- |",
    ]
    paper = None
    for row in rows:
        if row["paper"] != paper:
            paper = row["paper"]
            use = "" if row["task"] == "classification" else f", for {row['task']}"
            lines.append(f"| **{paper}**{use} | | | | | | | |")
        published = macs_deviation(row)
        if published:
            published += f", {row['published_macs_source']}"
        lines.append(
            f"| `{row['name']}` | {row['params']:,}"
            f" | {params_deviation(row)} {row['published_params_source']}"
            f" | {row['macs']:,} | {published} | {'x'.join(map(str, row['input']))}"
            f" | {row['receptive_field']}{_stride(row)} | {row['departs']} |"
        )
    return "\n".join(lines) + "\n"


def _stride(row: dict[str, Any]) -> str:
    """Of the last map; where it has gone down and up again there is none."""
    return "" if row["stride"] is None else f", {row['stride']}"
