"""What the bench says: tables for people, build/bench.json for programs, a last line for both."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

import orjson
from rich.console import Console
from rich.table import Table

from tests.bench.road import Drain
from tests.bench.statements import Statement

FILE = Path("build/bench.json")
TARGET_STEPS, TARGET_SHARE, TARGET_MONEY = 6000, 0.5, 15
TARGET_START_MS: Final = {"p50": 10, "p99": 50}
MOST_THREADS = 24


@dataclass
class Results:
    """Every measurement, one per run; the report takes the medians."""

    conditions: Mapping[str, Any]
    drains: dict[str, list[Drain]] = field(default_factory=dict)  # by the kind of steps
    ceilings: list[float] = field(default_factory=list)
    asked: list[list[float]] = field(default_factory=list)  # ms, ascending, by run
    answered: list[list[float]] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)  # of the last run, limiter off

    def numbers(self) -> dict[str, float]:
        """The medians, by name."""
        return {
            "steps_per_s": median(d.steps_per_s for d in self.free),
            "steady_steps_per_s": median(d.steady_per_s for d in self.free),
            **{
                f"{name}_steps_per_s": median(d.steps_per_s for d in drains)
                for name, drains in self.drains.items()
                if name != "free"
            },
            "money_costs_percent": self._money_costs(),
            "ceiling_per_s": median(self.ceilings),
            "start_p50_ms": median(percentile(run, 50) for run in self.asked),
            "start_p99_ms": median(percentile(run, 99) for run in self.asked),
            "after_answer_p50_ms": median(percentile(run, 50) for run in self.answered),
            "after_answer_p99_ms": median(percentile(run, 99) for run in self.answered),
            "creations_per_s": median(
                d.creations_per_s for all_ in self.drains.values() for d in all_
            ),
        }

    @property
    def free(self) -> list[Drain]:
        """The drains of plain steps."""
        return self.drains["free"]

    def _money_costs(self) -> float:
        """By how many percent fewer money steps are done in a second than steps with effect none,
        run by run: the median.
        """
        pairs = zip(self.drains["none"], self.drains["money"], strict=True)
        return median(100 * (1 - money.steps_per_s / none.steps_per_s) for none, money in pairs)

    def to_json(self) -> dict[str, Any]:
        """All that build/bench.json holds."""
        return {
            "numbers": self.numbers(),
            "conditions": self.conditions,
            "runs": {
                name: [
                    {
                        "creations_per_s": d.creations_per_s,
                        "steps_per_s": d.steps_per_s,
                        "steady_steps_per_s": d.steady_per_s,
                        "steps": d.steps,
                        "cpu_seconds": d.cpu,
                    }
                    for d in found
                ]
                for name, found in self.drains.items()
            }
            | {"ceiling_per_s": self.ceilings, "start_ms": self.asked},
        }


def percentile(ascending: Sequence[float], percent: float) -> float:
    """The smallest value that at least ``percent`` % of the values do not exceed."""
    rank = -(-len(ascending) * percent // 100)
    return ascending[max(int(rank) - 1, 0)]


def last_line(numbers: Mapping[str, float]) -> str:
    """The line that programs look for."""
    names = (
        "steps_per_s", "ceiling_per_s", "start_p50_ms", "start_p99_ms", "creations_per_s",
        "money_costs_percent",
    )  # fmt: skip
    shown = (
        f"{n}={numbers[n]:.1f}" if n.endswith(("_ms", "_percent")) else f"{n}={numbers[n]:.0f}"
        for n in names
    )
    return f"bench: {' '.join(shown)}"


def show(results: Results, console: Console, *, profile: bool) -> None:
    """The tables are printed and the file is written."""
    numbers = results.numbers()
    _show_conditions(results.conditions, console)
    table = Table(title="orch8, the whole road", title_justify="left")
    for column in ("what", "median", "asked", ""):
        table.add_column(column, justify="left" if column in {"what", ""} else "right")
    for row in rows(numbers):
        table.add_row(*row)
    console.print(table)
    _show_cpu(results.free, console)
    if profile:
        _show_threads(results.free, console)
        _show_statements(results.statements, results.free[-1].steps, console)
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_bytes(orjson.dumps(results.to_json(), option=orjson.OPT_INDENT_2))
    console.print(f"written to {FILE}", highlight=False)


def rows(numbers: Mapping[str, float]) -> Iterator[tuple[str, str, str, str]]:
    """What was measured, the median, what is asked of it, and whether that was missed."""
    steps, ceiling = numbers["steps_per_s"], numbers["ceiling_per_s"]
    share, costs = steps / ceiling, numbers["money_costs_percent"]
    enough = f"{TARGET_STEPS:,}"
    yield "durable steps/s, limiter off", f"{steps:,.0f}", enough, _mark(steps >= TARGET_STEPS)
    for what, name in (
        ("  its steady part", "steady"),
        ("durable steps/s, limiter on", "limited"),
        ("durable steps/s, effect none", "none"),
        ("durable steps/s, effect money, fenced", "money"),
    ):
        yield what, f"{numbers[f'{name}_steps_per_s']:,.0f}", "", ""
    enough = f"at most {TARGET_MONEY} %"
    yield (
        "  slower than effect none, by the run",
        f"{costs:.1f} %",
        enough,
        _mark(costs <= TARGET_MONEY),
    )
    yield "ceiling: pgbench transitions/s", f"{ceiling:,.0f}", "", ""
    enough = f"{TARGET_SHARE:.0%}"
    yield "  steps/s as a share of it", f"{share:.0%}", enough, _mark(share >= TARGET_SHARE)
    made = f"{numbers['creations_per_s']:,.0f}"
    yield "creations/s over HTTP, workers stopped", made, "", ""
    for p, most in TARGET_START_MS.items():
        took = numbers[f"start_{p}_ms"]
        enough = f"under {most}"
        yield f"request -> handler called, {p} ms", f"{took:.1f}", enough, _mark(took < most)
    for p in TARGET_START_MS:
        took = numbers[f"after_answer_{p}_ms"]
        yield f"  201 -> handler called, {p} ms", f"{took:.1f}", "", ""


def _mark(enough: bool) -> str:
    return "" if enough else "missed"


def _show_conditions(found: Mapping[str, Any], console: Console) -> None:
    console.print(
        f"{found['cores']} cores of {found['cpu']}, load before {found['load_before']:.1f}; "
        f"Python {found['python']}, Postgres {found['postgres']} (fsync on), {found['redis']}; "
        f"{found['workers']} workers; {found['on_the_same_cores']} on the same cores",
        highlight=False,
    )


def _show_cpu(drains: Sequence[Drain], console: Console) -> None:
    table = Table(title="CPU per step, limiter off", title_justify="left")
    table.add_column("part")
    table.add_column("us/step", justify="right")
    for part in drains[0].cpu:
        spent = median(1e6 * d.cpu.get(part, 0.0) / d.steps for d in drains)
        table.add_row(part, f"{spent:.0f}")
    if drains[0].cpu:
        console.print(table)


def _show_threads(drains: Sequence[Drain], console: Console) -> None:
    spent: defaultdict[tuple[str, str], float] = defaultdict(float)
    for drain in drains:
        for at, seconds in drain.threads.items():
            spent[at] += 1e6 * seconds / sum(d.steps for d in drains)
    table = Table(title="CPU per step by thread, limiter off", title_justify="left")
    for column in ("part", "thread"):
        table.add_column(column)
    table.add_column("us/step", justify="right")
    busiest = sorted(spent.items(), key=lambda item: -item[1])[:MOST_THREADS]
    for (part, thread), us in busiest:
        table.add_row(part, thread, f"{us:.1f}")
    console.print(table)


def _show_statements(found: Sequence[Statement], steps: int, console: Console) -> None:
    table = Table(title="Postgres by statement, limiter off, last run", title_justify="left")
    for column in ("us/step", "calls/step", "rows/call"):
        table.add_column(column, justify="right", min_width=len(column))
    table.add_column("statement")
    for each in found:
        per_step = f"{1000 * each.ms / steps:.1f}", f"{each.calls / steps:.3f}"
        table.add_row(*per_step, f"{each.rows / max(each.calls, 1):.1f}", each.text[:44])
    console.print(table)
