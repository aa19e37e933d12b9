"""What people do to an instance: pause, resume, cancel, change its data, retry. Work for a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from orch8.engine.events import CancelRequested, Retried
from orch8.engine.scope import CONTEXT
from orch8.runtime.run import Run
from orch8.runtime.signal import TERMINAL
from orch8.storage.rows import InstanceRow
from orch8.testing.store import Store

ACTOR: Final = "test"


def ended(row: InstanceRow) -> bool:
    """Whether nothing can be sent to the instance any more."""
    return row.state in TERMINAL


def pause(store: Store, run: Run) -> None:
    """Nothing of the instance is claimed until it is resumed; calls in flight are answered."""
    if run.row.paused_at is None:
        store.hold_due(run.row.id)
        run.row = replace(run.row, paused_at=run.now)
        run.audit("instance.paused", "success", actor=ACTOR)


def resume(store: Store, run: Run) -> None:
    """The instance goes on: what became due meanwhile is due now."""
    if run.row.paused_at is not None:
        store.release_due(run.row.id)
        run.row = replace(run.row, paused_at=None)
        run.audit("instance.resumed", "success", actor=ACTOR)


def cancel(store: Store, run: Run, *, actor: str = ACTOR, reason: str | None = None) -> None:
    """What calls nobody ends; a call in flight is awaited, since it may have moved money."""
    if run.row.paused_at is not None:
        store.release_due(run.row.id)
    run.row = replace(run.row, cancelling=True, paused_at=None)
    run.audit("instance.cancelling", "success", actor=actor, reason=reason)
    run.fire(CancelRequested())


def signalled(store: Store, name: str, run: Run) -> None:
    """A wait for this signal looks again; without one the signal stays in the inbox."""
    waiting = store.waiting_for(run.row.id, f"signal:{name}")
    run.changes.woken.extend((run.row.id, node_key) for node_key in waiting)
    run.audit(f"signal.{name}"[:200], "success", actor=ACTOR)


def update_context(data: Mapping[str, Any], run: Run) -> None:
    """The members of ``data`` are merged into ``context.data``."""
    context = run.known.get(CONTEXT)
    run.set_context({**context, "data": {**(context.get("data") or {}), **data}})
    run.audit("context.updated", "success", actor=ACTOR, body={"members": sorted(data)[:100]})


def retry(run: Run, *, reason: str | None = None) -> None:
    """The failed leaves are entered again, in the next round; what completed stays completed."""
    run.row = replace(run.row, round=run.row.round + 1)
    run.audit("instance.retried", "success", actor=ACTOR, reason=reason)
    run.fire(Retried())
