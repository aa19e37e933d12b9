"""pull: workers that ask for steps over REST. The pump's claim and settle behind another door."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final
from uuid import UUID

from orch8.engine.lifecycle import ENDED, StepState
from orch8.engine.outcome import Answer, Verdict
from orch8.engine.scope import StepRef
from orch8.errors import (
    Conflict,
    CredentialUnusable,
    InvalidArgument,
    LeaseLost,
    NotFound,
    PayloadTooLarge,
)
from orch8.handlers.classify import spoken
from orch8.runtime import budgets, cached, pins, places
from orch8.runtime.claim import dispatched, turn_aside
from orch8.runtime.fencing import TxFences, stand_back
from orch8.runtime.offering import event_of, note
from orch8.runtime.office import Office
from orch8.runtime.placing import may_be_taken
from orch8.runtime.preparing import Limits, Task, prepare
from orch8.runtime.reveal import reveal, unusable
from orch8.runtime.routes import pull_lane
from orch8.runtime.run import Run
from orch8.runtime.settle import Item, settle, take_in, unsent
from orch8.runtime.signal import change
from orch8.runtime.tasklogs import keep_lines
from orch8.storage import fleet, instances, pulls, steps, task_events
from orch8.storage.changes import Changes, write
from orch8.storage.rows import Evidence, StepRow
from orch8.storage.task_events import TaskEvent
from orch8.storage.transaction import Tx

MAX_TASKS: Final = 1000
MAX_CHECKPOINT: Final = 256 * 1024


@dataclass(frozen=True)
class PullTask:
    """A claimed step as its worker gets it."""

    row: StepRow
    params: Any
    context: Any
    outputs: Any
    timeout_ms: int | None


def poll(
    office: Office, tx: Tx, *, tenant_id: str, handler: str, worker_id: str, limit: int = 1,
    queue: str | None = None, version: str | None = None,
) -> list[PullTask]:  # fmt: skip
    """Up to ``limit`` waiting steps of a handler are this worker's, under a lease that heartbeats
    extend; without a queue those of every queue of the handler. None for a worker whose version is
    below the one that is pinned.
    """
    fleet.seen_pull_worker(tx, tenant_id, worker_id, handler, queue, version)
    if not pins.admits(tx, tenant_id, handler, version):
        return []
    lane = pull_lane(tenant_id, handler, queue)
    rows = steps.take_pull(tx, lane, min(limit, MAX_TASKS), exact=queue is not None)
    if not rows:
        return []
    office.breakers.refresh(tx, now=True)
    found, moment = instances.read_now(tx, {row.instance_id for row in rows})
    waiting = places.stand_back(tx, found, rows)
    steps.mark_claimed(tx, waiting)
    taken: list[PullTask] = []
    sent: list[Task] = []
    failed: list[Item] = []
    works = []
    turned: dict[UUID, list[StepRow]] = {}
    for instance_id in dict.fromkeys(row.instance_id for row in rows):  # the longest due first
        run = office.run(tx, found[instance_id], moment)
        own = [row for row in rows if row.instance_id == instance_id and row not in waiting]
        for row in own:
            run.known.values[StepRef(row.key)] = row
        works.append((run, partial(_offered, own=own, worker_id=worker_id, turned=turned)))
    office.loader.carry_out(tx, works)
    behind = stand_back(TxFences(tx), [task for run, _ in works for task in run.tasks], moment)
    steps.mark_claimed(tx, [task.row for task in behind])
    for run, _ in works:
        run.tasks = [task for task in run.tasks if task not in behind]
        for task in run.tasks:
            params = _revealed(tx, task)
            item = unsent(task)
            if item is not None:
                failed.append(item)
            else:
                sent.append(task)
                taken.append(_pull_task(run, task, params))
    events = [event_of(task.row, task_events.CLAIMED) for task in sent]
    changes = Changes(counted=budgets.counted(sent, moment.at), noted=events)
    turn_aside(changes, turned, (run for run, _ in works))
    write(tx, changes)
    office.breakers.meet(tx, sent)
    claimed = [task.row for run, _ in works for task in run.tasks]
    lease = office.settings.worker_reaper_stale
    pulls.mark_pulled(tx, claimed, lease)
    if failed:  # their parameters cannot be rendered: they never reach a worker
        settle(office, tx, failed, None)
    return taken


def heartbeat(
    office: Office, tx: Tx, step_id: UUID, *, tenant_id: str | None, worker_id: str,
    epoch: int | None, checkpoint: Any = None, checkpoint_seq: int | None = None,
) -> int:  # fmt: skip
    """The lease is extended; with a checkpoint it is kept for whoever takes the step over, and its
    number counts up. Raises LeaseLost when the claim is another's.
    """
    row = _held(tx, step_id, tenant_id, worker_id, epoch)
    if row is None:
        raise LeaseLost
    seq = int((row.progress or {}).get("seq", 0))
    if checkpoint is not None:
        if checkpoint_seq is None:
            raise InvalidArgument("checkpoint_seq is missing: send the number of the stored one")
        if checkpoint_seq != seq:
            raise Conflict(f"checkpoint_seq is {checkpoint_seq}, the stored one is {seq}")
        if pulls.size(checkpoint) > MAX_CHECKPOINT:
            raise PayloadTooLarge(f"a checkpoint has at most {MAX_CHECKPOINT} bytes")
        seq += 1
    held = pulls.extend_pull(
        tx, row, office.settings.worker_reaper_stale,
        {"seq": seq, "checkpoint": checkpoint} if checkpoint is not None else None,
    )  # fmt: skip
    if not held:
        raise LeaseLost
    return seq


def complete(
    office: Office,
    tx: Tx,
    step_id: UUID,
    *,
    tenant_id: str | None,
    worker_id: str,
    epoch: int | None,
    output: Any,
    logs: Sequence[Any] = (),
) -> None:
    """The step is done with this output, which may name its own ``outcome``."""
    row = _held(tx, step_id, tenant_id, worker_id, epoch, output)
    if row is not None:
        got = spoken(output, {"worker": worker_id, "sent": True})
        _report(office, tx, row, got, worker_id, task_events.COMPLETED)
        keep_lines(tx, row, logs)


def fail(
    office: Office, tx: Tx, step_id: UUID, *, tenant_id: str | None, worker_id: str,
    epoch: int | None, message: str, retryable: bool = False, code: str | None = None,
    details: Any = None, logs: Sequence[Any] = (),
) -> None:  # fmt: skip
    """The step's worker says that it failed, and whether trying again may help."""
    row = _held(tx, step_id, tenant_id, worker_id, epoch, {"failed": message})
    if row is None:
        return
    error = {"message": message, "code": code, "details": details}
    verdict = Verdict.FAILED_SAFE if retryable else Verdict.FAILED
    got = Answer(
        verdict,
        error={k: v for k, v in error.items() if v is not None},
        evidence={"worker": worker_id},
    )
    _report(office, tx, row, got, worker_id, task_events.FAILED)
    keep_lines(tx, row, logs)


