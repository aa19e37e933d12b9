"""settle: what came of claimed steps becomes their memo, the audit entry and the next state.

All of a batch is one transaction: the instances are locked in the order of their ids, every answer
takes effect, and the follow-up steps that are due now are claimed in the same commit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from itertools import islice
from uuid import UUID

from orch8.blocks.step import Effect
from orch8.engine.lifecycle import LIVE, StepState
from orch8.engine.outcome import CANCELLED, Answer, Verdict
from orch8.engine.scope import NeedsValues, Ref, StepRef
from orch8.limits import Limit
from orch8.runtime import breakers, budgets
from orch8.runtime.answering import answer, ask, lost, park
from orch8.runtime.claim import own_claim
from orch8.runtime.doubts import UNRESOLVED, doubt
from orch8.runtime.errand import Errand
from orch8.runtime.fencing import TxFences, pass_on, stand_back, unsend
from orch8.runtime.hooks import concluded
from orch8.runtime.horizon import still_known
from orch8.runtime.late import heard_late
from orch8.runtime.loading import for_all
from orch8.runtime.office import Office
from orch8.runtime.performing import expire, perform
from orch8.runtime.placing import may_go
from orch8.runtime.preparing import Limits, Task
from orch8.runtime.reconcile import heard
from orch8.runtime.routes import Kind
from orch8.runtime.ruling import Again, Ask, Park
from orch8.runtime.run import ENGINE, Claimer, Run
from orch8.runtime.showing import shown
from orch8.storage import fences, places, steps
from orch8.storage.changes import Changes, write
from orch8.storage.instances import instance_of
from orch8.storage.rows import InstanceRow, Moment, StepRow
from orch8.storage.transaction import Tx

# A claim is open while it runs, or waits for word on a call that was sent or is offered to pull
# workers.
_OPEN = frozenset({StepState.RUNNING, StepState.WAITING, StepState.SCHEDULED})
INLINE = 100  # built-ins carried out in one go for one instance; the rest is due at once
PATIENCE = 4  # times that values are loaded for them before fewer are carried out in one go


@dataclass(frozen=True, slots=True)
class Deferral:
    """A claim given back unsent: behind a rate limit's queue, or simply for somebody else."""

    after: float = 0.0
    limit: Limit | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """The process that held the claim is gone: whether the call was sent is not known."""

    worker: str


@dataclass(frozen=True, slots=True)
class Expired:
    """A pull worker's lease is over, or the time in which the step had to be completed."""


@dataclass(frozen=True, slots=True)
class TooLate:
    """It was to be sent again, but the provider may have forgotten its key since that was decided:
    the engine was down, or the instance paused.
    """


@dataclass(frozen=True, slots=True)
class Broken:
    """A person has to look at it: what came cannot be written (the log has the reason), or what
    would be sent again is not what was sent before.
    """

    reason: str = "cannot_settle"


@dataclass(frozen=True, slots=True)
class Stuck:
    """It was not sent, and no wait gets it sent: a person has to change something first. ``why``
    says what.
    """

    reason: str
    why: str


@dataclass(frozen=True, slots=True)
class Item:
    """One claimed step and what came of it; None: it calls nobody and is carried out now."""

    task: Task
    came: Answer | Deferral | Lost | Expired | TooLate | Broken | Stuck | None
    late: bool = False  # an answer under an old claim that resolves its attempt all the same


def unsent(task: Task) -> Item | None:
    """What comes of a claimed step that makes no call: it is carried out while it is settled, its
    call could not be made up, or must not be made. None if there is a call to make.
    """
    if task.park is not None:
        return Item(task, Broken(task.park))
    if task.too_late:
        return Item(task, TooLate())
    if task.answer is not None or task.request is None:
        return Item(task, task.answer)
    return None


@dataclass
class Settled:
    """What a settled batch leaves to do: calls of claimed follow-ups, signals to others."""

    tasks: list[Task] = field(default_factory=list)
    errands: list[Errand] = field(default_factory=list)
    settled: int = 0
    late: int = 0


def settle(office: Office, tx: Tx, items: Sequence[Item], claimer: Claimer | None) -> Settled:
    """Every item whose claim still holds has taken effect once the transaction commits; one whose
    claim is an old one is kept as evidence and changes nothing that is settled or sent again.
    """
    result = Settled()
    changes = Changes()
    rows, own, late = _sort(
        steps.lock_claims(tx, [(i.task.row.instance_id, i.task.row.node_key) for i in items]), items
    )
    _forget_heard(tx, own)
    for item in late:
        now = heard_late(tx, item.task.row, item.came, changes)
        if now is not None:
            task = replace(item.task, row=now)
            own[now.instance_id].append(replace(item, task=task, late=True))
    limits = office.limits(tx)
    each, rest = divmod(claimer.slots if claimer is not None else 0, max(len(own), 1))
    works = []
    for place, (instance_id, mine) in enumerate(own.items()):
        allowance = each + (place < rest)
        row, moment = rows[instance_id]
        run = office.run(tx, row, moment, claimer=claimer)
        for item in mine:
            run.known.values[StepRef(item.task.row.key)] = item.task.row
        works.append((run, partial(settle_run, items=mine, limits=limits, allowance=allowance)))
    office.loader.carry_out(tx, works)
    for run, _ in works:
        changes.extend(run.collected)
        result.tasks += run.tasks
        result.errands += run.errands
    places.leave(tx, changes.left)  # before any lock on fences
    changes.left = []
    if result.tasks:
        _follow(tx, [run for run, _ in works], changes, result)
        office.breakers.meet(tx, result.tasks)
    write(tx, changes)
    result.settled, result.late = len(items) - len(late), len(late)
    return result


