"""What docstrings say of settings: "name: a sentence", and the deeper lines below it."""

import re
import types
from collections.abc import Iterable
from typing import Any, Literal, Union, get_args, get_origin

_ENTRY = re.compile(r"( *)(\w+(?:, \w+)*):(?: +(.*))?")


def field_sentences(doc: str | None, names: Iterable[str]) -> dict[str, str]:
    """What a docstring says of each of `names`; those of which it says nothing are left out.

    >>> field_sentences("An example.\\n\\n    rate: of the\\n      update.\\n", ["rate"])
    {'rate': 'of the update.'}

    Args:
      doc: with an entry "name: sentence" or "one, other: sentence" on a line, which goes on in the
        lines that are set in deeper.
      names: of the settings; what else looks like an entry is text.
    """
    known, found = set(names), {}
    lines = (doc or "").expandtabs().splitlines()
    for index, line in enumerate(lines):
        entry = _ENTRY.fullmatch(line.rstrip())
        if not entry or not known.issuperset(entry[2].split(", ")):
            continue
        words = [entry[3] or ""]
        for further in lines[index + 1 :]:
            if not further.startswith(entry[1] + " ") or not further.strip():
                break
            words.append(further.strip())
        for name in entry[2].split(", "):
            found.setdefault(name, " ".join(filter(None, words)))
    return found


def type_in_words(hint: Any) -> str:
    """A type hint as a user reads it: "float or null", "one of a, b", "list of str"."""
    arguments = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(type_in_words, arguments)))
    if get_origin(hint) is Literal:
        return " or ".join(dict.fromkeys(type(value).__name__ for value in arguments))
    if hint in (None, type(None)):
        return "null"
    if get_origin(hint) in (tuple, list):
        inner = dict.fromkeys(type_in_words(one) for one in arguments if one is not ...)
        return f"list of {' or '.join(inner)}"
    return "any" if hint is Any else getattr(hint, "__name__", str(hint))


def allowed_values(hint: Any) -> list[Any] | None:
    """The values that a type names one by one; None: there are others."""
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    if hint in (None, type(None)):
        return [None]
    if get_origin(hint) in (Union, types.UnionType):
        parts = [allowed_values(one) for one in get_args(hint)]
        return None if None in parts else [value for part in parts for value in part or ()]
    return None
