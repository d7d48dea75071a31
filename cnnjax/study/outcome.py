"""A study's outcome as plain data: what `--json` prints and what reports are made of."""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cnnjax.core.errors import Say
from cnnjax.core.words import counted
from cnnjax.study.cells import Cell, Plan
from cnnjax.study.store import Store
from cnnjax.study.verdict import Judgement, judge
from cnnjax.tasks.task import figures_in


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

    @property
    def extensions(self) -> list[dict]:
        """Each time that seeds were added: {"when", "from", "to"}."""
        return self.document.get("extensions", [])

    @property
    def extension_notes(self) -> list[str]:
        """A sentence for each extension, and one where it is not known whether there were any."""
        lost = [
            f"study.json was lost and written anew on {when}: whether seeds were added before,"
            " after a look at the results, is not known."
            for when in [self.document.get("rewritten")]
            if when
        ]
        return lost + [
            f"Extended from {counted(e['from'], 'seed')} to {e['to']} on {e['when']}: if that was"
            " decided after looking at the results, the p values are too small."
            for e in self.extensions
        ]

    @property
    def mixed_bits(self) -> list[str]:
        """A sentence that says what differs, if the cells were not run under the same versions.

        Where the `bits` of a result lack a key, as older ones do, its `versions` may have it; what
        was recorded nowhere is not counted.
        """
        cells = [self.results.get((c.variant.name, c.seed)) for c in self.plan.cells]
        done = [result for result in cells if result is not None]
        known = [{**result.get("versions", {}), **result.get("bits", {})} for result in done]
        keys = dict.fromkeys(key for result in done for key in result.get("bits", {}))
        counts = {key: Counter(bits[key] for bits in known if key in bits) for key in keys}
        differing = {key: count for key, count in counts.items() if len(count) > 1}
        if not differing:
            return []
        sets = {tuple(b[key] for key in differing) for b in known if differing.keys() <= b.keys()}
        number = max(len(sets), *map(len, differing.values()), 2)
        what = "; ".join(f"{key} {_tally(count)}" for key, count in differing.items())
        return [f"Cells were run under {number} different sets of versions: {what}."]


def _tally(count: Counter[str]) -> str:
    """Values with the number of cells that have them: "0.10.2 (40 cells), 0.12.0 (24)"."""
    (first, number), *others = count.most_common()
    shown = [f"{first or 'none'} ({counted(number, 'cell')})"]
    return ", ".join(shown + [f"{value or 'none'} ({number})" for value, number in others])


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
        sessions=store.past_sessions(),
    )


def figure_names(outcome: Outcome) -> list[str]:
    """The study's metrics, then the other figures that its cells have."""
    found = dict.fromkeys(outcome.plan.metrics)
    for result in outcome.results.values():
        found |= dict.fromkeys(figures_in(result))
    return list(found)


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
                    for key in (*figure_names(outcome), "train_seconds", "compile_seconds")
                },
                **({"probes": result.get("probes")} if outcome.plan.probes else {}),
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
        "extensions": outcome.extensions,
        "mixed_bits": outcome.mixed_bits,
        "report": str(report),
    }
