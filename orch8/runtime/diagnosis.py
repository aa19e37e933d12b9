"""diagnosis: why an instance is where it is, from what is stored about it. Reads only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any, Final
from uuid import UUID

from orch8.blocks.approval import UNANSWERED
from orch8.engine.lifecycle import ENDED, LIVE, InstanceState, StepState
from orch8.engine.snapshot import Snapshot
from orch8.runtime import holdups
from orch8.runtime.approval_findings import unanswered
from orch8.runtime.attention import next_move
from orch8.runtime.doubts import in_doubt
from orch8.runtime.fencing import FENCE
from orch8.runtime.finding import (
    Action,
    Category,
    Confidence,
    Finding,
    Health,
    Remedy,
    Severity,
    Sign,
    in_order,
)
from orch8.runtime.office import only
from orch8.runtime.open_breakers import open_breakers
from orch8.runtime.pinned import below_pin
from orch8.runtime.preflight import ALIVE_SECONDS
from orch8.runtime.run import CHILD
from orch8.storage import fences, fleet, instances, signals, steps
from orch8.storage.places import PLACE
from orch8.storage.rows import InstanceRow, StepRow
from orch8.storage.transaction import Tx

MOST_STEPS: Final = 50  # live steps that are looked at
MOST_FRAMES: Final = 1000  # live blocks among which they are looked for
LAG: Final = timedelta(seconds=300)
SLOW_PICKUP: Final = timedelta(seconds=120)
UNREAD: Final = timedelta(seconds=60)
_SIGNAL: Final = "signal:"

Make = Callable[..., Finding]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found out about an instance, the closest and surest first."""

    instance: InstanceRow
    findings: tuple[Finding, ...]
    generated_at: datetime


@dataclass(frozen=True, slots=True)
class _Case:
    """The instance with its live steps, and what helps to judge them."""

    tx: Tx
    row: InstanceRow
    now: datetime

    def direct(self, code: str, summary: str, **more: Any) -> Finding:
        """Something that is surely so, and why nothing else happens."""
        return self._found(Category.DIRECT, code, summary, **more)

    def probable(self, code: str, summary: str, **more: Any) -> Finding:
        """What most probably holds the instance up."""
        return self._found(Category.PROBABLE, code, summary, **more)

    def warning(self, code: str, summary: str, **more: Any) -> Finding:
        """What is not as it should be, though it may not matter here."""
        given = {"health": Health.DEGRADED, "severity": Severity.WARNING, **more}
        return self._found(Category.WARNING, code, summary, **given)

    def _found(self, category: Category, code: str, summary: str, **more: Any) -> Finding:
        return Finding(category=category, code=code, summary=summary, observed_at=self.now, **more)


def diagnose(tx: Tx, instance_id: UUID, *, tenant_id: str | None) -> Diagnosis:
    """Why the instance is where it is. Raises NotFound."""
    row = only(instances.read_instances(tx, [instance_id]), instance_id, tenant_id)
    case = _Case(tx, row, instances.now(tx).at)
    found = [_ended(case)] if row.state in ENDED else list(_open(case))
    return Diagnosis(row, tuple(in_order(found)), case.now)


def _ended(case: _Case) -> Finding:
    row = case.row
    if row.state != InstanceState.FAILED:
        return case.direct("TERMINAL_STATE", f"the instance is {row.state}")
    why = (row.error or {}).get("message")
    retry = Remedy(
        "retry it where it failed; what completed is not called again",
        Action.RETRY, f"orch8 instance retry {row.id}", risky=True,
    )  # fmt: skip
    evidence = (Sign("error", str(why)[:500], observed_at=row.finished_at),) if why else ()
    return case.direct(
        "TERMINAL_STATE", "the instance is failed" + (f": {str(why)[:300]}" if why else ""),
        remedies=(retry,), evidence=evidence,
    )  # fmt: skip


