"""tick: find what is due and wake workers for it; take back what lost workers held.

A tick writes nothing to announce work, so two beats at once are harmless: a second message finds
nothing to claim. What it takes back is locked row by row, and each pass is bounded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar
from uuid import UUID

import structlog

from orch8.errors import Orch8Error
from orch8.runtime import alarms, lanes
from orch8.runtime.admission import BLIND, admit_waiting
from orch8.runtime.eyes import Eyes
from orch8.runtime.firing import fire_due
from orch8.runtime.office import Office
from orch8.runtime.preparing import Task
from orch8.runtime.run import JANITOR
from orch8.runtime.settle import Expired, Item, Lost, settle
from orch8.storage import fleet, instances, places, steps
from orch8.storage.rows import StepRow
from orch8.storage.transaction import Tx

log = structlog.get_logger(__name__)

LANES: Final = (*lanes.LANES, JANITOR)
MESSAGE_IDS: Final = 64  # step ids that a wake-up shows to whoever watches the broker
LOST_PER_PASS: Final = 20  # worker processes
CLAIMS_PER_PASS: Final = 500
T = TypeVar("T")
Wake = Callable[[str, str, Sequence[UUID]], None]  # lane, reason, some of the due steps


@dataclass(frozen=True, slots=True)
class Ticked:
    """What a tick did, for its log line."""

    woken: int
    taken_back: int
    silent: int
    failed: tuple[str, ...] = ()  # parts


def tick(office: Office, wake: Wake, *, eyes: Eyes = BLIND, workers: int | None = None) -> Ticked:
    """Each lane with due work has wake-ups under way, at most two for each live worker; claims of
    lost workers and silent pull workers are taken back; steps that take too long are told of;
    rate-limit queues are admitted, lines for places served; schedules that are due have fired; now
    and then the months to come get their partitions, and what was kept for long enough goes. A
    part that fails keeps nobody from the others.
    """
    began = time.perf_counter()
    parts = _Parts(office)
    taken_back = parts.do("lost_workers", lambda: take_back_lost(office)) or 0
    silent = parts.do("silent_pulls", lambda: take_back_silent(office)) or 0
    parts.do("alarms", lambda: alarms.ring(office))
    parts.do("admission", lambda: admit_waiting(office, eyes))
    parts.do("places", lambda: _serve_places(office))
    parts.do("schedules", lambda: fire_due(office))
    parts.do("months", lambda: office.ahead.look(office.begin))
    parts.do("retention", lambda: office.sweep.look(office.begin))
    if parts.failed:
        log.error("tick.incomplete", failed=parts.failed)
    with office.begin() as tx:
        due = {lane: _due(office, tx, lane) for lane in LANES}
        live = sum(1 for row in fleet.fleet(tx) if row.alive) if workers is None else workers
    woken = 0
    for lane, ids in due.items():
        for _ in range(min(2 * max(live, 1), -(-len(ids) // 16))):
            wake(lane, "tick", ids)
            woken += 1
    office.meter.ticked(time.perf_counter() - began)
    office.meter.write(office.begin)
    return Ticked(woken, taken_back, silent, tuple(parts.failed))


class _Parts:
    """Carries out the parts of a tick. What one runs into is logged and keeps nobody from the
    others, unless the database is away.
    """

    def __init__(self, office: Office) -> None:
        self._office = office
        self.failed: list[str] = []

    def do(self, name: str, part: Callable[[], T]) -> T | None:
        """What the part comes to; None if it failed. Raises Unavailable if all would."""
        try:
            return part()
        except Exception:
            log.exception("tick.part_failed", part=name)
            self.failed.append(name)
        with self._office.begin() as tx:  # is it only this part?
            instances.now(tx)
        return None


def _serve_places(office: Office) -> None:
    with office.begin() as tx:
        places.serve(tx)


def _due(office: Office, tx: Tx, lane: str) -> list[UUID]:
    with office.low_water.look(lane) as look:
        rows = steps.due(tx, lane, MESSAGE_IDS, look.since)
        look.first = rows[0].due_at if rows else None
    return [row.id for row in rows]


def take_back_lost(office: Office) -> int:
    """Claims of worker processes whose lease is over are scheduled again or parked; how many."""
    taken = 0
    with office.begin() as tx:
        lost = fleet.lost_workers(tx, LOST_PER_PASS)
    for worker in lost:
        while True:
            with office.begin() as tx:
                rows = steps.read_steps(tx, steps.claimed_by(tx, worker.id, CLAIMS_PER_PASS))
            if not rows:
                break
            settled = _settle(office, rows, Lost(f"{worker.node} ({worker.id})"))
            taken += settled
            if len(rows) < CLAIMS_PER_PASS or not settled:
                break
        with office.begin() as tx:
            fleet.dismiss(tx, worker.id)
    if taken:
        log.info("claims.taken_back", claims=taken, workers=len(lost))
    return taken


def take_back_silent(office: Office) -> int:
    """Pull steps whose worker went silent are offered again; those out of time have failed or wait
    for another dispatch; how many.
    """
    with office.begin() as tx:
        rows = {row.id: row for row in steps.silent_pulls(tx, CLAIMS_PER_PASS)}
    return _settle(office, list(rows.values()), Expired()) if rows else 0


def _settle(office: Office, rows: Sequence[StepRow], came: Lost | Expired) -> int:
    """The rows are settled together, or, if one of them cannot be, each on its own."""
    items = [Item(Task(row, office.routes.find(row.tenant_id, row.handler)), came) for row in rows]
    try:
        with office.begin() as tx:
            return settle(office, tx, items, None).settled
    except Orch8Error:
        raise
    except Exception:
        log.exception("take_back.broke", items=len(items))
    settled = 0
    for item in items:
        try:
            with office.begin() as tx:
                settled += settle(office, tx, [item], None).settled
        except Exception:
            log.exception("take_back.broke_alone", step_id=str(item.task.row.id))
    return settled
