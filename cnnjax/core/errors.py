"""One exception for everything that is refused, and the exit codes of the command line."""

import contextlib
import difflib
from collections.abc import Callable, Iterable, Iterator

Say = Callable[[str], None]  # is told what a user should know, a line each
_LISTED = 8  # names in one line, at most

EXIT_DONE = 0
EXIT_FAILED = 1  # it ran, but something failed
EXIT_REFUSED = 2  # bad input, seen before any compute
EXIT_PEER_LOST = 75  # another process of the training is gone: try again (EX_TEMPFAIL)
EXIT_INTERRUPTED = 130  # SIGINT; SIGTERM gives 143: state was saved
EXIT_PIPE = 141  # the reader of standard output has left, as in `| head`


class Refused(Exception):
    """Bad input, found before any compute; its text is one line.

    The line says what is wrong, where, what is allowed and what to type.
    """


class Failed(Exception):
    """Something outside went wrong after the work began; its text is one line."""

    exit_code = EXIT_FAILED


class PeerLost(Failed):
    """Another process of the training is gone."""

    exit_code = EXIT_PEER_LOST


@contextlib.contextmanager
def refused_at(where: str) -> Iterator[None]:
    """What is refused in the block says where it stands, "variant plain-9: ..."; "": nowhere."""
    try:
        yield
    except Refused as error:
        raise Refused(f"{where}: {error}" if where else str(error)) from error


def unknown(kind: str, name: str, known: Iterable[str], hint: str = "") -> Refused:
    """The error for a name that does not exist, with the nearest ones that do.

    Args:
      kind: what was looked for, e.g. "model".
      name: the name that was given; capitals make no difference to what is near.
      known: all names that exist, those to list first where there are many.
      hint: what to type to see them all; used when no name is near.
    """
    known = list(dict.fromkeys(known))
    folded: dict[str, list[str]] = {}
    for one in known:
        folded.setdefault(one.casefold(), []).append(one)
    same = [name.casefold()] if name.casefold() in folded else []
    near = same or difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.6)
    if near:
        nearest = [one for key in near for one in folded[key]][:3]
        return Refused(f"no {kind} {name!r}; did you mean {' or '.join(nearest)}?")
    if hint:
        return Refused(f"no {kind} {name!r}; {hint}")
    there = ", ".join(sorted(known) if len(known) <= _LISTED else known[:_LISTED])
    more = f" and {len(known) - _LISTED:,} more" if len(known) > _LISTED else ""
    return Refused(f"no {kind} {name!r}; there is {there or 'none'}{more}")


def one_line(error: BaseException) -> str:
    """`Type: message` of any error on one line, at most 300 characters."""
    try:
        message = str(error)
    except Exception:  # a user's own kind of error may fail to say what it is
        message = ""
    text = " ".join(f"{type(error).__name__}: {message}".removesuffix(": ").split())
    return text if len(text) <= 300 else text[:297] + "..."
