"""`cnnjax`: the group of commands. A command's file is imported when it is used."""

import importlib
import sys

import click

from cnnjax.cli.output import report_refusal
from cnnjax.core.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_PIPE, Failed, Refused

# name: (module, attribute, one line of help)
COMMANDS = {
    "models": ("cnnjax.cli.models", "models", "List the networks: parameters, MACs, source."),
    "summary": ("cnnjax.cli.summary", "summary", "Count one network layer by layer."),
    "compare": ("cnnjax.cli.compare", "compare", "The lineage side by side, cell by cell."),
    "data": ("cnnjax.cli.data", "data", "Look at data sets and prepare them."),
    "train": ("cnnjax.cli.train", "train", "Train one network; goes on where it stopped."),
    "eval": ("cnnjax.cli.eval", "evaluate", "Evaluate a trained network."),
    "visualize": ("cnnjax.cli.visualize", "visualize", "Draw channels, filters, feature maps."),
    "import-weights": ("cnnjax.cli.weights", "import_weights", "Read PyTorch's weights."),
    "export-weights": ("cnnjax.cli.weights", "export_weights", "Write weights for PyTorch."),
    "study": ("cnnjax.cli.study", "study", "Answer a question with seeds, tests and a report."),
}


class LazyGroup(click.Group):
    """Commands by name, imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        return getattr(importlib.import_module(module), attribute)

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
    Exit codes: 0 done, 1 something failed, 2 refused before any compute, 130/143 interrupted.
    """


def run(command: click.Command, arguments: list[str] | None = None) -> None:
    """Run a command as a program: one line for what is refused, then the exit code."""
    try:
        code = command.main(args=arguments, prog_name=command.name, standalone_mode=False)
    except Refused as error:
        code = report_refusal(str(error))
    except click.exceptions.Abort:
        code = EXIT_INTERRUPTED
    except click.ClickException as error:
        code = report_refusal(error.format_message())
    except BrokenPipeError:  # the reader of standard output has left
        sys.stderr.close()
        code = EXIT_PIPE
    except (Failed, OSError) as error:  # OSError: a full disk, a folder that became read-only
        report_refusal(str(error))
        code = EXIT_FAILED
    sys.exit(code if isinstance(code, int) else 0)


def main() -> None:
    run(cnnjax)