def _report(office: Office, tx: Tx, row: StepRow, got: Answer, worker_id: str, event: str) -> None:
    """The word of the worker that holds the step has taken effect."""
    found, moment = instances.lock_instances(tx, [row.instance_id])
    current = next(iter(steps.lock_steps(tx, [(row.instance_id, row.node_key)])), None)
    # A task of Celery may be done before its own dispatch is settled as pending: still its claim.
    if current is None or current.epoch != row.epoch or not _is_open(current):
        raise LeaseLost
    said = None if got.error is None else str(got.error.get("message"))

    def work(run: Run) -> None:
        step = run.step(row.key)
        note(run, step, event, said)
        take_in(run, step, got, actor=f"worker:{worker_id}")

    change(office, tx, found[row.instance_id], moment, work, [current])


def _offered(
    run: Run, *, own: list[StepRow], worker_id: str, turned: dict[UUID, list[StepRow]]
) -> None:
    turned.pop(run.row.id, None)
    for waiting in own:
        row = run.step(waiting.key)
        if not may_be_taken(run, row):
            turned.setdefault(run.row.id, []).append(row)
            continue
        row.epoch, row.state, row.worker, row.due_at = (
            row.epoch + 1,
            StepState.RUNNING,
            worker_id,
            None,
        )
        known = cached.recalled(run, row)
        if known is not None:
            run.tasks.append(Task(row, run.route(row), answer=known))
            continue
        if row.asking is None:
            dispatched(run, row)
        run.tasks.append(prepare_pull(run, row))


