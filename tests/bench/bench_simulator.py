"""Measures what 40 days of dunning cost in the Simulator: one by itself, and a cohort.

Run it as ``python -m tests.bench.bench_simulator``; it fails when the single one takes longer than
the budget.
"""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from pathlib import Path

import orch8
from orch8.testing import Simulator

BUDGET_MS = 250.0
_DUNNING = Path(orch8.__file__).parent / "examples" / "payment_dunning.json"
_REPEATS = 5


def dunning(instances: int) -> float:
    """Milliseconds in which this many instances go the whole way of 3, 7 and 30 days."""
    began = time.perf_counter()
    sim = Simulator(
        _DUNNING,
        {
            "charge_payment_method": {"status": "failed"}, "retry_with_backup_method": {},
            "send_payment_reminder": {}, "downgrade_account": {},
        },
    )  # fmt: skip
    for _ in range(instances):
        sim.start({"data": {"amount_cents": 9900}})
    started = sim.now
    sim.run()
    assert sim.now - started == timedelta(days=40)
    assert len(sim.calls) == 4 * instances
    return (time.perf_counter() - began) * 1000


def main() -> int:
    """Prints the measurements; 1 when the budget is missed."""
    one = min(dunning(1) for _ in range(_REPEATS))
    many = dunning(1_000)
    sys.stdout.write(f"one dunning of 40 days      {one:8.1f} ms (budget {BUDGET_MS:.0f})\n")
    sys.stdout.write(f"1,000 of them, each         {many / 1000:8.2f} ms\n")
    return int(one > BUDGET_MS)


if __name__ == "__main__":
    sys.exit(main())