def _open(case: _Case) -> Iterator[Finding]:
    found: list[Finding] = []
    frames = Snapshot.from_json(case.row.snapshot).frames
    wanted = [(case.row.id, key) for key in islice(frames, MOST_FRAMES)]
    rows = steps.read_steps(case.tx, wanted)
    live = [row for row in rows if row.state in LIVE and "@" not in row.block_id]
    paused = case.row.paused_at is not None
    if paused and case.row.paused_as is not None:
        found.append(_held(case))
    elif paused:
        resume = Remedy("resume it", Action.RESUME, f"orch8 signal {case.row.id} resume")
        since = Sign("paused_at", str(case.row.paused_at), observed_at=case.row.paused_at)
        found.append(
            case.direct(
                "PAUSED", "the instance is paused: nothing of it is sent until it is resumed",
                remedies=(resume,), evidence=(since,),
            )
        )  # fmt: skip
        found += holdups.over_budget(case.direct, case.row)
    for row in live[:MOST_STEPS]:
        found += _step(case, row, paused=paused)
    if len(live) > MOST_STEPS or len(frames) > MOST_FRAMES:
        text = f"{len(frames)} blocks are live, the first {MOST_STEPS} steps were looked at"
        found.append(case.warning("EVIDENCE_INCOMPLETE", text, confidence=Confidence.CERTAIN))
    found += _unread(case)
    found += open_breakers(case.tx, case.row.tenant_id, live, case.now)
    if not found:
        text = "nothing holds the instance up: its next transition is on its way"
        found.append(case.probable("NO_BLOCKER_FOUND", text, confidence=Confidence.LOW))
    yield from found


def _held(case: _Case) -> Finding:
    row = case.row
    tell = Remedy(
        "tell it what it waits for, then let it go on with the signal resume", Action.MANUAL,
        f"orch8 signal {row.id} custom:<name> '<payload>'",
    )  # fmt: skip
    since = Sign("held_at", str(row.paused_at), observed_at=row.paused_at)
    return case.probable(
        "WAITING_EXTERNAL_EVENT", "the instance was set to waiting: nothing of it is sent until it "
        "is set to scheduled, or resumed",
        confidence=Confidence.MEDIUM, remedies=(tell,), evidence=(since,),
    )  # fmt: skip


# -- one step ------------------------------------------------------------------------------------
def _step(case: _Case, row: StepRow, *, paused: bool) -> Iterator[Finding]:
    """What one live step waits for."""
    direct = partial(case.direct, affected=row.node_key)
    if row.crashes:
        yield case.warning(
            "WORKER_CRASHES",
            f"step {row.node_key!r}: {row.crashes} workers were lost with it; it is parked if that "
            "goes on",
            affected=row.node_key, confidence=Confidence.CERTAIN,
        )  # fmt: skip
    if row.state == StepState.PARKED:
        yield _parked(direct, row)
    elif in_doubt(row):
        does = next_move(row)["does"]
        yield direct(
            "IN_DOUBT", f"step {row.node_key!r}: it is not known whether the call had its effect; "
            f"the engine {does}",
            health=Health.DEGRADED, severity=Severity.WARNING, evidence=_attempt(row),
        )  # fmt: skip
    elif (awaited := _awaited(case, direct, row)) is not None:
        yield awaited
    elif row.waits_for and row.waits_for.startswith(_SIGNAL):
        yield _signal(case, row)
    elif row.pull and row.state == StepState.RUNNING:
        yield _taken(case, direct, row)
    elif row.pull and row.state == StepState.WAITING:
        yield _offered(case, direct, row)
    elif row.state == StepState.RUNNING:
        yield _running(case, direct, row)
    elif row.state == StepState.WAITING:
        yield direct(
            "WAITING_PROVIDER", f"step {row.node_key!r} waits for word about its call: a webhook, "
            "a signal, or the next question",
            evidence=_attempt(row),
        )  # fmt: skip
    elif not paused:
        yield _scheduled(case, direct, row)


def _awaited(case: _Case, direct: Make, row: StepRow) -> Finding | None:
    """What in this installation the step waits for, if anything."""
    if row.waits_for == FENCE:
        return _fenced(case, direct, row)
    if row.waits_for == PLACE and row.state == StepState.SCHEDULED:
        return holdups.in_line(direct, case.tx, row)
    if row.waits_for == CHILD and row.state == StepState.WAITING:
        return _child(case, direct, row)
    if row.waits_for in UNANSWERED and row.state == StepState.WAITING:
        return unanswered(case.tx, direct, row)
    return None


