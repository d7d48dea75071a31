"""The folder of a study: append-only, readable without cnnjax, never half-written.

study.json      the resolved study, costs, data fingerprints, versions, machine; sealed
sessions.jsonl  one line for each time that the study was run: seconds, workers, cores busy
cells/<variant>-s<seed>-<hash>/
    config.json    recipe and seed: enough to repeat the cell alone
    metrics.jsonl  one line an epoch, and one each time that probes looked
    result.json    renamed into place: its presence is "done"; sealed, and it seals the other two
    failure.json   the cell raised an error; it runs again next time
    checkpoint     only while a long cell runs
"""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cnnjax.core.config import FORMAT, compact, effective, full, idle_settings, spelled_out
from cnnjax.core.environment import bits, machine, versions
from cnnjax.core.errors import Refused, Say
from cnnjax.core.files import atomic_write, read_lines, read_sealed, write_json, write_sealed
from cnnjax.core.place import JIT, Place
from cnnjax.core.user_code import expanded, located
from cnnjax.core.values import convert, differences, digest, plain
from cnnjax.study.cells import Cell, Plan, Variant
from cnnjax.study.measures import goal_of
from cnnjax.study.spec import AnyContrast, Contrast, Probe, Spread, Trend, Tune
from cnnjax.tasks.task import Metric
from cnnjax.training.restore import check_format

_TIMES = {"images_per_second", "train_seconds", "probe_seconds"}
NOTHING: Mapping[str, Any] = MappingProxyType({})
_SESSION = {"began", "seconds", "workers", "cells", "cpu_seconds", "cores_busy", "stopped"}


@dataclass(frozen=True)
class CellFiles:
    """The files of one cell."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "config.json"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def result(self) -> Path:
        return self.folder / "result.json"

    @property
    def failure(self) -> Path:
        return self.folder / "failure.json"

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint"

    def begin(self, cell: Cell, identity: str) -> None:
        """Make the folder, config.json and metrics.jsonl; `identity` is the study's."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.failure.unlink(missing_ok=True)
        if not (self.checkpoint.exists() and self.metrics.exists()):
            atomic_write(self.metrics, b"")  # a run may end before its first line
        write_json(
            self.config,
            {
                "study": identity,
                "variant": plain(cell.variant.levels),
                "format": FORMAT,
                "recipe": compact(cell.variant.recipe),
                "seed": cell.seed,
            },
        )

    def finish(self, result: dict) -> None:
        """Seal the other files and rename the result into place."""
        seals = {path.name: _sha(path) for path in (self.config, self.metrics)}
        write_sealed(self.result, {**result, "seals": seals})
        self.checkpoint.unlink(missing_ok=True)

    def record(self) -> str:
        """A digest of all that was seen while it trained, epochs and probes, without times."""
        lines = [
            {key: value for key, value in line.items() if key not in _TIMES}
            for line in read_lines(self.metrics)
        ]
        return digest(lines)

    def fail(self, error: str) -> None:
        with contextlib.suppress(OSError):  # a full disk may be why it failed
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.failure, {"error": error})

    def read(self, identity: str) -> dict | None:
        """The result, or None if there is none.

        Raises:
          ValueError: a file of the cell is damaged, or it is of another study than `identity`;
            the text names the file.
        """
        try:
            result = read_sealed(self.result)
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise ValueError(f"{self.result}: {error}") from None
        for path in (self.config, self.metrics):
            try:
                intact = _sha(path) == result["seals"][path.name]
            except (OSError, KeyError):
                intact = False
            if not intact:
                raise ValueError(f"{path}: damaged (its digest does not match)")
        if json.loads(self.config.read_bytes())["study"] != identity:
            raise ValueError(f"{self.config}: of a study with other settings, data or sources")
        return result


