"""claim: scheduled -> running. Due steps become a worker process's, with their intent on disk."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from uuid import UUID

import structlog

from orch8.engine.lifecycle import StepState
from orch8.engine.scope import StepRef
from orch8.errors import Unavailable
from orch8.runtime import budgets, cached, fencing, places
from orch8.runtime.doubts import in_doubt
from orch8.runtime.loading import for_all
from orch8.runtime.office import Office
from orch8.runtime.placing import may_go
from orch8.runtime.preparing import Limits, Task, prepare
from orch8.runtime.routes import Kind
from orch8.runtime.run import ENGINE, Run
from orch8.storage import instances, steps
from orch8.storage.changes import Changes, write
from orch8.storage.rows import AuditEntry, StepRow
from orch8.storage.transaction import DatabaseProblem, Tx

log = structlog.get_logger(__name__)

Take = Callable[[Tx, str, int], list[StepRow]]  # locks up to so many due rows of a lane


class CannotClaim(Exception):
    """A due step cannot even be looked at, its version being unreadable for instance."""

    def __init__(self, row: StepRow) -> None:
        super().__init__(str(row.id))
        self.row = row


def claim_now(
    office: Office, lane: str, worker_id: UUID, slots: int, take: Take
) -> tuple[list[Task], bool]:
    """As claim, in a transaction of its own; and whether that broke, so that each step was claimed
    on its own. Raises Unavailable.
    """
    try:
        with office.begin() as tx:
            return claim(office, tx, lane, worker_id, slots, take), False
    except Unavailable:
        raise
    except Exception:
        log.exception("claim.broke", lane=lane)
        return claim_each(office, lane, worker_id, slots), True


def claim_each(office: Office, lane: str, worker_id: UUID, slots: int) -> list[Task]:
    """As claim, each step in a transaction of its own; those that cannot be claimed are parked, so
    that they do not hold up their lane.
    """
    taken: list[Task] = []
    try:
        for _ in range(slots):
            try:
                with office.begin() as tx:
                    tasks = claim(office, tx, lane, worker_id, 1)
            except CannotClaim as problem:
                _set_aside(office, problem)
                continue
            if not tasks:
                break
            taken += tasks
    except Unavailable as problem:
        log.warning("claim.failed", lane=lane, error=problem.detail)
    return taken


def _set_aside(office: Office, problem: CannotClaim) -> None:
    row = problem.row
    log.error("claim.impossible", step_id=str(row.id), exc_info=problem.__cause__)
    with office.begin() as tx:
        why = {"reason": "cannot_claim", "since": instances.now(tx).at.isoformat()}
        if steps.set_aside(tx, row, why):
            entry = AuditEntry(
                row.tenant_id, ENGINE, "step.parked", "unknown", row.instance_id, row.node_key,
                reason=f"cannot_claim: {problem.__cause__}"[:500],
            )  # fmt: skip
            write(tx, Changes(audit=[entry]))


def claim(
    office: Office, tx: Tx, lane: str, worker_id: UUID, slots: int, take: Take = steps.take_due
) -> list[Task]:
    """Up to ``slots`` due steps of a lane, those that ``take`` chooses, are this process's once the
    transaction commits. Each has its epoch, key and fingerprint written before anything is sent.
    """
    rows = take(tx, lane, slots)
    try:
        return _taken(office, tx, rows, worker_id) if rows else []
    except (DatabaseProblem, Unavailable):
        raise
    except Exception as problem:
        if len(rows) == 1:
            raise CannotClaim(rows[0]) from problem
        raise


def _taken(office: Office, tx: Tx, rows: Sequence[StepRow], worker_id: UUID) -> list[Task]:
    found, moment = instances.read_now(tx, {row.instance_id for row in rows})
    waiting = places.stand_back(tx, found, rows)
    by_instance: dict[UUID, list[StepRow]] = defaultdict(list)
    for row in rows:
        if row not in waiting:
            by_instance[row.instance_id].append(row)
    limits = office.limits(tx)
    tasks: dict[UUID, list[Task]] = {}
    turned: dict[UUID, list[StepRow]] = {}
    works = []
    for instance_id, own in by_instance.items():
        run = office.run(tx, found[instance_id], moment)
        for row in own:
            run.known.values[StepRef(row.key)] = row
        works.append(
            (
                run,
                partial(
                    _take, own=own, worker_id=worker_id, limits=limits, tasks=tasks, turned=turned
                ),
            )
        )
    office.loader.carry_out(tx, works)
    taken = [task for own in tasks.values() for task in own]
    behind = fencing.stand_back(fencing.TxFences(tx), taken, moment)
    steps.mark_claimed(tx, [*waiting, *(task.row for task in taken)])
    sent = [task for task in taken if task not in behind]
    changes = Changes(counted=budgets.counted(sent, moment.at))
    turn_aside(changes, turned, (run for run, _ in works))
    write(tx, changes)
    office.breakers.meet(tx, sent)
    return sent


def turn_aside(
    changes: Changes, turned: Mapping[UUID, Sequence[StepRow]], runs: Iterable[Run]
) -> None:
    """Steps that were put off, or have another handler now, will be written as they are."""
    if turned:
        changes.rewritten += [row for own in turned.values() for row in own]
        changes.audit += [entry for run in runs for entry in run.changes.audit]


def _take(
    run: Run,
    *,
    own: Sequence[StepRow],
    worker_id: UUID,
    limits: Limits,
    tasks: dict[UUID, list[Task]],
    turned: dict[UUID, list[StepRow]],
) -> None:
    mine = tasks[run.row.id] = []
    turned.pop(run.row.id, None)

    def take(due: StepRow) -> None:
        row = run.step(due.key)
        goes = may_go(run, row)
        if goes:
            mine.append(own_claim(run, row, worker_id, limits))
        if not goes or row.handler != due.handler:
            turned.setdefault(run.row.id, []).append(row)

    for_all(run, own, take)


def own_claim(run: Run, row: StepRow, worker_id: UUID, limits: Limits) -> Task:
    """The row, a working copy of the run, is marked as this process's; its task.

    A step that calls nobody, or whose time is up, is claimed without an intent: there is none.
    """
    row.epoch += 1
    row.claimed_by = worker_id
    row.state = StepState.RUNNING
    late = row.deadline_at is not None and run.now >= row.deadline_at
    overdue = late and not in_doubt(row)  # a deadline never turns a doubt into a failure
    row.due_at = row.limit_key = None  # its place in the queue, queued_at, stays its own
    route = run.route(row)
    if not route.kind.calls_out or overdue:
        return Task(row, route)
    known = cached.recalled(run, row)
    if known is not None:
        return Task(row, route, answer=known)
    if row.pull and route.kind is not Kind.CELERY:  # it has an address since it was a task
        row.pull, row.expires_at = False, None
    if row.asking is None:
        dispatched(run, row)
    return prepare(run, row, limits)


def dispatched(run: Run, row: StepRow) -> None:
    """The row tells of one more send of its attempt."""
    row.dispatches += 1
    row.context_version = run.row.context_version
    row.last_dispatched_at = run.now
    if row.first_dispatched_at is None:
        row.first_dispatched_at = run.now