def _parked(direct: Make, row: StepRow) -> Finding:
    attention = row.attention or {}
    reason = attention.get("reason", "unknown")
    look = Remedy(
        "look at its evidence and decide", Action.MANUAL,
        f"orch8 attention show {row.instance_id} {row.node_key}",
    )  # fmt: skip
    return direct(
        "PARKED_IN_DOUBT" if row.dispatches else "PARKED",
        f"step {row.node_key!r} needs a person: {attention.get('why') or reason}",
        health=Health.DEGRADED, severity=Severity.ERROR, remedies=(look,), evidence=_attempt(row),
    )  # fmt: skip


def _fenced(case: _Case, direct: Make, row: StepRow) -> Finding:
    holder = fences.holder(case.tx, row.tenant_id, row.fence or "")
    by = "nobody any more" if holder is None else f"{holder.instance_id}/{holder.node_key}"
    return direct(
        "WAITING_FENCE", f"step {row.node_key!r} waits for the fence {row.fence!r}, held by {by}",
        evidence=(Sign("fence", str(row.fence), {"held_by": by}),),
    )  # fmt: skip


def _child(case: _Case, direct: Make, row: StepRow) -> Finding:
    child = UUID((row.progress or {})["child"])
    found = instances.read_instances(case.tx, [child]).get(child)
    state = "deleted" if found is None else found.state
    sign = (Sign("child", str(child), {"state": state}),)
    if found is not None and found.state not in ENDED:
        text = f"step {row.node_key!r} waits for the instance {child}, which is {state}"
        return direct("WAITING_CHILD", text, evidence=sign)
    return direct(
        "CHILDREN_DONE_PARENT_WAITING",
        f"step {row.node_key!r} waits for the instance {child}, which is {state}",
        health=Health.INCONSISTENT, severity=Severity.ERROR, evidence=sign,
        confidence=Confidence.HIGH,
    )  # fmt: skip


def _signal(case: _Case, row: StepRow) -> Finding:
    name = str(row.waits_for).removeprefix(_SIGNAL)
    send = Remedy(
        "send it, if what it tells has happened", Action.MANUAL,
        f"orch8 signal {row.instance_id} custom:{name}",
    )  # fmt: skip
    return case.probable(
        "WAITING_EXTERNAL_EVENT", f"step {row.node_key!r} waits for the signal {name!r}",
        confidence=Confidence.MEDIUM, affected=row.node_key, remedies=(send,),
        evidence=_until(row),
    )  # fmt: skip


def _taken(case: _Case, direct: Make, row: StepRow) -> Finding:
    beat = Sign("lease_until", str(row.lease_until), {"worker_id": row.worker})
    if _alive(case, row):
        text = f"step {row.node_key!r} is with the worker {row.worker!r}, which answers when done"
        return direct("WORKER_TASK_PENDING", text, evidence=(beat,))
    return direct(
        "STALE_WORKER_CLAIM",
        f"the worker {row.worker!r} has step {row.node_key!r} and has not been heard of lately; "
        "it is taken back when its lease ends",
        health=Health.DEGRADED, severity=Severity.WARNING, confidence=Confidence.HIGH,
        evidence=(beat,),
    )  # fmt: skip


def _alive(case: _Case, row: StepRow) -> bool:
    seen = fleet.live_pull_workers(case.tx, row.tenant_id, ALIVE_SECONDS)
    return any(worker.worker_id == row.worker for worker in seen)


