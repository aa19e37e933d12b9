"""Measures what one transition of the machine costs: sequential, fanned out, and as JSON.

Run it as ``python -m tests.bench.bench_machine``; it fails when a sequential transition takes
longer than the budget.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

from orch8.blocks.for_each import ForEach
from orch8.blocks.parallel import Parallel
from orch8.engine.events import LeafSettled, Started
from orch8.engine.machine import advance
from orch8.engine.moves import Schedule
from orch8.engine.outcome import COMPLETED
from orch8.engine.snapshot import EMPTY, Snapshot
from tests.support.definitions import Said, chain, index_of, word

if TYPE_CHECKING:
    from collections.abc import Callable

    from orch8.engine.block import Index
    from orch8.engine.keys import NodeKey

BUDGET_US = 40.0
_REPEATS = 5


def sequential(steps: int = 2_000) -> float:
    """Microseconds per transition of a plain chain of leaves."""
    return _best(lambda: _drive(index_of(*(f"s{n}" for n in range(steps)))))


def nested(items: int = 1_000) -> float:
    """Microseconds per transition of a for_each of two steps, one item at a time."""
    each = ForEach(
        id="each", collection=word(f"items:{items}"), body=chain("b", "one", "two"),
        max_iterations=items,
    )  # fmt: skip
    return _best(lambda: _drive(index_of(each)))


def wide(branches: int = 100) -> float:
    """Microseconds per transition while this many branches are live."""
    all_ = Parallel(
        id="all", branches=tuple(chain(f"b{n}", f"x{n}", f"y{n}") for n in range(branches))
    )
    return _best(lambda: _drive(index_of(all_)))


def stored(steps: int = 2_000) -> float:
    """Microseconds per sequential transition with the snapshot through JSON each time."""
    return _best(lambda: _drive(index_of(*(f"s{n}" for n in range(steps))), through_json=True))


def _drive(index: Index, *, through_json: bool = False) -> float:
    values = Said()
    decision = advance(index, EMPTY, Started(), values)
    due = [e.key for e in decision.effects if isinstance(e, Schedule)]
    transitions = 0
    begin = time.perf_counter()
    while due:
        key: NodeKey = due.pop(0)
        snapshot = decision.snapshot
        if through_json:
            snapshot = Snapshot.from_json(json.loads(json.dumps(snapshot.to_json())))
        decision = advance(index, snapshot, LeafSettled(key, COMPLETED), values)
        due.extend(e.key for e in decision.effects if isinstance(e, Schedule))
        transitions += 1
    spent = time.perf_counter() - begin
    if decision.snapshot.outcome != COMPLETED:
        raise AssertionError("the definition did not complete")
    return spent / transitions * 1e6


def _best(run: Callable[[], float]) -> float:
    return min(run() for _ in range(_REPEATS))


def main() -> int:
    """The measurements are printed; 1 when a sequential transition is over its budget."""
    found = {"sequential": sequential(), "nested": nested(), "wide": wide(), "stored": stored()}
    for name, microseconds in found.items():
        print(f"{name:<12}{microseconds:8.1f} us per transition")  # noqa: T201 - its purpose
    return 0 if found["sequential"] < BUDGET_US else 1


if __name__ == "__main__":
    sys.exit(main())
