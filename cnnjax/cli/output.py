"""What all commands share: messages, tables, progress, options."""

import json
import sys
from typing import Any

import click

from cnnjax.core.errors import EXIT_REFUSED

json_option = click.option(
    "--json", "as_json", is_flag=True, help="One JSON object on standard output, nothing else."
)
data_dir_option = click.option(
    "--data-dir",
    metavar="DIR",
    help="Folder of prepared TFDS sets.  [default: $TFDS_DATA_DIR or ~/tensorflow_datasets]",
)
set_option = click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="Any setting by its path, e.g. optimizer.learning_rate=0.05; may be repeated; an unknown"
    " KEY is answered with the nearest.",
)


model_set_option = click.option(
    "--set",
    "settings",
    metavar="model.FIELD=VALUE",
    multiple=True,
    help="A field of the model, e.g. model.num_classes=10; may be repeated; an unknown FIELD is"
    " answered with the nearest.",
)

data_set_option = click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="data.train_split, data.test_split (TFDS slices), data.image_size; may be repeated.",
)


def report_refusal(message: str) -> int:
    """One line on standard error; the exit code of a refusal."""
    click.echo(f"Error: {' '.join(message.split())}", err=True)
    return EXIT_REFUSED


def say(line: str) -> None:
    """A message: standard error, one line."""
    click.echo(line, err=True)


def print_json(value: Any) -> None:
    """One object on standard output."""
    sys.stdout.write(json.dumps(value, allow_nan=False, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def print_table(head: tuple[str, ...], rows: list[tuple], numeric: tuple[int, ...] = ()) -> None:
    """A table on standard output; not cut where it is not a terminal."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 240)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(head):
        table.add_column(name, justify="right" if index in numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console.print(table)


class ProgressLine:
    """A progress bar with ETA on a terminal; elsewhere a line now and then."""

    def __init__(self, what: str, seconds_between_lines: float = 15.0):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._what, self._between, self._last = what, seconds_between_lines, 0.0
        self._console = Console(stderr=True)
        self._bar = None
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[text]}"),
                console=self._console,
                transient=True,
            )
            self._task = self._bar.add_task(what, total=1.0, text="starting")

    def __enter__(self) -> "ProgressLine":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, fraction: float, text: str) -> None:
        import time

        if self._bar:
            self._bar.update(self._task, completed=fraction, text=text)
        elif time.monotonic() - self._last >= self._between:
            self._last = time.monotonic()
            say(f"{self._what}: {100 * fraction:.0f} %, {text}")


def shown(key: str, value: object) -> str:
    """A figure for the eye: errors in per cent, other floats to four digits."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.2f} %" if key.endswith("error") else f"{value:.4g}"


def duration(seconds: float | None) -> str:
    """Seconds as "1:02:03", "4:05" or "?"."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
