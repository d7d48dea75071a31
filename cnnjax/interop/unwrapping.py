"""A state dict out of what training programs put around it: other entries, prefixes of names.

What is around is told by the names: those of the network are known. So a network of one's own may
have a layer that is called "module", and nothing is taken off its name.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.core.errors import Refused, unknown

# Entries under which programs keep weights, the likeliest first.
ENTRIES = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params")
_AVERAGED = ("ema", "swa", "avg", "averag", "teacher", "shadow")  # parts of names of averages
_BESIDE = ("opt", "sched", "lr_", "scaler", "loops", "callbacks", "rng")  # beginnings: no weights
# Parts of names that PyTorch's wrappers put in: DataParallel, torch.compile, FSDP, checkpointing.
_WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
_DEEPEST = 4  # entries within entries
_LISTED = 6  # names in one line


@dataclass(frozen=True)
class Unwrapped:
    """A state dict under the network's names, and what was around it.

    Attributes:
      arrays: by name.
      entry: where they lay, "" for the whole file.
      others: further entries and prefixes that hold the same network's names.
      left_out: names of what lay beside.
      stripped: parts of names that were taken off.
      renamed: whose names they were, if not PyTorch's own.
    """

    arrays: Mapping[str, np.ndarray]
    entry: str = ""
    others: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    stripped: tuple[str, ...] = ()
    renamed: str = ""

    def words(self) -> list[str]:
        """What was done, in clauses."""
        clauses = []
        if self.entry:
            clauses.append(f"read {self.entry}")
        if self.others:
            there = ", ".join(f"--key {other}" for other in self.others)
            clauses.append(f"there is also {there}")
        if self.stripped:
            clauses.append(f"stripped {', '.join(self.stripped)} from names")
        if self.renamed:
            clauses.append(f"read {self.renamed} names")
        return clauses


@dataclass(frozen=True)
class _Candidate:
    """One way to read a file: an entry, and a prefix of its names."""

    entry: str
    prefix: str
    arrays: Mapping[str, Any]  # behind the prefix, without wrappers
    beside: tuple[str, ...]  # names without the prefix
    wrappers: tuple[str, ...]
    hits: int  # of the network's names

    @property
    def key(self) -> str:
        """What chooses it."""
        return ".".join(filter(None, [self.entry, self.prefix.removesuffix(".")]))

    @property
    def rank(self) -> tuple[bool, int, bool, int]:
        """The lowest is the plain one."""
        first = self.entry.split(".")[0]
        known = ENTRIES.index(first) if first in ENTRIES else len(ENTRIES)
        averaged = any(part in self.key.lower() for part in _AVERAGED)
        return averaged, known, self.prefix != "", -self.hits


def unwrap(
    tree: Mapping[Any, Any], names: Collection[str], file: Path, key: str | None = None
) -> Unwrapped:
    """The state dict in `tree`.

    Args:
      tree: a state dict, or entries of which one holds it.
      names: the network's, in a state dict.
      file: for messages.
      key: the entry to read, or the prefix of names; default: the plain one, no average.

    Raises:
      Refused: there is none, `key` names none, or what it holds are no arrays.
    """
    entries = dict(_state_dicts(tree))
    if not entries:
        there = some([str(name) for name in tree]) if tree else "nothing"
        raise Refused(f"{file} holds no weights: {there}")
    found = [
        one for entry, state in entries.items() for one in _candidates(entry, state, names, file)
    ]
    if key is not None:
        chosen = [one for one in found if f"{one.key}.".startswith(f"{key}.")]
        if not chosen:
            raise unknown(f"entry in {file}", key, [one.key for one in found if one.key])
    else:
        enough = [one for one in found if 2 * one.hits >= len(names)]
        chosen = enough or found
    best = min(chosen, key=lambda one: one.rank)
    others = [one for one in found if one is not best and 2 * one.hits >= len(names)]
    others = [one.key for one in others if one.key]
    arrays, words = _arrays(best.arrays, file)
    inside = f"{best.entry}." if best.entry else ""
    beside = [*_around(tree, best.entry), *(inside + name for name in (*words, *best.beside))]
    left_out = [
        name for name in beside if not f"{name}.".startswith(tuple(f"{o}." for o in others))
    ]
    stripped = (*best.wrappers, *filter(None, [best.prefix]))
    return Unwrapped(arrays, best.entry, tuple(others), tuple(left_out), stripped)


def _state_dicts(
    tree: Mapping[Any, Any], at: str = "", depth: int = 0
) -> Iterator[tuple[str, Mapping]]:
    """Innermost mappings from names to arrays, by the entries that lead to them."""
    if not all(isinstance(name, str) for name in tree):  # an optimiser's state
        return
    inner = []
    for name, value in tree.items():
        if isinstance(value, Mapping) and not name.startswith(_BESIDE) and depth < _DEEPEST:
            inner += _state_dicts(value, f"{at}.{name}".removeprefix("."), depth + 1)
    if not inner and any(isinstance(value, np.ndarray) for value in tree.values()):
        inner = [(at, tree)]
    yield from inner


def _candidates(
    entry: str, state: Mapping[str, Any], names: Collection[str], file: Path
) -> list[_Candidate]:
    """The ways to read an entry: as it is, or behind each prefix that as many names have."""
    own = {part for name in names for part in name.split(".")}
    wrappers = [part for part in _WRAPPERS if part not in own]
    plain: dict[str, str] = {}
    for name in state:
        short = ".".join(part for part in name.split(".") if part not in wrappers)
        if (other := plain.setdefault(short, name)) != name:
            raise Refused(f"{file}: {other} and {name} are one name without {', '.join(wrappers)}")
    met = tuple(f"{w}." for w in wrappers if any(w in name.split(".") for name in state))
    counts: Counter[str] = Counter({"": 0})
    for short in plain:
        parts = short.split(".")
        for at in range(len(parts)):
            if ".".join(parts[at:]) in names:
                counts[".".join([*parts[:at], ""])] += 1
    most = max(counts.values())
    prefixes = [p for p, n in counts.items() if n == most] if 2 * most >= len(names) else [""]
    found = []
    for prefix in prefixes:
        # Copies of the network behind other prefixes are no part of the one without.
        copies = tuple(other for other in prefixes if other and not prefix)
        inside = {
            s: n for s, n in plain.items() if s.startswith(prefix) and not s.startswith(copies)
        }
        arrays = {short.removeprefix(prefix): state[name] for short, name in inside.items()}
        beside = tuple(name for short, name in plain.items() if short not in inside)
        found.append(_Candidate(entry, prefix, arrays, beside, met, counts[prefix]))
    return found


def _arrays(state: Mapping[str, Any], file: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays among the entries of a state dict, and the names of the others."""
    arrays, others = {}, []
    for name, value in state.items():
        if isinstance(value, np.ndarray):
            if value.dtype.kind not in "fiub":
                raise Refused(f"{file}: {name} is {value.dtype}; weights are real numbers")
            arrays[name] = value
        elif hasattr(value, "layout"):
            raise Refused(
                f"{file}: {name} is a {value.layout} tensor on {value.device}; make it dense"
            )
        else:
            others.append(name)
    return arrays, others


def _around(tree: Mapping[str, Any], entry: str) -> list[str]:
    """Names of what lies beside an entry, level by level."""
    found, at = [], ""
    for part in filter(None, entry.split(".")):
        found += [f"{at}{name}" for name in tree if name != part]
        tree, at = tree[part], f"{at}{part}."
    return found


def grouped(names: Collection[str]) -> list[str]:
    """Names, those with the same beginning as one: "aux1.*"."""
    first = Counter(name.split(".")[0] for name in names)
    groups = (name.split(".")[0] for name in names)
    return list(
        dict.fromkeys(f"{g}.*" if first[g] > 1 else n for g, n in zip(groups, names, strict=True))
    )


def some(names: Collection[str]) -> str:
    """A few names, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    return ", ".join(listed[:_LISTED]) + more
