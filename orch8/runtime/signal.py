"""signal: a message to an instance; controls and interrupts act at once, others are waited for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Final, Protocol
from uuid import UUID

import orjson

from orch8.blocks.approval import HUMAN_INPUT, UNANSWERED
from orch8.engine.events import CancelRequested
from orch8.engine.lifecycle import ENDED, InstanceState
from orch8.engine.scope import CONTEXT, StepRef
from orch8.errors import InvalidArgument, Unprocessable
from orch8.runtime import interceptors
from orch8.runtime.approving import answered
from orch8.runtime.errand import MAX_NAME, Errand
from orch8.runtime.hooks import concluded
from orch8.runtime.interrupt import interrupt
from orch8.runtime.office import Office, only
from orch8.runtime.run import Run
from orch8.runtime.words import heed
from orch8.storage import instances, signals, steps
from orch8.storage.changes import Changes, write
from orch8.storage.ids import uuid7
from orch8.storage.rows import InstanceRow, Moment, StepRow
from orch8.storage.transaction import Tx

HOLD: Final = "hold"  # as pause, but it shows as waiting: what an operator can do, and no signal


@dataclass(frozen=True, kw_only=True)
class SignalRequest:
    """``control`` is one of CONTROLS, or HOLD, or None for a custom signal, which has a ``name``.
    ``id`` is that of its row in the inbox, where there is one.
    """

    control: str | None = None
    name: str = ""
    payload: Any = None
    actor: str = "api"
    reason: str | None = None
    dedupe_key: str | None = None
    request_id: str | None = None
    id: UUID | None = None
    noted_as: str | None = None  # the audit log's word for it, if not the signal's own
    more: Mapping[str, Any] = field(default_factory=dict)  # goes into the audit log besides


class Timers(Protocol):
    """The due times of an instance's steps, wherever they are kept."""

    def hold_due(self, instance_id: UUID) -> object:
        """Nothing of the instance is claimed until its due times are released."""

    def release_due(self, instance_id: UUID) -> object:
        """The held due times hold again; those that passed meanwhile are due at once."""

    def waiting_for(self, instance_id: UUID, what: str) -> Iterable[str]:
        """The nodes of the instance that wait for something."""


@dataclass(frozen=True, slots=True)
class _TxTimers:
    tx: Tx

    def hold_due(self, instance_id: UUID) -> object:
        return steps.hold_due(self.tx, instance_id)

    def release_due(self, instance_id: UUID) -> object:
        return steps.release_due(self.tx, instance_id)

    def waiting_for(self, instance_id: UUID, what: str) -> Iterable[str]:
        return steps.waiting_for(self.tx, instance_id, what)


def signal(
    office: Office, tx: Tx, instance_id: UUID, request: SignalRequest, *, tenant_id: str | None
) -> UUID:
    """The signal is in the inbox and what it does at once is done; its id. A repeated dedupe_key
    gives the id of the earlier one and does nothing.
    """
    _check(request)
    found, moment = instances.lock_instances(tx, [instance_id])
    row = only(found, instance_id, tenant_id)
    if row.state in ENDED:
        raise InvalidArgument(
            f"cannot send signal to instance {instance_id}: "
            f"target is in a terminal state ({row.state})"
        )
    return deliver(office, tx, row, moment, request)


def deliver(
    office: Office, tx: Tx, row: InstanceRow, moment: Moment, request: SignalRequest
) -> UUID:
    """As signal, to an instance that is locked and has not ended."""
    _check(request)
    signal_id = uuid7()
    earlier = signals.insert_signal(
        tx,
        signal_id=signal_id,
        tenant_id=row.tenant_id,
        instance_id=row.id,
        name=request.control or request.name,
        payload=request.payload,
        actor=request.actor,
        dedupe_key=request.dedupe_key,
        received_at=moment.at,
        consumed_by=None if request.control is None else "engine",
    )
    if earlier is not None:
        return earlier
    carry_out(office, tx, row, moment, replace(request, id=signal_id))
    return signal_id


def carry_out(
    office: Office, tx: Tx, row: InstanceRow, moment: Moment, request: SignalRequest
) -> Run:
    """What a signal does at once has been done on a locked instance, which has not ended."""

    def act(run: Run) -> None:
        if request.id is not None and run.published.watched:
            interceptors.signalled(run, request.name, request.control, request.payload)
        ACTS[request.control](_TxTimers(tx), run, request)

    return change(office, tx, row, moment, act)


def change(
    office: Office,
    tx: Tx,
    row: InstanceRow,
    moment: Moment,
    work: Callable[[Run], None],
    known: Sequence[StepRow] = (),
) -> Run:
    """The work has been done on a locked instance and written."""
    run = office.run(tx, row, moment)
    for step in known:
        run.known.values[StepRef(step.key)] = step

    def whole(run: Run) -> None:
        work(run)
        run.collected = concluded(run)

    office.loader.carry_out(tx, [(run, whole)])
    write(tx, run.collected)
    return run


