"""`cnnjax compare`."""

import click

from cnnjax.cli.output import echo, json_option, print_json, print_table, print_text


@click.command()
@json_option
def compare(as_json: bool) -> None:
    """Regenerate the comparison table of the lineage under one convention.

    AlexNet, VGGNet, Inception (GoogLeNet) and ResNet-152 stand side by side in many lectures; the
    figures there mix networks, ensembles and conventions. Each cell is compared with the counts of
    every variant, rounded as the cell is.
    """
    from cnnjax.core.environment import use_processor

    use_processor()
    from cnnjax.analysis.comparison import compare as compare_rows
    from cnnjax.analysis.cost import CONVENTION

    rows = compare_rows()
    if as_json:
        print_json({"convention": CONVENTION, "rows": rows})
        return
    print_text(f"Regenerated. {CONVENTION}\n")
    print_table(
        ("network", "year", "salient feature", "variant", "parameters", "MACs", "FLOPs"),
        [
            (
                row["network"],
                row["year"],
                row["feature"],
                row["variant"],
                f"{row['params']:,}",
                f"{row['macs']:,}",
                f"{row['flops']:,}",
            )
            for row in rows
        ],
        numeric=(4, 5, 6),
        optional=("FLOPs", "year", "salient feature"),
    )
    echo("\nCell by cell, as the table circulates\n")
    print_table(
        ("network", "cell", "printed", "reproduced by"),
        [
            (
                row["network"],
                {"top5": "top-5", "params": "parameters", "flops": "FLOP"}[key],
                cell["printed"],
                "; ".join(cell["reproduced_by"]) or _none(cell),
            )
            for row in rows
            for key, cell in row["cells"].items()
        ],
    )


def _none(cell: dict) -> str:
    if "nearest" in cell:
        return f"none; nearest {cell['nearest']}"
    reported = ", ".join(f"{entry['error']} ({entry['of']})" for entry in cell["reported"])
    return f"none; reported errors in per cent: {reported}"
