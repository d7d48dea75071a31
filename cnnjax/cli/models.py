"""`cnnjax models`."""

import click

from cnnjax.cli.output import json_option, print_json, print_table


@click.command()
@click.argument("pattern", default="*")
@json_option
def models(pattern: str, as_json: bool) -> None:
    """List the networks whose name matches PATTERN (e.g. 'cifar_*').

    Parameters are what is trained; MACs are those of convolution and dense layers for one image
    at the default input, with the default number of classes; FLOPs = 2 x MACs. The CIFAR family
    has any depth 6n + 2 (cifar_resnet26, cifar_plain14, ...) beyond those of the paper listed here.
    """
    from cnnjax.analysis.cost import CONVENTION, model_cost
    from cnnjax.core.errors import unknown
    from cnnjax.core.registry import create_model, find, list_models

    names = list_models(pattern)
    if not names and not any(character in pattern for character in "*?["):
        names = [find(pattern).name]
    if not names:
        raise unknown("model that matches", pattern, list_models(), "see: cnnjax models")
    rows = []
    for name in names:
        entry = find(name)
        shape = entry.input_shape or (32, 32, 3)
        cost = model_cost(create_model(name), shape)
        rows.append(
            {
                "name": name,
                "year": entry.year,
                "paper": entry.paper,
                "params": cost.params,
                "published_params": entry.params,
                "published_source": entry.source,
                "macs": cost.macs,
                "flops": cost.flops,
                "input": list(cost.input),
            }
        )
    if as_json:
        print_json({"convention": CONVENTION, "models": rows})
        return
    click.echo(f"{CONVENTION}; = the count of the paper's layers, to the digit\n")
    print_table(
        ("name", "parameters", "", "MACs", "input", "paper"),
        [
            (
                row["name"],
                f"{row['params']:,}",
                _agrees(row),
                f"{row['macs']:,}",
                "x".join(map(str, row["input"])),
                row["paper"],
            )
            for row in rows
        ],
        numeric=(1, 3),
    )


def _agrees(row: dict) -> str:
    if row["published_params"] is None:
        return ""
    difference = row["params"] - row["published_params"]
    return "=" if difference == 0 else f"{difference:+,}"