@dataclass(frozen=True)
class Store:
    """A study's folder."""

    folder: Path

    @property
    def document(self) -> Path:
        return self.folder / "study.json"

    @property
    def sessions(self) -> Path:
        return self.folder / "sessions.jsonl"

    def files(self, cell: Cell) -> CellFiles:
        return CellFiles(self.folder / "cells" / cell.folder)

    def claim(
        self,
        plan: Plan,
        data: Mapping[str, Any],
        costs: Mapping[str, Any],
        command: str,
        say: Say,
        data_dir: str | None = None,
        sources: Mapping[str, str] | None = None,
        *,
        place: Place = JIT,
        mixed_bits: bool = False,
        notes: Mapping[str, Any] = NOTHING,
    ) -> tuple[Plan, str]:
        """Write study.json, or check that the one there is this study; more seeds extend it.

        Args:
          plan: what is to run.
          data: {data set: {fingerprint, ...}}.
          costs: {variant: {params, macs, input}}.
          command: how to repeat the study.
          data_dir: where the data lie, for the commands that a report prints.
          sources: `source_digests` of its networks.
          place: on which devices its cells are trained.
          mixed_bits: another placement than that of its beginning is no reason to refuse.
          notes: more for study.json, that a report tells.

        Returns:
          The plan with as many seeds as the folder has seen, and the study's identity.

        Raises:
          Refused: the folder holds another study; the text says where they differ.
        """
        identity = {**plan.identity(), "data": plain(data), "sources": plain(sources or {})}
        old = None
        if self.document.exists():
            try:
                old = read_sealed(self.document)
            except ValueError as error:
                say(f"{self.document}: {error}; written anew")
        lost = old is None and any((self.folder / "cells").glob("*/config.json"))
        if old is None:
            plan = _grown(plan, self._seeds_seen(plan))
            document = {
                **identity,
                "identity": digest(identity),
                "costs": plain(costs),
                "measures": plain(plan.measures),
                # Spelled out here, where users' files are at hand: a report needs none.
                "settings": {
                    "base": effective(plan.base),
                    "idle": list(idle_settings(plan.base)),
                    "variants": {v.name: effective(v.recipe) for v in plan.variants},
                },
                "extensions": [],
                "rewritten": datetime.now(UTC).isoformat(timespec="seconds") if lost else None,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "versions": versions(),
                "machine": machine(),
                "bits": bits(place, threads=1),  # a worker's
                "place": plain(place),
            }
        else:
            check_format(old, str(self.folder))
            if {key: old.get(key) for key in identity} != identity:
                changed = differences(_spelled_out(old, identity), _spelled_out(identity, identity))
                shown = "; ".join(changed[:3]) + ("; ..." if len(changed) > 3 else "")
                raise Refused(
                    f"{self.folder} holds another study ({shown});"
                    " give another --workdir, or the same settings"
                )
            began = place_of(old)
            if began != place and not mixed_bits:
                raise Refused(
                    f"{self.folder} was begun under placement {began}, and {place} gives other"
                    f" bits; type {began.options}, or go on knowingly: --mixed-bits"
                )
            if changed := differences(
                {"placement": str(began), **old["bits"]}, bits(place, threads=1)
            ):
                say(f"not bit-identical with the study's beginning: {'; '.join(changed)}")
            plan = _grown(plan, old["seeds"])
            document = dict(old)
        document["seeds"] = {variant.name: variant.seeds for variant in plan.variants}
        if first := plan.variants[0].first_seed:
            document["first_seed"] = first
        document |= {
            **notes,
            "folder": str(located(".").absolute()),  # where relative paths of a recipe start
            "data_dir": data_dir and str(expanded(data_dir).absolute()),
        }
        if document != old:
            if old is None or old["seeds"] != document["seeds"]:
                document["command"] = command
            if old is not None and old["seeds"] != document["seeds"]:
                extension = {
                    "when": datetime.now(UTC).isoformat(timespec="seconds"),
                    "from": max(old["seeds"].values()),
                    "to": plan.seeds,
                }
                document["extensions"] = [*old["extensions"], extension]
            write_sealed(self.document, document)
        return plan, document["identity"]

    def _seeds_seen(self, plan: Plan) -> dict[str, int]:
        """For each variant one more than the highest seed that has a folder."""
        seen = {variant.name: 0 for variant in plan.variants}
        for variant in plan.variants:
            for folder in (self.folder / "cells").glob(f"{variant.name}-s*"):
                seed = folder.name.removeprefix(f"{variant.name}-s").partition("-")[0]
                if seed.isdigit() and Cell(variant, int(seed)).folder == folder.name:
                    count = int(seed) + 1 - variant.first_seed
                    seen[variant.name] = max(seen[variant.name], count)
        return seen

    def check_tuned(self, plan: Plan) -> None:
        """Refuse a folder whose study tunes otherwise, before trials run for nothing."""
        try:
            old = read_sealed(self.document)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return
        mine = {"study": plan.study, "preset": plan.preset, "tune": plain(plan.tune)}
        if changed := differences({key: old.get(key) for key in mine}, mine):
            raise Refused(
                f"{self.folder} holds another study ({'; '.join(changed)}); give another --workdir,"
                " or the same settings"
            )

    def read(self) -> tuple[Plan, dict]:
        """The plan in the folder and the whole of study.json.

        Raises:
          Refused: the folder holds no study, or study.json is damaged.
        """
        try:
            document = read_sealed(self.document)
        except (FileNotFoundError, NotADirectoryError):
            trials = self.folder / "tuning"
            if (trials / "study.json").is_file():
                raise Refused(
                    f"{self.folder} is still tuning; see: cnnjax study status {trials}"
                ) from None
            raise Refused(
                f"{self.folder} is no study (there is no study.json);"
                " give the --workdir of cnnjax study run"
            ) from None
        except ValueError as error:
            raise Refused(
                f"{self.document}: {error}; run the study again to write it anew"
            ) from None
        check_format(document, str(self.folder))
        return plan_of(document), document

    def results(self, plan: Plan, identity: str, say: Say) -> dict[tuple[str, int], dict]:
        """The study's intact results, by variant and seed; `say` hears of each damaged file.

        Epochs to a goal are counted here, in each cell's own record.
        """
        found = {}
        goals = {name: goal for name in plan.metrics if (goal := goal_of(name)) is not None}
        for cell in plan.cells:
            try:
                result = self.files(cell).read(identity)
            except ValueError as error:
                say(f"{error}; with the study's command this cell runs again")
                continue
            if result is not None:
                lines = self.curves(cell) if goals else []
                epochs = {
                    name: goal.epochs(lines)
                    for name, goal in goals.items()
                    if goal.is_measured(lines)
                }
                found[cell.variant.name, cell.seed] = {**result, **epochs}
        return found

    def failures(self, plan: Plan) -> dict[tuple[str, int], str]:
        """The error of each cell that failed and has no result."""
        found = {}
        for cell in plan.cells:
            files = self.files(cell)
            if files.failure.exists() and not files.result.exists():
                found[cell.variant.name, cell.seed] = _error_in(files.failure)
        return found

    def past_sessions(self) -> list[dict]:
        """What `sessions.jsonl` says; lines that are not whole are left out."""
        return [s for s in read_lines(self.sessions) if s.keys() >= _SESSION]

    def curves(self, cell: Cell) -> list[dict]:
        """The figures of each epoch of a cell."""
        return [line for line in read_lines(self.files(cell).metrics) if "epoch" in line]