def _follow(tx: Tx, runs: Sequence[Run], changes: Changes, result: Settled) -> None:
    """Follow-ups that find another step behind their fence are not sent, the others count against
    their budgets. What ended in this batch lets go of its fence first, so that an instance's next
    step can follow.
    """
    passed = pass_on(changes.let_go, result.tasks)
    fences.release(tx, changes.let_go)
    changes.let_go = []
    moment = runs[0].moment
    behind = stand_back(TxFences(tx), result.tasks, moment, passed)
    result.tasks = [task for task in result.tasks if task not in behind]
    changes.counted += budgets.counted(result.tasks, moment.at)
    if not behind:
        return
    waiting = {task.row.instance_id for task in behind}
    states = {run.row.id: shown(run)[0] for run in runs if run.row.id in waiting}
    changes.advanced = [
        row.but(state=states[row.id]) if row.id in states else row for row in changes.advanced
    ]


def _sort(
    locked: Sequence[object], items: Sequence[Item]
) -> tuple[dict[UUID, tuple[InstanceRow, Moment]], dict[UUID, list[Item]], list[Item]]:
    rows: dict[UUID, tuple[InstanceRow, Moment]] = {}
    own: dict[UUID, list[Item]] = defaultdict(list)
    late: list[Item] = []
    for row in locked:
        item = items[row.n]  # type: ignore[attr-defined]
        if row.snapshot is not None:  # type: ignore[attr-defined]
            rows[row.id] = instance_of(row), Moment(row.moment, row.rate)  # type: ignore[attr-defined]
        held = holds(item.task.row, row.step_epoch, row.step_state)  # type: ignore[attr-defined]
        (own[row.id] if held else late).append(item)  # type: ignore[attr-defined]
    return rows, own, late


def holds(claimed: StepRow, epoch: int, state: str) -> bool:
    """Whether the claim under which ``claimed`` was sent is still its row's, and open."""
    return (epoch, state) == (claimed.epoch, claimed.state) and state in _OPEN


def settle_run(run: Run, *, items: Sequence[Item], limits: Limits, allowance: int) -> None:
    """The items, whose claims hold, have taken effect on their run. Pure: up to ``allowance`` calls
    of follow-ups are in ``run.tasks``, and all that is to be written is in ``run.collected``.
    """
    for_all(run, items, partial(_take_effect, run))
    if run.claimer is not None and run.row.paused_at is None:
        _follow_up(run, run.claimer, limits, allowance)
    run.collected = concluded(run)


def _take_effect(run: Run, item: Item) -> None:
    row, came = run.step(item.task.row.key), item.came
    if row.state not in (LIVE if item.late else _OPEN):  # ended by what came before it
        return
    if came is None:
        perform(run, row)
    elif isinstance(came, Answer) and item.late:
        answer(run, row.key, came, by="late_answer")
    elif isinstance(came, Answer):
        take_in(run, row, came)
    elif isinstance(came, Deferral):
        _give_back(run, row, came)
    elif isinstance(came, Stuck):
        _stick(run, row, came)
    elif isinstance(came, Expired):
        expire(run, row)
    elif isinstance(came, Broken):
        park(run, row, came.reason, Verdict.UNKNOWN)
    elif isinstance(came, TooLate):
        unsend(row)
        _find_out(run, row, "key_too_old")
    else:
        _take_back(run, row, came)


def take_in(run: Run, row: StepRow, came: Answer, *, actor: str = ENGINE) -> None:
    """The answer to a step's call has taken effect: its own, or that of the handler which was asked
    what became of its attempt.
    """
    if row.asking is not None:
        heard(run, row, came)
    else:
        answer(run, row.key, came, actor=actor)


def _give_back(run: Run, row: StepRow, came: Deferral) -> None:
    """running -> scheduled: nothing was sent, no attempt is used up, the intent is withdrawn. A
    question stays one.
    """
    row.state = StepState.SCHEDULED
    if row.asking is None and _withdrawn(run, row):
        return
    run.schedule(row, run.now + timedelta(seconds=came.after * run.moment.rate))
    if came.limit is None:
        return
    row.deferrals += 1
    row.limit_key, row.queued_at = came.limit.key, row.queued_at or run.now
    free_at = run.now + timedelta(seconds=came.after * run.moment.rate)
    # "limit" is what earlier versions wrote there; they could not read what is written now.
    noted = {name: value for name, value in (row.progress or {}).items() if name != "limit"}
    told = {"deferred_under": came.limit.to_json(), "free_at": free_at.isoformat()}
    row.progress = {**noted, **told}
    if row.held_due_at is None:
        row.due_at = None  # the key's queue says when
    if row.deferrals == 1:
        run.audit("step.deferred", "deferred", row, reason=f"rate limit {came.limit.key}")


