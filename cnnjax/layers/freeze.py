"""Which parts of a network stay as they begin."""

import fnmatch
import itertools
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Freeze:
    """Patterns of names; a part of the network below a name that fits is frozen whole.

    A pattern has as many parts as it has dots and one: "stem", "stage1*", "head.bias", "*.norm".
    """

    patterns: tuple[str, ...] = ()

    def __call__(self, path: Sequence[str]) -> bool:
        """Whether what lies at `path` is frozen."""
        return any(_fits(pattern.split("."), path) for pattern in self.patterns)

    def inside(self, name: str) -> "Freeze":
        """The same, for paths that begin inside the submodule `name`."""
        rests = [
            rest or ["*"]
            for first, *rest in (pattern.split(".") for pattern in self.patterns)
            if fnmatch.fnmatchcase(name, first)
        ]
        return Freeze(tuple(".".join(rest) for rest in rests))

    def split(self, names: Sequence[str]) -> list[list[str]]:
        """Neighbours among equal blocks in which the same is frozen."""
        return [list(group) for _, group in itertools.groupby(names, key=self.inside)]


NOTHING = Freeze()


def _fits(pattern: Sequence[str], path: Sequence[str]) -> bool:
    return len(path) >= len(pattern) and all(
        fnmatch.fnmatchcase(part, wanted) for part, wanted in zip(path, pattern, strict=False)
    )
