"""A study's outcome as plain data: what `--json` prints and what reports are made of."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cnnjax.core.files import read_lines
from cnnjax.study.cells import Cell, Plan
from cnnjax.study.store import Say, Store
from cnnjax.study.verdict import Judgement, judge


@dataclass(frozen=True)
class Outcome:
    """Everything that is known of a study at this moment."""

    folder: Path
    plan: Plan
    document: dict  # study.json
    results: dict[tuple[str, int], dict]
    failures: dict[tuple[str, int], str]
    judgements: list[Judgement]
    sessions: list[dict]

    def status(self, cell: Cell) -> str:
        """done | diverged | failed | missing."""
        key = cell.variant.name, cell.seed
        if key in self.results:
            return self.results[key]["status"]
        return "failed" if key in self.failures else "missing"

    @property
    def missing(self) -> list[Cell]:
        """Cells without a result."""
        return [c for c in self.plan.cells if (c.variant.name, c.seed) not in self.results]

    @property
    def compile_seconds(self) -> dict[str, float]:
        """The longest compilation of each variant's programs; 0 where the cache had them."""
        found: dict[str, float] = {}
        for (name, _), result in self.results.items():
            found[name] = max(found.get(name, 0.0), result["compile_seconds"])
        return found


def read_outcome(folder: Path, say: Say = lambda line: None) -> Outcome:
    """Read a study's folder, at any moment.

    Raises:
      Refused: it is no study.
    """
    store = Store(folder)
    plan, document = store.read()
    results = store.results(plan, document["identity"], say)
    return Outcome(
        folder=folder,
        plan=plan,
        document=document,
        results=results,
        failures=store.failures(plan),
        judgements=judge(plan, results),
        sessions=read_lines(store.sessions),
    )


def as_json(outcome: Outcome, report: Path) -> dict[str, Any]:
    """The object that scripts rely on; errors in per cent, differences in points."""
    cells = []
    for cell in outcome.plan.cells:
        result = outcome.results.get((cell.variant.name, cell.seed), {})
        cells.append(
            {
                "variant": dict(cell.variant.levels),
                "seed": cell.seed,
                "status": outcome.status(cell),
                **{
                    key: result.get(key)
                    for key in ("train_error", "test_error", "train_seconds", "compile_seconds")
                },
            }
        )
    return {
        "study": outcome.plan.study,
        "preset": outcome.plan.preset,
        "workdir": str(outcome.folder),
        "cells_total": len(cells),
        "cells_done": sum(cell["status"] in ("done", "diverged") for cell in cells),
        "cells_diverged": sum(cell["status"] == "diverged" for cell in cells),
        "cells_failed": sum(cell["status"] == "failed" for cell in cells),
        "contrasts": [asdict(judgement) for judgement in outcome.judgements],
        "cells": cells,
        "sessions": outcome.sessions,
        "report": str(report),
    }
