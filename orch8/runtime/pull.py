"""pull: workers that ask for steps over REST. The pump's claim and settle behind another door."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final
from uuid import UUID

from orch8.engine.lifecycle import StepState
from orch8.engine.outcome import Answer, Verdict
from orch8.engine.scope import StepRef
from orch8.errors import Conflict, CredentialUnusable, LeaseLost, NotFound, PayloadTooLarge
from orch8.handlers.classify import spoken
from orch8.runtime import budgets, cached
from orch8.runtime.claim import dispatched, turn_aside
from orch8.runtime.fencing import TxFences, stand_back
from orch8.runtime.office import Office
from orch8.runtime.placing import may_be_taken
from orch8.runtime.preparing import Limits, Task, prepare
from orch8.runtime.reveal import reveal, unusable
from orch8.runtime.routes import pull_lane
from orch8.runtime.run import Run
from orch8.runtime.settle import Item, settle, take_in, unsent
from orch8.runtime.signal import change
from orch8.storage import fleet, instances, pulls, steps
from orch8.storage.changes import Changes, write
from orch8.storage.rows import Evidence, StepRow
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
    extend; without a queue those of every queue of the handler.
    """
    fleet.seen_pull_worker(tx, tenant_id, worker_id, handler, queue, version)
    lane = pull_lane(tenant_id, handler, queue)
    rows = steps.take_pull(tx, lane, min(limit, MAX_TASKS), exact=queue is not None)
    if not rows:
        return []
    office.breakers.refresh(tx, now=True)
    found = instances.read_instances(tx, {row.instance_id for row in rows})
    moment = instances.now(tx)
    taken: list[PullTask] = []
    sent: list[Task] = []
    failed: list[Item] = []
    works = []
    turned: dict[UUID, list[StepRow]] = {}
    for instance_id in found:
        run = office.run(tx, found[instance_id], moment)
        own = [row for row in rows if row.instance_id == instance_id]
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
    changes = Changes(counted=budgets.counted(sent, moment.at))
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
    seq = int((row.progress or {}).get("seq", 0))
    if checkpoint is not None:
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
) -> None:
    """The step is done with this output, which may name its own ``outcome``."""
    row = _held(tx, step_id, tenant_id, worker_id, epoch, output)
    answered(
        office,
        tx,
        row,
        spoken(output, {"worker": worker_id, "sent": True}),
        actor=f"worker:{worker_id}",
    )


def fail(
    office: Office, tx: Tx, step_id: UUID, *, tenant_id: str | None, worker_id: str,
    epoch: int | None, message: str, retryable: bool = False, code: str | None = None,
    details: Any = None,
) -> None:  # fmt: skip
    """The step's worker says that it failed, and whether trying again may help."""
    row = _held(tx, step_id, tenant_id, worker_id, epoch)
    error = {"message": message, "code": code, "details": details}
    verdict = Verdict.FAILED_SAFE if retryable else Verdict.FAILED
    got = Answer(
        verdict,
        error={k: v for k, v in error.items() if v is not None},
        evidence={"worker": worker_id},
    )
    answered(office, tx, row, got, actor=f"worker:{worker_id}")


def answered(office: Office, tx: Tx, row: StepRow, got: Answer, *, actor: str = "engine") -> None:
    """The answer to a claimed step has taken effect."""
    found, moment = instances.lock_instances(tx, [row.instance_id])
    current = next(iter(steps.lock_steps(tx, [(row.instance_id, row.node_key)])), None)
    # A task of Celery may be done before its own dispatch is settled as pending: still its claim.
    if current is None or current.epoch != row.epoch or not _is_open(current):
        raise LeaseLost
    change(
        office,
        tx,
        found[row.instance_id],
        moment,
        lambda run: take_in(run, run.step(row.key), got, actor=actor),
        [current],
    )


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
) -> StepRow:
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
    raise _Stale(late)


def _by_celery(row: StepRow) -> bool:
    return row.handler.startswith("celery:")


def _is_open(row: StepRow) -> bool:
    """Whether a worker's word still counts: it runs, or is pending with the user's Celery."""
    return row.state == StepState.RUNNING or (_by_celery(row) and row.state == StepState.WAITING)


class _Stale(LeaseLost):
    """conflict: worker task lease changed"""

    def __init__(self, evidence: Evidence) -> None:
        super().__init__("worker task lease changed")
        self.evidence = evidence


def keep_stale(office: Office, problem: LeaseLost) -> None:
    """What a worker said under an old claim is kept as evidence."""
    if isinstance(problem, _Stale):
        with office.begin() as tx:
            write(tx, Changes(evidence=[problem.evidence]))
