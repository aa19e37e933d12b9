"""The two Celery tasks: work and tick."""

from __future__ import annotations

from collections.abc import Sequence

from orch8.runtime.tick import tick
from workers import process
from workers.announce import wake
from workers.app import app


@app.task(name="orch8.work")
def work(lane: str, reason: str, step_ids: Sequence[str] = ()) -> None:
    """The lane's due steps are worked on by this process's pump."""
    del reason, step_ids  # for whoever watches; the pump takes what is due the longest
    process.pump().work(lane)


@app.task(name="orch8.tick")
def tick_once() -> None:
    """Due lanes are woken, lost claims taken back, events delivered, queues told of their tasks,
    tokens renewed.
    """
    try:
        tick(process.office(), wake, eyes=process.eyes())
    finally:  # they have threads of their own
        for courier in process.couriers():
            courier.go()
