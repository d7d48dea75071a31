"""What all commands share: messages, tables, progress, options."""

import codecs
import contextlib
import functools
import io
import json
import os
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import click

from cnnjax.core.errors import EXIT_REFUSED
from cnnjax.core.recipe import SEEDS

_PLAIN = str.maketrans({"−": "-", "–": "-", "×": "x", "±": "+-", "·": ".", "…": "...", "█": "#"})
_LONGEST = 1_000  # characters of a message
_results: Any = None  # standard output, while a command runs
_live: "ProgressLine | None" = None  # the bar that messages must not be glued to

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
    help="Any setting by its path, e.g. optimizer.learning_rate=0.05; may be repeated; see: cnnjax"
    " settings.",
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
    help="data.train_split, data.test_split (TFDS slices), data.image_size, data.streaming,"
    " data.test_share, data.validation_share, data.train_examples, data.split_seed,"
    " data.unreadable, data.scenes.* (of scattered_digits); may be repeated.",
)


class Folder(click.ParamType):
    """A folder to write into: "" is a variable of a shell that was not set, and not here."""

    name = "folder"

    def convert(self, value: str, param: Any, ctx: Any) -> str:
        return value if value.strip() else self.fail("it is empty; give a folder", param, ctx)


size_range = click.IntRange(min=1, max=2**31 - 1)  # of images: what XLA takes

seed_option = click.option(
    "--seed",
    type=click.IntRange(min=0, max=SEEDS - 1),
    default=0,
    show_default=True,
    help="Of every random stream.",
)


@contextlib.contextmanager
def open_streams() -> Iterator[None]:
    """Standard output and error as streams that take every sign: what their encoding lacks is
    written plainly, and what the caller has closed leads nowhere."""
    codecs.register_error("cnnjax", _plainly)
    stdout, stderr = sys.stdout, sys.stderr
    with open(os.devnull, "w") as nowhere:
        sys.stdout, sys.stderr = stdout or nowhere, stderr or nowhere
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="cnnjax")
        try:
            yield
        finally:
            sys.stdout, sys.stderr = stdout, stderr


def results_apart(command: click.Command) -> click.Command:
    """`command`, in which standard output is for results: what else is printed while it works, by
    a user's network say, goes to standard error."""
    for inner in getattr(command, "commands", {}).values():
        results_apart(inner)
    callback = command.callback
    if callback is not None and not hasattr(callback, "results_apart"):

        @functools.wraps(callback)
        def apart(*arguments: Any, **options: Any) -> Any:
            global _results
            _results = sys.stdout
            try:
                with contextlib.redirect_stdout(sys.stderr):
                    return callback(*arguments, **options)
            finally:
                _results = None

        apart.results_apart = True  # type: ignore[attr-defined]
        command.callback = apart
    return command


def _plainly(error: UnicodeError) -> tuple[str | bytes, int]:
    assert isinstance(error, UnicodeEncodeError), "only encoding uses this"
    text = error.object[error.start : error.end].translate(_PLAIN)
    return text.encode("ascii", "backslashreplace").decode(), error.end


def results() -> Any:
    """Where results go."""
    return _results or sys.stdout


def echo(text: object, nl: bool = True) -> None:
    """A result: standard output."""
    try:
        click.echo(text, file=results(), nl=nl)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise OSError(error.errno, error.strerror, "standard output") from error


def report_refusal(message: str) -> int:
    """One line on standard error; the exit code of a refusal."""
    line = " ".join(message.split())
    if len(line) > _LONGEST:  # somebody typed a book; what is allowed stands at the end
        line = f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"
    _tell(f"Error: {line}")
    return EXIT_REFUSED


def _tell(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # standard error is full, closed or left alone
        click.echo(line, err=True)


def say(line: str) -> None:
    """A message: standard error, one line."""
    if _live is None:
        _tell(line)
    else:
        _live.say(line)


def print_json(value: Any) -> None:
    """One object on standard output."""
    echo(json.dumps(value, allow_nan=False, ensure_ascii=not _is_unicode(results())))


def _is_unicode(stream: Any) -> bool:
    return (stream.encoding or "").lower().replace("-", "").startswith("utf")


def print_table(
    head: tuple[str, ...],
    rows: list[tuple],
    numeric: tuple[int, ...] = (),
    optional: tuple[str, ...] = (),
) -> None:
    """A table on standard output that fits the terminal; whole where there is none.

    Args:
      numeric: indices of columns that are set flush right and never wrapped.
      optional: heads of the columns that a narrow terminal leaves out, the first to go first.
    """
    from cnnjax.cli.tables import lay_out

    lines = lay_out(head, rows, numeric, optional, _terminal_width())
    for line in lines.head:
        echo(click.style(line, bold=True))
    for line in lines.body:
        echo(line)
    if lines.left_out:
        note = f"no room for: {', '.join(lines.left_out)} (a wider terminal or --json shows more)"
        print_text(note, soft=True)


def print_text(text: str, soft: bool = False) -> None:
    """Text on standard output, wrapped at its spaces where the terminal is narrower."""
    from cnnjax.cli.tables import wrap

    for paragraph in text.split("\n"):
        for line in wrap(paragraph, _terminal_width()):
            echo(click.style(line, dim=True) if soft else line)


def _terminal_width() -> int | None:
    return shutil.get_terminal_size().columns if results().isatty() else None


def byte_size(count: int) -> str:
    """Bytes in the largest binary unit that they fill: "812 B", "240.0 KiB", "97.5 MiB"."""
    if count < 1024:
        return f"{count} B"
    power = min((count.bit_length() - 1) // 10, 4)
    if power < 4 and round(count / 1024**power, 1) >= 1024:  # 1023.96 KiB is 1.0 MiB
        power += 1
    return f"{count / 1024**power:.1f} {'KMGT'[power - 1]}iB"


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
        global _live
        if self._bar:
            self._bar.start()
            _live = self
        return self

    def __exit__(self, *error: object) -> None:
        global _live
        _live = None
        if self._bar:
            self._bar.stop()

    def say(self, line: str) -> None:
        """A message above the bar."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def update(self, fraction: float, text: str) -> None:
        import time

        if self._bar:
            self._bar.update(self._task, completed=fraction, text=text)
        elif time.monotonic() - self._last >= self._between:
            self._last = time.monotonic()
            say(f"{self._what}: {100 * fraction:.0f} %, {text}")


def shown(value: object, unit: str | None = None) -> str:
    """A figure for the eye: per cent with two digits, other numbers to four; none is "-"."""
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.2f} %" if unit == "%" else f"{value:.4g}{f' {unit}' if unit else ''}"


def units_of(task_name: str) -> dict[str, str]:
    """The unit of each metric of a task: by its name, its short one, and both with a split."""
    from cnnjax.tasks.registry import TASKS
    from cnnjax.tasks.task import SPLITS

    task: Any = TASKS.find(task_name).make
    units = {metric.name: metric.unit for metric in task.metrics}
    units |= {short: units[name] for short, name in task.aliases.items()}
    return {
        f"{split}{name}": unit
        for name, unit in units.items()
        for split in ("", *(f"{split}_" for split in SPLITS))
    }


def duration(seconds: float | None) -> str:
    """Seconds as "1:02:03", "4:05" or "?"."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