def _offered(case: _Case, direct: Make, row: StepRow) -> Finding:
    handler = row.asking or row.handler
    seen = fleet.live_pull_workers(case.tx, row.tenant_id, ALIVE_SECONDS)
    able = [worker for worker in seen if handler in worker.handlers]
    workers = [worker.worker_id for worker in able]
    if not workers:
        start = Remedy(f"start a worker that polls for {handler!r}, or give it an address")
        return direct(
            "NO_COMPATIBLE_WORKER",
            f"step {row.node_key!r} waits, and no live worker polls for handler {handler!r}",
            health=Health.DEGRADED, severity=Severity.ERROR, confidence=Confidence.HIGH,
            remedies=(start,), evidence=_until(row),
        )  # fmt: skip
    pinned = below_pin(case.tx, row, able)
    if pinned is not None:
        return direct(**pinned)
    waits = case.now - (row.due_at or row.created_at)
    sign = (Sign("workers", ", ".join(workers[:10])),)
    if waits > SLOW_PICKUP:
        return direct(
            "WORKER_NOT_CLAIMING",
            f"step {row.node_key!r} has waited {waits.total_seconds():.0f} s for a worker, though "
            f"{len(workers)} poll for handler {handler!r}",
            health=Health.DEGRADED, severity=Severity.WARNING, confidence=Confidence.HIGH,
            evidence=sign,
        )  # fmt: skip
    text = f"step {row.node_key!r} waits for a worker to take it"
    return direct("WAITING_WORKER_PICKUP", text, confidence=Confidence.HIGH, evidence=sign)


def _running(case: _Case, direct: Make, row: StepRow) -> Finding:
    workers = {worker.id: worker for worker in fleet.fleet(case.tx)}
    worker = workers.get(row.claimed_by)
    if worker is not None and worker.alive:
        text = f"step {row.node_key!r} is being called by {worker.node}"
        return direct("CALL_IN_FLIGHT", text, evidence=_attempt(row))
    return direct(
        "STALE_RUNNING_STATE",
        f"the process that called step {row.node_key!r} is gone; its claim is taken back within "
        "seconds",
        health=Health.DEGRADED, severity=Severity.WARNING, confidence=Confidence.HIGH,
        evidence=_attempt(row),
    )  # fmt: skip


def _scheduled(case: _Case, direct: Make, row: StepRow) -> Finding:
    if row.limit_key is not None and row.due_at is None:
        return direct(
            "RATE_LIMITED", f"step {row.node_key!r} stands in the queue of {row.limit_key!r}",
            evidence=(Sign("queued_at", str(row.queued_at), observed_at=row.queued_at),),
        )  # fmt: skip
    due = row.due_at or row.held_due_at or case.now
    if due > case.now:
        last = (Sign("error", str((row.error or {}).get("message"))[:500]),) if row.error else ()
        why = f", after {row.failures} answers that failed" if row.failures else ""
        text = f"step {row.node_key!r} is due at {_text(due)}{why}"
        sign = Sign("next_fire_at", _text(due))
        return direct("WAITING_UNTIL", text, evidence=(sign, *last))
    waits = case.now - due
    if not any(worker.alive for worker in fleet.fleet(case.tx)):
        start = Remedy("start a worker process")
        return direct(
            "NO_WORKER_PROCESS", f"step {row.node_key!r} is due, and no worker process is alive",
            health=Health.DEGRADED, severity=Severity.CRITICAL, remedies=(start,),
            confidence=Confidence.HIGH,
        )  # fmt: skip
    lags = waits > LAG
    return direct(
        "SCHEDULER_LAG" if lags else "DUE",
        f"step {row.node_key!r} has been due for {waits.total_seconds():.0f} s in the lane "
        f"{row.lane!r}",
        health=Health.DEGRADED if lags else Health.EXPECTED,
        severity=Severity.WARNING if lags else Severity.INFO, confidence=Confidence.HIGH,
    )  # fmt: skip


def _unread(case: _Case) -> Iterator[Finding]:
    old = [
        s for s in signals.open_signals(case.tx, case.row.id) if case.now - s.received_at > UNREAD
    ]
    if old:
        names = ", ".join(sorted({signal.name for signal in old})[:10])
        yield case.warning(
            "SIGNALS_NOT_CONSUMED", f"{len(old)} signals wait in the inbox: {names}",
            confidence=Confidence.LOW,
        )  # fmt: skip


def _attempt(row: StepRow) -> tuple[Sign, ...]:
    if not row.dispatches:
        return ()
    said = f"{row.dispatches} dispatches, {row.failures} answers that failed"
    data = {"idempotency_key": row.idempotency_key, "outcome": row.outcome}
    return (Sign("attempt", said, data, row.last_dispatched_at),)


def _until(row: StepRow) -> tuple[Sign, ...]:
    return () if row.expires_at is None else (Sign("expires_at", _text(row.expires_at)),)


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