def cancel(office: Office, instance_id: UUID, *, actor: str, reason: str | None = None) -> None:
    """The instance is cancelling, unless it has ended."""
    with office.begin() as tx:
        found, moment = instances.lock_instances(tx, [instance_id])
        row = found.get(instance_id)
        if row is not None and row.state not in ENDED:
            request = SignalRequest(control="cancel", actor=actor, reason=reason)
            carry_out(office, tx, row, moment, request)


def run_errand(office: Office, errand: Errand) -> None:
    """The errand's target has the signal, unless it has ended or had it before; the step that asked
    for it is due.
    """
    with office.begin() as tx:
        found, moment = instances.lock_instances(tx, [errand.to])
        row = found.get(errand.to)
        if row is not None and row.state not in ENDED and row.tenant_id == errand.tenant_id:
            deliver(office, tx, row, moment, request_of(errand))
        if errand.asked_by is not None:
            write(tx, Changes(woken=[errand.asked_by]))


def request_of(errand: Errand) -> SignalRequest:
    """What the errand's target is told."""
    return SignalRequest(
        control=errand.control, name=errand.name, payload=errand.payload, actor=errand.actor,
        reason=errand.reason, dedupe_key=errand.dedupe_key,
    )  # fmt: skip


def _custom(timers: Timers, run: Run, request: SignalRequest) -> None:
    """What it tells of an attempt in doubt is heeded. Then an interrupt takes the signal, or else
    the step that it answers for or a wait for it looks; without any it stays in the inbox.
    """
    heed(run, request)
    if interrupt(run, request):
        return
    if request.name.startswith(HUMAN_INPUT):
        waiting = (timers.waiting_for(run.row.id, what) for what in sorted(UNANSWERED))
        answered(run, request.name, chain.from_iterable(waiting))
    for node_key in timers.waiting_for(run.row.id, f"signal:{request.name}"):
        run.changes.woken.append((run.row.id, node_key))
    _note(run, f"signal.{request.name}"[:200], request)


def _pause(timers: Timers, run: Run, request: SignalRequest) -> None:
    """Nothing begins until it is resumed; one that is held shows as paused from now on."""
    if run.row.paused_at is None:
        timers.hold_due(run.row.id)
    elif run.row.paused_as is None:
        return
    run.row = run.row.but(paused_at=run.row.paused_at or run.now, paused_as=None)
    _note(run, "instance.paused", request)


def _hold(timers: Timers, run: Run, request: SignalRequest) -> None:
    if run.row.paused_at is None:
        timers.hold_due(run.row.id)
        run.row = run.row.but(paused_at=run.now, paused_as=InstanceState.WAITING.value)
        _note(run, "instance.held", request)


def _resume(timers: Timers, run: Run, request: SignalRequest) -> None:
    if run.row.paused_at is not None:
        timers.release_due(run.row.id)
        action = "instance.resumed" if run.row.paused_as is None else "instance.released"
        run.row = run.row.but(paused_at=None, paused_as=None)
        _note(run, action, request)


def _cancel(timers: Timers, run: Run, request: SignalRequest) -> None:
    """What calls nobody ends; a call in flight is awaited, since it may have moved money."""
    if run.row.paused_at is not None:
        timers.release_due(run.row.id)
    run.row = run.row.but(cancelling=True, paused_at=None, paused_as=None)
    _note(run, "instance.cancelling", request)
    run.fire(CancelRequested())


def _update_context(timers: Timers, run: Run, request: SignalRequest) -> None:
    """The members of payload.data are merged into the context's data. What cannot be merged is
    discarded (CONTRACT 17.2), and the audit log says so.
    """
    del timers
    given = request.payload if isinstance(request.payload, dict) else {}
    data = given.get("data")
    if not isinstance(data, dict):
        fault = (
            "discarded: update_context merges the members of payload.data, which must be an object"
        )
        _note(run, "context.updated", request, fault=fault)
        return
    context = run.known.get(CONTEXT)
    before = context.get("data")
    merged = {**context, "data": {**(before if isinstance(before, dict) else {}), **data}}
    size, most = len(orjson.dumps(merged)), run.around.settings.max_context
    if size > most:
        fault = f"discarded: context too large: {size} bytes, the limit is {most}"
        _note(run, "context.updated", request, fault=fault)
        return
    run.set_context(merged)
    _note(run, "context.updated", request, body={"members": sorted(data)[:100]})


def _note(
    run: Run, action: str, request: SignalRequest, body: Any = None, *, fault: str | None = None
) -> None:
    run.audit(
        request.noted_as or action,
        "success" if fault is None else "failure",
        actor=request.actor,
        reason=fault or request.reason,
        body={**(body or {}), **request.more} or None,
        request_id=request.request_id,
    )


# What each control does to a run; pure but for the timers.
ACTS: Final[dict[str | None, Callable[[Timers, Run, SignalRequest], None]]] = {
    None: _custom,
    "pause": _pause,
    HOLD: _hold,
    "resume": _resume,
    "cancel": _cancel,
    "update_context": _update_context,
}


def _check(request: SignalRequest) -> None:
    if request.control is None and not 0 < len(request.name) <= MAX_NAME:
        raise Unprocessable(f"a custom signal needs a name of 1 to {MAX_NAME} characters")
