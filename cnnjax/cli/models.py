"""`cnnjax models`."""

import click

from cnnjax.cli.output import echo, json_option, print_json, print_table, print_text


@click.command()
@click.argument("pattern", default="*")
@json_option
@click.option("--markdown", is_flag=True, help="docs/reference/models.md on standard output.")
def models(pattern: str, as_json: bool, markdown: bool) -> None:
    """List the networks whose name matches PATTERN (e.g. 'vgg*').

    Parameters are what is trained; MACs are those of convolution and dense layers for one image
    at the default input, with the default number of classes; FLOPs = 2 x MACs. The CIFAR family
    has any depth 6n + 2 (cifar_resnet26, cifar_plain14, ...) beyond those of the paper listed here.
    """
    from cnnjax.core.environment import use_processor

    use_processor()
    from cnnjax.analysis.catalogue import (
        catalogue_markdown,
        catalogue_row,
        macs_deviation,
        params_deviation,
    )
    from cnnjax.analysis.cost import CONVENTION
    from cnnjax.core.architectures import MODELS, list_models
    from cnnjax.core.errors import Refused, unknown

    if as_json and markdown:
        raise Refused("--json and --markdown: give one of them")
    names = list_models(pattern)
    if not names and not any(character in pattern for character in "*?["):
        names = [MODELS.find(pattern).name]
    if not names:
        raise unknown("model that matches", pattern, list_models(), "see: cnnjax models")
    rows = [catalogue_row(name) for name in names]
    if as_json:
        print_json({"convention": CONVENTION, "models": rows})
        return
    if markdown:
        echo(catalogue_markdown(rows), nl=False)
        return
    print_text(
        f"{CONVENTION}; = the count of the paper's layers (or of the library that the name says),"
        " to the digit\n"
    )
    print_table(
        ("name", "task", "year", "parameters", "", "MACs", "published MACs", "input", "paper"),
        [
            (
                row["name"],
                row["task"],
                row["year"] or "",
                f"{row['params']:,}",
                params_deviation(row),
                f"{row['macs']:,}",
                macs_deviation(row),
                "x".join(map(str, row["input"])),
                row["paper"],
            )
            for row in rows
        ],
        numeric=(3, 5),
        optional=("task", "paper", "year", "input", "published MACs"),
    )
