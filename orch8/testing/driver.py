"""Drives runs through virtual time: claims what is due, makes the scripted calls, settles answers.

It stands where the pump and the tick stand in production; what a step does, and what follows from
its answer, is decided by the same functions.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import count
from typing import Any, Final
from uuid import UUID

import orjson

from orch8.config import Settings
from orch8.engine.lifecycle import ENDED, StepState
from orch8.engine.outcome import Answer, Verdict
from orch8.engine.scope import StepRef
from orch8.handlers.request import StepRequest
from orch8.runtime.budgets import counted
from orch8.runtime.claim import own_claim
from orch8.runtime.doubts import contradiction, told
from orch8.runtime.errand import Errand
from orch8.runtime.fencing import pass_on, stand_back
from orch8.runtime.hooks import concluded
from orch8.runtime.keys import KeyMaker
from orch8.runtime.late import late_evidence, resolves
from orch8.runtime.loading import carry_out
from orch8.runtime.preparing import Limits, Task
from orch8.runtime.routes import Kind, Routes
from orch8.runtime.run import Claimer, Run
from orch8.runtime.settle import (
    Expired,
    Item,
    holds,
    settle_run,
    unsent,
)
from orch8.runtime.signal import ACTS, SignalRequest, request_of
from orch8.runtime.surroundings import Surroundings
from orch8.storage.changes import Changes
from orch8.storage.rows import InstanceRow, StepRow
from orch8.testing.clock import Chance, VirtualClock
from orch8.testing.scripts import Scripts
from orch8.testing.store import Signal, Store

NO_LIMITS: Final = Limits()
WIDTH: Final = 32  # calls that one settled answer may lead to at once
_AWAITED: Final = frozenset({StepState.RUNNING, StepState.WAITING})


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a handler: what it was asked, under which key, and when.

    ``step`` is the node key (``submit[2]`` in a loop), ``generation`` counts the attempts of the
    step, ``dispatch`` the sends of this attempt.
    """

    handler: str
    step: str
    params: Any
    key: str
    generation: int
    dispatch: int
    at: datetime
    instance_id: UUID


@dataclass(frozen=True, slots=True)
class _Arrival:
    """What came of a claim, on its way. ``word``: a Celery task's own, after it was handed over."""

    item: Item
    word: bool = False


