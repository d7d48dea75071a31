"""`cnnjax`: the group of commands. A command's file is imported when it is used."""

import errno
import importlib
import os
import sys

import click

from cnnjax.cli.interrupt import listen
from cnnjax.cli.output import open_streams, report_refusal, results_apart
from cnnjax.core.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_PIPE,
    EXIT_REFUSED,
    Failed,
    Refused,
    one_line,
)
from cnnjax.core.user_code import explained, user_line

# name: (module, attribute, one line of help)
COMMANDS = {
    "models": ("cnnjax.cli.models", "models", "List the networks: parameters, MACs, source."),
    "summary": ("cnnjax.cli.summary", "summary", "Count one network layer by layer."),
    "compare": ("cnnjax.cli.compare", "compare", "The lineage side by side, cell by cell."),
    "data": ("cnnjax.cli.data", "data", "Look at data sets and prepare them."),
    "train": ("cnnjax.cli.train", "train", "Train one network; goes on where it stopped."),
    "eval": ("cnnjax.cli.eval", "evaluate", "Evaluate a trained network, or imported weights."),
    "score": ("cnnjax.cli.score", "score", "Judge any detector's files: average precision."),
    "predict": ("cnnjax.cli.predict", "predict", "Name what images show."),
    "analyze": ("cnnjax.cli.analyze", "analyze", "Draw what a trained network has learned."),
    "visualize": ("cnnjax.cli.visualize", "visualize", "Draw channels, filters, feature maps."),
    "settings": ("cnnjax.cli.settings", "settings", "List what --set takes: defaults, values."),
    "import-weights": ("cnnjax.cli.weights", "import_weights", "Read PyTorch's weights."),
    "export-weights": ("cnnjax.cli.weights", "export_weights", "Write weights for PyTorch."),
    "bench": ("cnnjax.cli.bench", "bench", "Measure how fast this machine trains."),
    "study": ("cnnjax.cli.study", "study", "Answer a question with seeds, tests and a report."),
}


_COMPUTE = ("train", "eval", "bench", "study", "analyze")
_HARMLESS = ("JAX_PLATFORMS",)  # of the variables that jax reads


class LazyGroup(click.Group):
    """Commands by name, imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        return results_apart(getattr(importlib.import_module(module), attribute))

    def resolve_command(self, ctx: click.Context, args: list[str]):
        if args and args[0] not in COMMANDS:
            from cnnjax.core.errors import unknown

            raise unknown("command", args[0], COMMANDS)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in COMMANDS.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cnnjax", prog_name="cnnjax")
def cnnjax() -> None:
    """Ask questions about convolutional networks and get answers with error bars.

    \b
    A first study (minutes on a laptop, nothing is downloaded):
      cnnjax study run degradation --workdir runs/degradation
    A first training:
      cnnjax train --model cifar_resnet20 --data digits --epochs 5 --workdir runs/first

    Results go to standard output, progress and messages to standard error.
    Exit codes: 0 done, 1 something failed, 2 refused before any compute, 75 another
    process of the training is lost, 130/143 interrupted.
    """


def run(command: click.Command, arguments: list[str] | None = None) -> None:
    """Run a command as a program: one line for what is refused or failed, then the exit code."""
    with open_streams():
        code = _exit_code(results_apart(command), arguments)
    sys.exit(code)


def _exit_code(command: click.Command, arguments: list[str] | None) -> int:
    try:
        code = command.main(args=arguments, prog_name=command.name, standalone_mode=False)
        return code if isinstance(code, int) else EXIT_DONE
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return EXIT_REFUSED
    except click.ClickException as error:
        return report_refusal(error.format_message())
    except BrokenPipeError:  # the reader of standard output has left
        sys.stderr.close()
        return EXIT_PIPE
    except (click.exceptions.Abort, KeyboardInterrupt) as error:
        cause = error.__cause__  # click makes one kind of Ctrl-C and of the end of a file
        if isinstance(cause, EOFError):
            return report(cause)
        click.echo("interrupted", err=True)
        return EXIT_INTERRUPTED
    except BaseException as error:
        return report(error)


def report(error: BaseException) -> int:
    """One line for what ended a command; the exit code."""
    if isinstance(error, SystemExit) and not user_line(error):
        raise error
    if isinstance(error, Refused | SystemExit):
        return report_refusal(explained(error))
    if isinstance(error, OSError) and not user_line(error):  # a full disk, no permission
        reason = ": ".join(filter(None, [error.filename, error.strerror])) or one_line(error)
        report_refusal(reason)
        return EXIT_REFUSED if error.errno == errno.ENAMETOOLONG else EXIT_FAILED
    if isinstance(error, Failed) or user_line(error):
        report_refusal(explained(error))
        return error.exit_code if isinstance(error, Failed) else EXIT_FAILED
    if os.environ.get("CNNJAX_TRACEBACK"):
        raise error
    report_refusal(_unexpected(error))
    return EXIT_FAILED


def _unexpected(error: BaseException) -> str:
    """What no check foresaw."""
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return f"out of memory ({one_line(error)}); make batch_size, images or network smaller"
    if told := [name for name in os.environ if name.startswith("JAX_") and name not in _HARMLESS]:
        return f"unexpected {one_line(error)}; unset what jax is told: {', '.join(told)}"
    return (
        f"unexpected {one_line(error)}; this is a fault of cnnjax, please report it:"
        " CNNJAX_TRACEBACK=1 shows where it is"
    )


def main() -> None:
    listen()
    if "CNNJAX_SUPERVISED" in os.environ:
        from cnnjax.cli.supervisor import begin

        begin()
    elif sys.argv[1:2] and sys.argv[1] in _COMPUTE and not {"-h", "--help"} & {*sys.argv}:
        from cnnjax.core.environment import begin_with_huge_pages

        begin_with_huge_pages()
    run(cnnjax)