def _stick(run: Run, row: StepRow, came: Stuck) -> None:
    """running -> parked: as if it had not been claimed, until a person has it sent."""
    if row.asking is None and _withdrawn(run, row):
        return
    park(run, row, came.reason, row.outcome, came.why)


def _withdrawn(run: Run, row: StepRow) -> bool:
    """The intent of a call that was not made is withdrawn; whether the step has ended with it."""
    unsend(row)
    breakers.unsent(run, row)
    budgets.void(run, row)
    if not run.cancelling(row.key) or row.outcome in UNRESOLVED:
        return False
    run.end(row, CANCELLED)
    return True


def _take_back(run: Run, row: StepRow, came: Lost) -> None:
    """running -> scheduled after a lost claim. That is not counted as an attempt, since whether the
    last one was answered is not known: what may have had an effect is found out about.
    """
    if row.pull and run.route(row).kind is not Kind.CELERY:  # it was only to be offered
        row.state, row.claimed_by = StepState.SCHEDULED, None
        run.schedule(row, run.now)
        return
    row.crashes += 1
    row.claimed_by = None
    run.observe(row, "claim_lost", Verdict.UNKNOWN, {"worker": came.worker, "crashes": row.crashes})
    poison = run.around.settings.poison_crashes
    if run.cancelling(row.key) and Effect(row.effect).repeatable:
        run.end(row, CANCELLED)
    elif poison and row.crashes >= poison:
        park(run, row, "poison", Verdict.UNKNOWN)
    elif row.asking is not None:
        row.state = StepState.SCHEDULED
        run.schedule(row, run.now)
    elif Effect(row.effect).repeatable or not row.dispatches:
        _once_more(run, row, came)
    elif isinstance(lost(run, row), Again):
        doubt(run, row, "claim_lost")
        _once_more(run, row, came)
    else:
        _find_out(run, row, "claim_lost")


def _find_out(run: Run, row: StepRow, reason: str) -> None:
    """An attempt in doubt whose key is not to be sent again is asked about, or parked."""
    ruling = lost(run, row)
    row.outcome, row.claimed_by = Verdict.UNKNOWN.value, None
    if isinstance(ruling, Ask):
        ask(run, row, ruling.after, reason)
    else:
        assert isinstance(ruling, Park)
        known = still_known(run, row)
        park(run, row, ruling.reason if known else "key_too_old", Verdict.UNKNOWN)


def _once_more(run: Run, row: StepRow, came: Lost) -> None:
    row.state = StepState.SCHEDULED
    if row.dispatches:
        row.outcome = Verdict.UNKNOWN.value
    run.schedule(row, run.now)
    run.audit("step.claim_lost", "unknown", row, reason=f"worker {came.worker} is gone")


def _follow_up(run: Run, claimer: Claimer, limits: Limits, allowance: int) -> None:
    """Steps that were entered and are due now go on at once: built-ins here, calls as tasks."""
    done, most = 0, INLINE >> max(run.attempt - PATIENCE, 0)
    for row in run.arrivals:  # which grows meanwhile
        if done < most and _ready(run, row) and not run.route(row).kind.calls_out:
            done += 1
            row.epoch, row.state, row.due_at = row.epoch + 1, StepState.RUNNING, None
            perform(run, row)
    calls = (  # after the built-ins, one of which may have cancelled it
        row for row in run.arrivals if _ready(run, row) and run.route(row).kind.calls_out
    )
    wanted: set[Ref] = set()
    for row in islice(calls, allowance):
        try:
            if may_go(run, row):
                run.tasks.append(own_claim(run, row, claimer.worker_id, limits))
        except NeedsValues as need:  # so do the others, perhaps
            wanted |= need.refs
    if wanted:
        raise NeedsValues(wanted)


def _ready(run: Run, row: StepRow) -> bool:
    return (
        row.state == StepState.SCHEDULED
        and not row.pull
        and row.due_at is not None
        and row.due_at <= run.now
        and run.route(row).kind is not Kind.PULL
    )


def _forget_heard(tx: Tx, own: dict[UUID, list[Item]]) -> None:
    """Steps whose pull worker was heard from since it was found silent are left alone; the others
    are as they are now, under their lock.
    """
    expired = [i.task.row.id for mine in own.values() for i in mine if isinstance(i.came, Expired)]
    if not expired:
        return
    silent = {row.id: row for row in steps.silent_pulls(tx, len(expired), among=expired)}
    for instance_id, mine in own.items():
        own[instance_id] = [
            replace(item, task=replace(item.task, row=silent.get(item.task.row.id, item.task.row)))
            for item in mine
            if not isinstance(item.came, Expired) or item.task.row.id in silent
        ]
