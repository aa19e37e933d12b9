"""A Celery worker that kills itself with SIGKILL at one exact line of the crash table.

The line is named by ORCH8_CRASH_AT: ``claimed`` (the claim is committed, nothing is sent),
``answered`` (the handler's answer has come), ``settling`` (its settlement is written, not
committed) or ``settled`` (committed, nothing done with it yet). The product knows nothing of this:
its functions are wrapped here. Run with the arguments of ``celery worker``.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from orch8.engine.outcome import Answer
from orch8.handlers.http import Line
from orch8.runtime import pump as pumping
from orch8.runtime.preparing import Task
from orch8.runtime.pump import Pump
from orch8.runtime.settle import Item, Settled, settle
from workers.app import app

POINTS = ("claimed", "answered", "settling", "settled")


def die() -> NoReturn:
    """The process ends here and now, as if the power had gone."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL cannot be survived")


def arm(point: str) -> None:
    """The worker will die when it first comes to the point."""
    if point == "claimed":
        Pump._launch = _die_with_a_call  # type: ignore[method-assign]
    elif point == "answered":
        Line.end = _end_and_die  # type: ignore[method-assign]
    elif point == "settling":
        pumping.settle = _settle_and_die  # type: ignore[attr-defined]
    elif point == "settled":
        Pump._settle = _die_once_settled  # type: ignore[method-assign]
    else:
        raise SystemExit(f"ORCH8_CRASH_AT must be one of {', '.join(POINTS)}, not {point!r}")


_launch, _settle, _end = Pump._launch, Pump._settle, Line.end


def _die_with_a_call(pump: Pump, tasks: Sequence[Task]) -> None:
    if any(task.request is not None for task in tasks):
        die()
    _launch(pump, tasks)


def _end_and_die(line: Line, code: int, reason: str) -> Answer:
    answer = _end(line, code, reason)
    return die() if line.sends else answer  # it may have been too late to be sent


def _answered(items: Sequence[Item]) -> bool:
    return any(isinstance(item.came, Answer) for item in items)


def _settle_and_die(office: Any, tx: Any, items: Sequence[Item], claimer: Any) -> Settled:
    settled = settle(office, tx, items, claimer)
    return die() if _answered(items) else settled


def _die_once_settled(pump: Pump, batch: Sequence[Item]) -> Settled:
    settled = _settle(pump, batch)
    return die() if _answered(batch) else settled


if __name__ == "__main__":
    arm(os.environ["ORCH8_CRASH_AT"])
    app.worker_main(sys.argv[1:])
