"""transition: an operator sets the state of an instance, or replaces its context.

A state is what the machine shows; setting one carries out the verb that leads there: pause, resume,
cancel, retry, or doing now what was to be done later. ``waiting`` is a pause under another name:
the instance waits for whoever set it, and stays so whatever its calls answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson

from orch8.blocks.step import Step
from orch8.engine.lifecycle import InstanceState as State
from orch8.engine.scope import CONTEXT
from orch8.errors import InvalidArgument, PayloadTooLarge, Problem
from orch8.runtime.because import Because
from orch8.runtime.due import postpone
from orch8.runtime.office import Office, only
from orch8.runtime.retry import again
from orch8.runtime.run import Run
from orch8.runtime.sandbox import marked
from orch8.runtime.signal import HOLD, SignalRequest, carry_out, change
from orch8.storage import bulk, instances
from orch8.storage.rows import InstanceRow, Moment
from orch8.storage.transaction import Tx

# Which states an operator may set, by the state that is shown (CONTRACT 10.1).
SETTABLE: Final[Mapping[str, frozenset[str]]] = {
    State.SCHEDULED: frozenset({State.RUNNING, State.PAUSED, State.CANCELLED}),
    State.RUNNING: frozenset({State.SCHEDULED, State.WAITING, State.PAUSED, State.CANCELLED}),
    State.WAITING: frozenset({State.RUNNING, State.SCHEDULED, State.CANCELLED}),
    State.PAUSED: frozenset({State.SCHEDULED, State.CANCELLED}),
    State.COMPLETED: frozenset({State.SCHEDULED}),
    State.FAILED: frozenset({State.SCHEDULED}),
    State.CANCELLED: frozenset(),
}
# What nobody can declare, since only the answers of calls bring it about; and what to do instead.
_DERIVED: Final[Mapping[str, str]] = {
    State.WAITING: "only a running instance can be told to wait; pause it to hold it",
    State.COMPLETED: "decide on its step in doubt, complete its task, or cancel it",
    State.FAILED: "decide on its step in doubt, fail its task, or cancel it",
    State.SCHEDULED: "what was cancelled is not taken up again; start a new instance",
    State.PAUSED: "send the signal pause, which holds what it waits for, too",
}
CONTEXT_MEMBERS: Final = ("data", "config", "audit", "runtime")


def set_state(
    office: Office, tx: Tx, instance_id: UUID, state: str, because: Because, *,
    tenant_id: str | None, next_fire_at: datetime | None = None,
) -> InstanceRow:  # fmt: skip
    """The instance is on its way to the state: ``scheduled`` and ``running`` let it go on, at
    ``next_fire_at`` or at once. Raises InvalidArgument for a state that it cannot be given.
    """
    found, moment = instances.lock_instances(tx, [instance_id])
    row = only(found, instance_id, tenant_id)
    return move(office, tx, row, moment, state, because, next_fire_at=next_fire_at)


def move(
    office: Office, tx: Tx, row: InstanceRow, moment: Moment, state: str, because: Because, *,
    next_fire_at: datetime | None = None,
) -> InstanceRow:  # fmt: skip
    """As set_state, of an instance that is locked."""
    check(row.state, state)
    if state == State.PAUSED:
        return carry_out(office, tx, row, moment, _control("pause", because)).row
    if state == State.CANCELLED:
        return carry_out(office, tx, row, moment, _control("cancel", because)).row
    if state == State.WAITING:
        return carry_out(office, tx, row, moment, _control(HOLD, because)).row
    if row.paused_at is not None:
        resumed = carry_out(office, tx, row, moment, _control("resume", because)).row
        _hasten(office, tx, row, moment, next_fire_at)
        return resumed
    at = next_fire_at or moment.at
    if row.state == State.FAILED or (row.state == State.COMPLETED and "z" in row.snapshot):

        def retried(run: Run) -> None:
            again(run, actor=because.actor, reason=because.reason, request_id=because.request_id)
            for step in run.entered.values():
                postpone(run, step, at)

        return change(office, tx, row, moment, retried).row
    # Of one that completed, and into which nothing was injected since, there is nothing left to do.
    _hasten(office, tx, row, moment, next_fire_at)
    because.note(tx, row.tenant_id, "instance.rescheduled", {"next_fire_at": at}, row.id)
    return row


def check(before: str, state: str) -> None:
    """Raises InvalidArgument unless an operator may set this state."""
    if state not in SETTABLE[before]:
        raise InvalidArgument(
            f"cannot transition from {before} to {state}",
            errors=[Problem("/state", f"not possible from {before}", _DERIVED.get(state, ""))],
        )


def replace_context(
    office: Office, tx: Tx, instance_id: UUID, context: Mapping[str, Any], because: Because, *,
    tenant_id: str | None,
) -> None:  # fmt: skip
    """The instance has this context, whatever its state; what orch8 itself noted under ``runtime``
    stays. Raises PayloadTooLarge.
    """
    found, moment = instances.lock_instances(tx, [instance_id])
    row = only(found, instance_id, tenant_id)
    given = {name: context[name] for name in CONTEXT_MEMBERS if name in context}
    size = len(orjson.dumps(given))
    if size > office.settings.max_context:
        raise PayloadTooLarge(
            f"context too large: {size} bytes, the limit is {office.settings.max_context}"
        )

    def replaced(run: Run) -> None:
        before = run.known.get(CONTEXT)
        kept = {"runtime": before["runtime"]} if "runtime" in before else {}
        made = {"data": {}, "config": {}, **given, **kept}
        run.set_context(made if run.row.dry_run else marked(made, dry_run=False))
        run.audit(
            "context.replaced",
            "success",
            actor=because.actor,
            reason=because.reason,
            request_id=because.request_id,
            body={"members": sorted(given)},
        )

    change(office, tx, row, moment, replaced)


def _hasten(office: Office, tx: Tx, row: InstanceRow, moment: Moment, at: datetime | None) -> None:
    """What was to be done later is done at that time, or else at once. A delay, window or schedule
    of the definition gives way to a time that is named, and to nothing else.
    """
    blocks = office.library.get(tx, row.sequence_id).sequence.index.values()
    timed = [block.id for block in blocks if isinstance(block, Step) and _is_timed(block)]
    bulk.set_due(tx, row.id, at or moment.at, but=() if at else timed)


def _is_timed(block: Step) -> bool:
    parts = (
        block.delay, block.schedule, block.not_before, block.align, block.send_window, block.spread,
    )  # fmt: skip
    return any(part is not None for part in parts)


def _control(control: str, because: Because) -> SignalRequest:
    return SignalRequest(
        control=control,
        actor=because.actor,
        reason=because.reason,
        request_id=because.request_id,
    )
