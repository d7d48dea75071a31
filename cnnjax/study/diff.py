"""Two folders of studies, compared: settings, the bits of common cells, verdicts."""

from dataclasses import dataclass
from typing import Any

from cnnjax.core.values import differences, plain
from cnnjax.study.cells import Cell
from cnnjax.study.outcome import Outcome
from cnnjax.study.store import Store
from cnnjax.tasks.task import figures_in


@dataclass(frozen=True)
class Difference:
    """What differs between two studies.

    Attributes:
      settings: lines "path: first -> second": what was asked, of common variants every setting.
      alike: cells that both have, with the same figures to the last bit.
      changed: those with others: cell, figure, its first and its second value.
      only_first, only_second: cells that one alone has done.
      verdicts: of each contrast that either declares: its name, the verdicts, None where it is not
        declared.
    """

    settings: list[str]
    alike: list[str]
    changed: list[tuple[str, str, Any, Any]]
    only_first: list[str]
    only_second: list[str]
    verdicts: list[tuple[str, str | None, str | None]]

    @property
    def any(self) -> bool:
        """Whether anything differs, but for versions and machines."""
        verdicts = any(first != second for _, first, second in self.verdicts)
        cells = self.changed or self.only_first or self.only_second
        return bool(self.settings or cells or verdicts)


def compare(first: Outcome, second: Outcome) -> Difference:
    """What differs; cells are the same where their variant's name and seed are."""
    results = first.results, second.results
    one, other = _settings(first, second)
    cells = {(cell.variant.name, cell.seed): cell for cell in first.plan.cells}
    twins = {(cell.variant.name, cell.seed): cell for cell in second.plan.cells}
    alike, changed = [], []
    for key in (key for key in first.results if key in second.results):
        mine = _compared(first, cells[key])
        theirs = _compared(second, twins[key])
        name = cells[key].name
        found = [
            (name, figure, mine.get(figure), theirs.get(figure))
            for figure in dict.fromkeys((*mine, *theirs))
            if mine.get(figure) != theirs.get(figure)
        ]
        changed += found
        alike += [] if found else [name]
    results = first.results, second.results
    verdicts = [{j.name: j.verdict for j in outcome.judgements} for outcome in (first, second)]
    return Difference(
        settings=differences(one, other),
        alike=alike,
        changed=changed,
        only_first=[f"{n}-s{s}" for n, s in results[0] if (n, s) not in results[1]],
        only_second=[f"{n}-s{s}" for n, s in results[1] if (n, s) not in results[0]],
        verdicts=[
            (name, verdicts[0].get(name), verdicts[1].get(name))
            for name in dict.fromkeys((*verdicts[0], *verdicts[1]))
        ],
    )


def versions_of(first: Outcome, second: Outcome) -> list[str]:
    """Lines in which versions and placement of two studies differ: why bits may."""
    mine, theirs = (
        {**outcome.document["versions"], **outcome.document["bits"]} for outcome in (first, second)
    )
    return differences(mine, theirs)


def _compared(outcome: Outcome, cell: Cell) -> dict[str, Any]:
    """Of a cell all that training decides; "record": of every epoch and probe."""
    result = outcome.results[cell.variant.name, cell.seed]
    figures = ("status", "steps", *figures_in(result))
    record = Store(outcome.folder).files(cell).record()
    return {**{name: result.get(name) for name in figures}, "record": record[:12]}


def _settings(first: Outcome, second: Outcome) -> tuple[dict[str, Any], dict[str, Any]]:
    """What was asked of each study, of common variants every setting."""
    mine, theirs = (outcome.document["settings"]["variants"] for outcome in (first, second))
    common = [name for name in mine if name in theirs]

    def asked(outcome: Outcome) -> dict[str, Any]:
        document, plan = outcome.document, outcome.plan
        told = ("study", "question", "source", "preset", "seeds", "factors", "metrics")
        return {
            **{key: document[key] for key in told},
            "variants": {name: document["settings"]["variants"][name] for name in common},
            "contrasts": {contrast.name: plain(contrast) for contrast in plan.contrasts},
            "probes": {probe.label: plain(probe) for probe in plan.probes},
            "tune": plain(plan.tune),
            "data": {name: about["fingerprint"] for name, about in document["data"].items()},
            "sources": document["sources"],
        }

    return asked(first), asked(second)