def place_of(document: Mapping[str, Any]) -> Place:
    """On which devices the study of study.json began, or the cell of a result was trained."""
    return convert(document.get("place", plain(JIT)), Place, "place")


def plan_of(document: Mapping[str, Any]) -> Plan:
    """The plan that study.json describes."""
    seeds = document["seeds"]
    variants = tuple(
        Variant(
            entry["levels"],
            full(entry["recipe"], name),
            seeds[name],
            first_seed=document.get("first_seed", 0),
        )
        for name, entry in document["variants"].items()
    )
    return Plan(
        study=document["study"],
        question=document["question"],
        source=document["source"],
        preset=document["preset"],
        base=full(document["base"], "base"),
        factors={name: tuple(levels) for name, levels in document["factors"].items()},
        variants=variants,
        seeds=max(seeds.values()),
        metrics=tuple(document["metrics"]),
        measures=convert(document["measures"], dict[str, Metric], "measures"),
        contrasts=tuple(convert(c, _kind_of(c), "contrast") for c in document["contrasts"]),
        probes=tuple(convert(p, Probe, "probe") for p in document.get("probes", [])),
        tune=convert(document["tune"], Tune, "tune") if "tune" in document else None,
    )


def _kind_of(contrast: Mapping[str, Any]) -> type[AnyContrast]:
    """By the fields that one kind alone has."""
    if "factor" in contrast:
        return Trend
    return Contrast if "bound" in contrast else Spread


def _spelled_out(document: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """What identifies a study, with every setting of its recipes: to say in what two differ."""
    found: dict[str, Any] = {key: document.get(key) for key in keys}
    variants = {
        name: {**entry, "recipe": spelled_out(entry["recipe"], name)}
        for name, entry in found["variants"].items()
    }
    return {**found, "base": spelled_out(found["base"], "base"), "variants": variants}


def _error_in(path: Path) -> str:
    try:
        return str(json.loads(path.read_bytes())["error"])
    except (OSError, ValueError, KeyError, TypeError):
        return "unknown"


def _grown(plan: Plan, seeds: Mapping[str, int]) -> Plan:
    variants = tuple(
        replace(variant, seeds=max(variant.seeds, seeds.get(variant.name, 0)))
        for variant in plan.variants
    )
    return replace(plan, variants=variants, seeds=max(v.seeds for v in variants))


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