class Driver:
    """The one worker of a simulation."""

    def __init__(
        self, settings: Settings, clock: VirtualClock, store: Store, scripts: Scripts, seed: int
    ) -> None:
        self.clock, self.store, self.chance = clock, store, Chance(clock, seed)
        self.around = Surroundings(
            settings, KeyMaker(settings.key_secret), Routes(settings).find, self.chance.entropy,
            self.chance.new_id,
        )  # fmt: skip
        self.calls: list[Call] = []
        self._scripts = scripts
        self._claimer = Claimer(self.chance.new_id(), WIDTH)
        self._flying: list[tuple[datetime, int, _Arrival]] = []
        self._order = count()

    def run(self, row: InstanceRow, *, claimer: Claimer | None = None) -> Run:
        """The run of an instance, nothing done to it yet."""
        published = self.store.sequences[row.sequence_id]
        return Run(self.around, row, published, self.clock.moment, claimer=claimer)

    def change(self, instance_id: UUID, work: Callable[[Run], None]) -> None:
        """The work has been done on an instance and written."""
        run = self.run(self.store.instances[instance_id])

        def whole(run: Run) -> None:
            work(run)
            run.collected = concluded(run)

        carry_out([(run, whole)], self.store.load)
        self._done(run)

    def control(self, instance_id: UUID, request: SignalRequest) -> None:
        """What the signal does at once is done."""
        act = ACTS[request.control]
        self.change(instance_id, lambda run: act(self.store, run, request))

    def create(self, run: Run, work: Callable[[Run], None]) -> None:
        """The instance of a new run exists."""
        carry_out([(run, work)], self.store.load)
        self._done(run)

    def next_at(self, instance_id: UUID | None = None) -> datetime | None:
        """When the next thing happens, of itself, to an instance or to any."""
        if instance_id is not None:
            return self._next_of(instance_id)
        step = self.store.next_step()
        moments = [step[0]] if step is not None else []
        moments += [at for at, _, _ in self._flying[:1]]
        return max(min(moments), self.clock.now) if moments else None

    def advance(self) -> bool:
        """The next thing has happened, at its moment; False when nothing is to come. Of things of
        the same moment answers come first, then what is due, each in the order in which it arose.
        """
        at = self.next_at()
        if at is None:
            return False
        self.clock.move(at)
        if self._flying and self._flying[0][0] <= at:
            self._land(heapq.heappop(self._flying)[2])
            return True
        found = self.store.next_step()
        assert found is not None
        row = found[1]
        if row.due_at is None or row.due_at > at:  # it wakes up because its time is over
            self._settle(Item(Task(row, self._route(row)), Expired()))
        else:
            self._claim(row.instance_id)
        return True

    # -- claims and calls ------------------------------------------------------------------------
    def _claim(self, instance_id: UUID) -> None:
        instance = self.store.instances[instance_id]
        run = self.run(instance)
        own = self.store.due_steps(instance_id)
        for row in own:
            run.known.values[StepRef(row.key)] = row

        def take(run: Run) -> None:
            worker = self._claimer.worker_id
            run.tasks = [own_claim(run, run.step(row.key), worker, NO_LIMITS) for row in own]

        carry_out([(run, take)], self.store.load)
        behind = stand_back(self.store.fences, run.tasks, self.clock.moment)
        for task in run.tasks:
            self.store.put_step(task.row)
        run.tasks = [task for task in run.tasks if task not in behind]
        if instance.state == "scheduled" and run.tasks:
            self.store.put_instance(replace(instance, state="running"))
        self._launch(run)

    def _launch(self, run: Run) -> None:
        """Each claimed step is on its way: what calls nobody arrives at once, unanswered."""
        self.store.write(Changes(counted=counted(run.tasks, self.clock.now)))
        for task in run.tasks:
            item = unsent(task)
            if item is not None:
                self._fly(self.clock.now, _Arrival(item))
            elif task.request is not None:
                self._call(task, task.request)

    def _call(self, task: Task, request: StepRequest) -> None:
        asked = orjson.loads(task.body)  # what goes over the wire; a handler may change its copy
        self.calls.append(
            Call(
                request.handler, request.step, asked["params"], request.idempotency_key,
                request.generation, request.dispatch, self.clock.now, task.row.instance_id,
            )
        )  # fmt: skip
        copy = orjson.loads(task.body)
        came = self._scripts.call(
            task,
            replace(
                request, params=copy["params"], context=copy["context"], outputs=copy["outputs"]
            ),
        )
        at = self.clock.now + came.after
        if task.route.kind is not Kind.CELERY:
            self._fly(at, _Arrival(Item(task, came.what)))
            return
        # A task is handed over, then its own worker has the word, or is silent.
        self._fly(self.clock.now, _Arrival(Item(task, Answer(Verdict.PENDING))))
        if isinstance(came.what, Answer) and came.what.verdict is not Verdict.UNKNOWN:
            self._fly(at, _Arrival(Item(task, came.what), word=True))

    def _fly(self, at: datetime, arrival: _Arrival) -> None:
        heapq.heappush(self._flying, (at, next(self._order), arrival))

    # -- answers -----------------------------------------------------------------------------------
    def _land(self, arrival: _Arrival) -> None:
        item = arrival.item
        row = self.store.step(item.task.row.instance_id, item.task.row.node_key)
        assert row is not None
        if arrival.word:
            if row.epoch == item.task.row.epoch and row.state in _AWAITED:
                self._settle(Item(replace(item.task, row=row), item.came))
        elif holds(item.task.row, row.epoch, row.state):
            self._settle(item)
        elif isinstance(item.came, Answer):
            self._late(row, item.task, item.came)

    def _late(self, row: StepRow, task: Task, came: Answer) -> None:
        """An answer under an old claim: evidence, the attempt's end, or an incident."""
        if task.row.asking is not None:
            return
        self.store.write(Changes(evidence=[late_evidence(task.row, came)]))
        against = contradiction(row, task.row.generation, came.verdict)
        if resolves(row, task.row, came):
            self._settle(Item(replace(task, row=row), came, late=True))
        elif against is not None:
            self.store.write(Changes(incidents=[against], audit=[told(against)]))

    def _settle(self, item: Item) -> None:
        row = item.task.row
        run = self.run(self.store.instances[row.instance_id], claimer=self._claimer)
        run.known.values[StepRef(row.key)] = row
        work = partial(settle_run, items=[item], limits=NO_LIMITS, allowance=WIDTH)
        carry_out([(run, work)], self.store.load)
        self._done(run)

    def _done(self, run: Run) -> None:
        passed = pass_on(run.collected.let_go, run.tasks)
        self.store.fences.release(run.collected.let_go)
        behind = stand_back(self.store.fences, run.tasks, self.clock.moment, passed)
        run.tasks = [task for task in run.tasks if task not in behind]
        self.store.write(run.collected)
        self._launch(run)
        for errand in run.errands:
            self._run(errand)

    def _run(self, errand: Errand) -> None:
        """The errand's target has the signal, unless it has ended or had it before."""
        target = self.store.instances.get(errand.to)
        known = target is not None and target.tenant_id == errand.tenant_id
        if target is not None and known and target.state not in ENDED:
            self.deliver(errand.to, request_of(errand))
        if errand.asked_by is not None:
            self.store.write(Changes(woken=[errand.asked_by]))

    def deliver(self, instance_id: UUID, request: SignalRequest) -> None:
        """The signal is in the inbox, and what it does at once is done; a repeated dedupe key does
        nothing.
        """
        inbox = self.store.signals[instance_id]
        if request.dedupe_key in {each.dedupe_key for each in inbox} - {None}:
            return
        made = Signal(
            self.chance.new_id(), request.control or request.name, request.payload, request.actor,
            self.clock.now, request.dedupe_key,
        )  # fmt: skip
        if request.control is not None:
            made.consumed_at, made.consumed_by = self.clock.now, "engine"
        inbox.append(made)
        self.control(instance_id, replace(request, id=made.id))

    def _next_of(self, instance_id: UUID) -> datetime | None:
        moments = [
            at
            for at, _, arrival in self._flying
            if arrival.item.task.row.instance_id == instance_id
        ]
        moments += self.store.wakes_of(instance_id)
        return max(min(moments), self.clock.now) if moments else None

    def _route(self, row: StepRow) -> Any:
        return self.around.route(row.tenant_id, row.handler)
