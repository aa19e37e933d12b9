"""sla: a run that takes longer than its sequence allows is told of, and cancelled if it says so."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from orch8.blocks.interrupt import SLA
from orch8.engine.block import Index, Leaf
from orch8.engine.events import CancelRequested, Event
from orch8.engine.expressions.values import timestamp
from orch8.engine.keys import NodeKey
from orch8.engine.moves import Overdue
from orch8.runtime import notices
from orch8.storage.rows import Incident

if TYPE_CHECKING:
    from orch8.runtime.run import Run

BREACHED: Final = "sla_breached"


def breach(run: Run, effect: Overdue) -> list[Event]:
    """The breach is an incident and in the audit log; what follows from it at once."""
    row = run.row
    body = {"started_at": row.created_at.isoformat(), "cancelled": effect.cancel}
    run.changes.incidents.append(Incident(row.tenant_id, row.id, None, BREACHED, body))
    run.audit(f"instance.{BREACHED}", "failed", body=body)
    run.trace("_sla:runtime", {"_sla_breach": "runtime", "_alerted_at": timestamp(run.now)})
    notices.breached(run, "runtime", _longest(run), run.now - row.created_at, None)
    if not effect.cancel:
        return []
    run.row = row.but(cancelling=True)
    return [CancelRequested()]


def _longest(run: Run) -> timedelta | None:
    """How long the run was meant to take at most."""
    clock = getattr(run.index.root, "sla", None)
    if clock is None or clock.delay is None:
        return None
    began = run.row.created_at
    until: datetime = clock.delay.duration.after(began, run.zone)
    return until - began


def shown_leaves(index: Index, live: Iterable[NodeKey]) -> list[NodeKey]:
    """The live leaves that say what state the instance shows: its clock is none of them."""
    return [key for key in live if key.block_id != SLA and isinstance(index[key.block_id], Leaf)]
