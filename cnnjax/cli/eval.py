"""`cnnjax eval`."""

from pathlib import Path

import click

from cnnjax.cli.output import data_dir_option, json_option, print_json, print_table, say, shown


@click.command(name="eval")
@click.argument("workdir", metavar="DIR")
@click.option("--split", type=click.Choice(["test", "train"]), default="test", show_default=True)
@data_dir_option
@json_option
def evaluate(workdir: str, split: str, data_dir: str | None, as_json: bool) -> None:
    """Evaluate the newest intact checkpoint of the run in DIR.

    Prints top-1 error in per cent, mean loss in nats and the number of examples; every example
    counts exactly once. The data are looked for where they lay while it trained, unless --data-dir
    says otherwise.
    """
    from cnnjax.core.environment import configure_xla, start_backend
    from cnnjax.train.run import read_run

    configure_xla()
    read_run(Path(workdir))  # a wrong folder is refused before jax is started
    start_backend()

    from cnnjax.train.run import evaluate_run

    figures = evaluate_run(Path(workdir), data_dir, split, say)
    if as_json:
        print_json(figures)
    else:
        print_table(("", ""), [(key, shown(key, value)) for key, value in figures.items()])
