"""One exception for everything that is refused, and the exit codes of the command line."""

import difflib
from collections.abc import Iterable

EXIT_DONE = 0
EXIT_FAILED = 1  # it ran, but something failed
EXIT_REFUSED = 2  # bad input, seen before any compute
EXIT_INTERRUPTED = 130  # SIGINT; SIGTERM gives 143: state was saved
EXIT_PIPE = 141  # the reader of standard output has left, as in `| head`


class Refused(Exception):
    """Bad input, found before any compute; its text is one line.

    The line says what is wrong, where, what is allowed and what to type.
    """


class Failed(Exception):
    """Something outside went wrong after the work began; its text is one line."""


def unknown(kind: str, name: str, known: Iterable[str], hint: str = "") -> Refused:
    """The error for a name that does not exist, with the nearest ones that do.

    Args:
      kind: what was looked for, e.g. "model".
      name: the name that was given.
      known: all names that exist.
      hint: what to type to see them all; used when no name is near.
    """
    known = list(dict.fromkeys(known))
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if near:
        return Refused(f"no {kind} {name!r}; did you mean {' or '.join(near)}?")
    if hint:
        return Refused(f"no {kind} {name!r}; {hint}")
    return Refused(f"no {kind} {name!r}; there is {', '.join(sorted(known)) or 'none'}")


def one_line(error: BaseException) -> str:
    """`Type: message` of any error on one line, at most 300 characters."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 300 else text[:297] + "..."
