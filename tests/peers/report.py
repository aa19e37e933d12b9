"""What the comparison says: a table for people, a file of results for programs.

Medians over the rounds; latencies are pooled. An engine that could not be measured stays in the
table, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from tests.bench.report import percentile
from tests.peers.programs.step import STEPS
from tests.peers.session import Measured

FILE = Path("build/peers/results.json")  # unless told otherwise
KEPT = Path("deploy/docs/peers.json")  # of the run that the docs show
WIDTH = 110  # characters, where nobody looks at a terminal
COLUMNS = ("steps/s", "p50 ms", "p99 ms", "CPU us", "Postgres us", "commits")
TITLES = {
    "noop": "10 no-op steps a workflow, functions in the engine's own workers",
    "http": "5 HTTP steps a workflow, the handler answers at once",
}


@dataclass
class Entry:
    """One engine: how it was run, its measurements by workload, and why some are missing."""

    name: str
    title: str
    version: str
    setting: str
    measured: dict[str, list[Measured]] = field(default_factory=dict)
    trouble: list[str] = field(default_factory=list)

    def add(self, kind: str, one: Measured) -> None:
        """One more round."""
        self.measured.setdefault(kind, []).append(one)

    def numbers(self, kind: str) -> dict[str, float | None] | None:
        """The figures of a workload; None if it was never measured."""
        runs = self.measured.get(kind)
        if not runs:
            return None
        periods = sorted(1000 * p for run in runs for p in run.periods)
        commits = [run.commits / run.workflows for run in runs if run.commits is not None]

        def cost(*parts: str) -> float | None:
            if not any(run.cpu for run in runs):
                return None
            return median(
                1e6 * sum(run.cpu.get(part, 0.0) for part in parts) / run.steps(kind)
                for run in runs
            )

        return {
            "steps_per_s": median(run.steps_per_s for run in runs),
            "lowest_steps_per_s": min(run.steps_per_s for run in runs),
            "highest_steps_per_s": max(run.steps_per_s for run in runs),
            "p50_ms": percentile(periods, 50) if periods else None,
            "p99_ms": percentile(periods, 99) if periods else None,
            "latencies": len(periods),
            "cpu_us": cost("itself", "postgres", "redis"),
            "itself_us": cost("itself"),
            "postgres_us": cost("postgres"),
            "redis_us": cost("redis"),
            "commits": median(commits) if commits else None,
            "workflows": median(run.workflows for run in runs),
            "repeated": sum(run.repeated for run in runs),
            "rounds": len(runs),
        }

    def to_json(self) -> dict[str, Any]:
        """All that is known of the engine."""
        return {
            "name": self.name,
            "title": self.title,
            "version": self.version,
            "setting": self.setting,
            "trouble": self.trouble,
            "numbers": {kind: self.numbers(kind) for kind in STEPS},
        }


def write(file: Path, conditions: Mapping[str, Any], entries: Sequence[Entry]) -> dict[str, Any]:
    """The results stand in the file; they are the answer, too."""
    found = {"conditions": dict(conditions), "engines": [entry.to_json() for entry in entries]}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    return found


def show(results: Mapping[str, Any], console: Console) -> None:
    """The tables are printed, one for each workload, and what went wrong below them."""
    for kind, title in TITLES.items():
        table = Table(title=title, title_justify="left")
        table.add_column("engine", no_wrap=True)
        for column in COLUMNS:
            table.add_column(column, justify="right", no_wrap=True)
        for row in rows(results, kind):
            table.add_row(*row)
        console.print(table)
    engines = results["engines"]
    for engine in engines:
        for words in (*engine["trouble"], *_repeats(engine)):
            console.print(f"{engine['title']}: {words}", highlight=False, markup=False)


def rows(results: Mapping[str, Any], kind: str) -> list[list[str]]:
    """A table's cells, the fastest engine first."""
    engines = results["engines"]
    ranked = sorted(engines, key=lambda e: -((e["numbers"][kind] or {}).get("steps_per_s") or 0))
    found = []
    for engine in ranked:
        name = f"{engine['title']} {engine['version']}"
        cells = _cells(engine["numbers"][kind])
        found.append([name if cells else f"{name}: not measured", *cells])
    return found


def lines(results: Mapping[str, Any], kind: str) -> list[str]:
    """A table's rows as they stand in deploy/docs/peers.md."""
    return [f"| {' | '.join(row)} |" for row in rows(results, kind)]


def _repeats(engine: Mapping[str, Any]) -> list[str]:
    found = {kind: (engine["numbers"][kind] or {}).get("repeated") for kind in TITLES}
    return [f"{n} steps of the kind {kind} began more than once" for kind, n in found.items() if n]


def _cells(numbers: Mapping[str, Any] | None) -> list[str]:
    if numbers is None:
        return []
    shown = {
        "steps_per_s": "{:,.0f}",
        "p50_ms": "{:.1f}",
        "p99_ms": "{:.1f}",
        "cpu_us": "{:,.0f}",
        "postgres_us": "{:,.0f}",
        "commits": "{:.1f}",
    }
    return [
        form.format(numbers[name]) if numbers[name] is not None else "-"
        for name, form in shown.items()
    ]