def prepare_pull(run: Run, row: StepRow) -> Task:
    """The call of a pull step, whatever way its handler would be reached now."""
    return prepare(run, row, Limits(), calls=True)


def _revealed(tx: Tx, task: Task) -> Any:
    """The parameters with the secrets that they refer to; without these the task has its answer."""
    if task.request is None or not task.references:
        return task.request and task.request.params
    try:
        return reveal(tx, task).params
    except CredentialUnusable as problem:
        task.answer = unusable(task, problem)
        return None


def _pull_task(run: Run, task: Task, params: Any) -> PullTask:
    request = task.request
    assert request is not None
    block = run.block(task.row)
    timeout = getattr(block, "timeout", None)
    return PullTask(
        replace(task.row),
        params,
        request.context,
        request.outputs,
        round(timeout * 1000) if timeout else None,
    )


def _held(
    tx: Tx,
    step_id: UUID,
    tenant_id: str | None,
    worker_id: str,
    epoch: int | None,
    output: Any = None,
) -> StepRow | None:
    """The row of the step that the worker holds. None if its instance was cancelled meanwhile: what
    the worker says is kept as evidence. Raises LeaseLost for a claim that is another's by now.
    """
    row = steps.step_by_id(tx, step_id)
    if row is None or (tenant_id is not None and row.tenant_id != tenant_id):
        raise NotFound(f"task {step_id}")
    mine = _by_celery(row) or row.worker == worker_id
    current = row.epoch if epoch is None else epoch
    if _is_open(row) and mine and current == row.epoch:
        return row
    body = {"worker": worker_id, "epoch": epoch, "output": output}
    late = Evidence(
        row.tenant_id, row.instance_id, row.node_key, epoch or 0, "stale_worker", None, body
    )
    if row.worker == worker_id and epoch in (None, row.epoch - 1) and _over(tx, row):
        write(tx, Changes(evidence=[replace(late, kind="late_worker")]))
        return None
    event = replace(
        event_of(row, task_events.STALE), worker_id=worker_id,
        claim_epoch=row.epoch if epoch is None else epoch,
    )  # fmt: skip
    raise _Stale(late, event)


def _over(tx: Tx, row: StepRow) -> bool:
    """Whether the step was cancelled under its worker, and its instance has ended."""
    if row.state != StepState.CANCELLED:
        return False
    found = instances.read_instances(tx, [row.instance_id]).get(row.instance_id)
    return found is not None and found.state in ENDED


def _by_celery(row: StepRow) -> bool:
    return row.handler.startswith("celery:")


def _is_open(row: StepRow) -> bool:
    """Whether a worker's word still counts: it runs, or is pending with the user's Celery."""
    return row.state == StepState.RUNNING or (_by_celery(row) and row.state == StepState.WAITING)


class _Stale(LeaseLost):
    """conflict: worker task lease changed"""

    def __init__(self, evidence: Evidence, event: TaskEvent) -> None:
        super().__init__("worker task lease changed")
        self.evidence, self.event = evidence, event


def keep_stale(office: Office, problem: LeaseLost, *, said: bool = True) -> None:
    """That a worker spoke under an old claim is noted, and what it ``said`` of the step's end is
    kept as evidence.
    """
    if isinstance(problem, _Stale):
        with office.begin() as tx:
            task_events.note_stale(tx, problem.event)
            write(tx, Changes(evidence=[problem.evidence] if said else []))
