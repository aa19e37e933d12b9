"""The pump: one per worker process. It claims due steps, keeps their calls in flight and settles.

One thread (whoever runs work()) does all the database's part; the crew makes the calls. All answers
that arrived meanwhile are settled in one transaction, which claims the follow-up steps too; free
slots are topped up from the lanes. It ends when nothing is due for a while.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from uuid import UUID

import structlog

from orch8.engine.outcome import Answer
from orch8.errors import Unavailable
from orch8.limits import Doorbell, Grant, Limiter
from orch8.runtime import strays
from orch8.runtime.admission import admit_waiting
from orch8.runtime.claim import claim_now
from orch8.runtime.crew import Crew, SendTask
from orch8.runtime.errand import Errand
from orch8.runtime.eyes import Eyes
from orch8.runtime.gate import Gate
from orch8.runtime.lanes import Slots
from orch8.runtime.lease import Lease
from orch8.runtime.office import Office
from orch8.runtime.preparing import Task
from orch8.runtime.reveal import reveal_now
from orch8.runtime.run import JANITOR, Claimer
from orch8.runtime.settle import Broken, Deferral, Item, Settled, settle, unsent
from orch8.runtime.standing import Standing
from orch8.runtime.turns import Turns
from orch8.runtime.unlimited import Unlimited
from orch8.storage import instances

log = structlog.get_logger(__name__)

NEAR = 5.0  # seconds: a step that is due sooner is waited for here, a later one is a tick's
LOOK = 0.25  # seconds between two looks for more work while calls are in flight
ADMIT = 0.5  # seconds between two admissions from rate-limit queues this pump has filled
RETRY = 0.2  # seconds before answers that could not be written are written again
BATCH = 256  # answers in one transaction


class Pump:
    """Claims, calls and settles for the lanes it was asked to work on."""

    def __init__(
        self,
        office: Office,
        node: str,
        *,
        limiter: Limiter | None = None,
        doorbell: Doorbell | None = None,
        send_task: SendTask | None = None,
        run_errand: Callable[[Errand], None] | None = None,
        drained: Callable[[], None] = lambda: None,
        width: int | None = None,
    ) -> None:
        self._office, self._doorbell, self._run_errand = office, doorbell, run_errand
        self.width = width or office.settings.worker_width
        self._inbox: SimpleQueue[tuple[Item, Grant | None] | None] = SimpleQueue()
        self._crew = Crew(
            office.settings, lambda item, grant: self._inbox.put((item, grant)), send_task,
            lambda task: reveal_now(office, task), office.meter.called,
        )  # fmt: skip
        self._gate, self._eyes = Gate(limiter, Standing(office)), Eyes(limiter)
        self._slots = Slots(self.width)
        self._turns = Turns(office.weights, low_water=office.low_water)
        self._unlimited = Unlimited(office)
        self.lease = Lease(
            office, node, lambda: sorted(self._lanes), lambda: len(self._flying),
            drain=lambda: self.wind_down(float("inf")), drained=drained,
        )  # fmt: skip
        self._lanes: dict[str, None] = {}
        self._pokes = self._seen = 0  # wake-ups, and how many of them were followed by a look
        self._state = threading.Lock()
        self._running = False
        self._stopping = threading.Event()
        self._ends_at = float("inf")  # time.monotonic() after which nothing is waited for
        self._idle = threading.Event()
        self._idle.set()
        self._flying: dict[tuple[UUID, int], Task] = {}  # what the crew has, by claim
        self._unsettled: list[Item] = []
        self._unsure = False  # whether it may hold claims that it does not know of
        self._admit_at = float("inf")

    def work(self, lane: str) -> bool:
        """The lane's due steps are being worked on; returns when nothing is due for a while.

        False at once if another thread is at it already: that one has been told.
        """
        with self._state:
            self._lanes[lane] = None
            self._pokes += 1
            if self._running or self._stopping.is_set():
                self._inbox.put(None)
                return False
            self._running = True
            self._idle.clear()
        try:
            self._crew.start(self.width)
            self._run()
        except BaseException:
            self._unsure = True  # whoever works next looks for claims that were left behind
            raise
        finally:
            with self._state:
                self._running = False
            self._idle.set()
        return True

    def wind_down(self, grace: float) -> None:
        """Nothing is claimed any more; calls in flight have ``grace`` seconds to answer and be
        settled. Returns at once, work() when all is settled or the time is over.
        """
        self._ends_at = min(self._ends_at, time.monotonic() + grace)
        self._stopping.set()
        self._inbox.put(None)

    def stop(self, grace: float) -> None:
        """The pump has wound down. What is left then is in doubt, and a tick takes it back."""
        self.wind_down(grace)
        self._idle.wait(grace + 1)
        self._crew.dismiss()
        self.lease.release()

    # -- the loop ------------------------------------------------------------------------------
    def _run(self) -> None:
        more, looked_at = True, float("-inf")
        while True:
            now = time.monotonic()
            stopping = self._stopping.is_set()
            if stopping:
                self._back(self._gate.empty())
            self._gate.report()
            self._settle_all()
            if self._unsure and not self._unsettled:
                self._reconcile()
            free = self._free
            wants = self._poked or more or now - looked_at >= LOOK
            if not stopping and not self._unsettled and wants and self._worth_a_look(free):
                self._seen, looked_at = self._pokes, now
                more = self._claim(free)
                if self._unsettled:
                    continue
            self._pass_gate(())
            self._admit()
            self._unlimited.write()
            if stopping and now >= self._ends_at:
                return
            if self._flying or self._gate.held or self._unsettled:
                self._take_in(self._patience(more=more))
                continue
            if stopping:
                return
            if self._unsure:
                self._take_in(RETRY)
                continue
            if more or self._poked:
                continue
            wait = self._until_next()
            with self._state:
                if not self._poked and wait is None:
                    self._running = False
                    return
            if wait is not None:
                self._take_in(wait)
                more = True

    def _patience(self, *, more: bool) -> float:
        if self._unsettled and not self._flying:
            return RETRY
        held = self._gate.next_at()
        wait = LOOK if held is None else min(LOOK, max(held - time.monotonic(), 0.0))
        return wait if not more else min(wait, 0.05)

    def _take_in(self, patience: float) -> None:
        """At least one item is taken in, or the patience is over; and all others that are there."""
        try:
            came = self._inbox.get(timeout=patience) if patience > 0 else self._inbox.get_nowait()
            while True:
                if came is not None:
                    item, grant = came
                    self._flying.pop(item.task.claim, None)
                    if grant is None or not self._let_go(item, grant):
                        self._slots.give_back(item.task.row.lane)
                        self._unsettled.append(item)
                came = self._inbox.get_nowait()
        except Empty:
            return

    def _let_go(self, item: Item, grant: Grant) -> bool:
        """Whether the call was only too late for its token, and waits at the gate for another."""
        if isinstance(item.came, Answer):
            self._gate.ended(item.task, grant, item.came)
            return False
        self._gate.release(item.task, grant)
        sends = time.monotonic() < self.lease.sends_until and not self._stopping.is_set()
        return sends and item.came == Deferral() and self._gate.hold(item.task)

    @property
    def _free(self) -> int:
        return self.width - len(self._flying) - self._gate.held

    @property
    def _poked(self) -> bool:
        """Whether there was a wake-up since the last look."""
        return self._pokes != self._seen

    @property
    def _owed(self) -> int:
        """How many slots follow-ups leave to other lanes: a wake-up may be of one without any."""
        return max(self._slots.owed, int(self._poked and len(self._lanes) > 1))

    def _worth_a_look(self, free: int) -> bool:
        """Whether enough slots are free to claim for, or a lane may be waiting for its own."""
        enough = free >= self.width // 4 or not self._flying
        return free > 0 and (enough or self._owed > 0)

    def _claim(self, free: int) -> bool:
        """Free slots are filled, each lane getting its share; whether there may be more."""
        taken = 0
        try:
            for lane, slots in self._dealt(free):
                worker_id, take = self.lease.hold(), self._turns.take
                tasks, broke = claim_now(self._office, lane, worker_id, slots, take)
                self._unsure |= broke
                taken += len(tasks)
                self._launch(tasks)
        except Unavailable as problem:
            log.warning("claim.failed", error=problem.detail)
            self._unsure = True
            self._take_in(RETRY)
            return True
        return taken == free

    def _dealt(self, free: int) -> Sequence[tuple[str, int]]:
        """The lanes to claim from now, each with its slots; several are first asked what is due."""
        lanes = list(self._lanes)
        if self._doorbell is not None:
            for lane in lanes:
                self._doorbell.clear(lane)  # before the look: what comes after it rings again
        if len(lanes) == 1:
            return [(lanes[0], free)]
        with self._office.begin() as tx:
            waiting = self._turns.waiting(tx, lanes, self.width)
        return self._slots.deal(free, waiting)

    def _reconcile(self) -> None:
        """What this process holds without knowing it is taken back: a commit that was not confirmed
        took place after all, or a call broke on its way. Nobody else would: the process is alive.
        What it knows is what is on its way; nothing is unsettled here.
        """
        known = self._flying | {task.claim: task for task in self._gate.waiting}
        self._slots.recount(task.row.lane for task in known.values())
        try:
            lost = strays.take_back(self._office, self.lease.worker_id, known)
        except Unavailable as problem:
            log.warning("reconcile.failed", error=problem.detail)
            return
        except Exception:  # what cannot be settled stays as it is until this process ends
            log.exception("reconcile.broke")
            lost = 0
        if lost:
            log.warning("claims.unconfirmed", claims=lost)
        self._unsure = False

    def _launch(self, tasks: Sequence[Task]) -> None:
        """Each claimed step is on its way: to the gate, to the crew, or to be settled as it is."""
        limited = []
        self._unlimited.note(tasks)
        self._office.meter.claimed(len(tasks))
        for task in tasks:
            item = unsent(task)
            if item is not None:
                self._unsettled.append(item)
                continue
            self._slots.take(task.row.lane)
            if task.limits:
                limited.append(task)
            else:
                self._call(task, None)
        if limited:
            self._pass_gate(limited)

    def _pass_gate(self, tasks: Sequence[Task]) -> None:
        try:
            granted, back = self._gate.admit(tasks)
            for task, grant in granted:
                self._call(task, grant)
        except Exception:  # what did not get on its way is taken back
            log.exception("gate.broke")
            self._unsure = True
            return
        self._back(back)
        if any(isinstance(item.came, Deferral) and item.came.limit for item in back):
            self._admit_at = min(self._admit_at, time.monotonic() + ADMIT)

    def _back(self, items: Sequence[Item]) -> None:
        """Calls that are not made now, but given back."""
        for item in items:
            self._slots.give_back(item.task.row.lane)
        self._unsettled += items

    def _call(self, task: Task, grant: Grant | None) -> None:
        self._crew.put(task, grant, self.lease.sends_until)
        self._flying[task.claim] = task

    def _admit(self) -> None:
        if time.monotonic() < self._admit_at:
            return
        try:
            waiting = admit_waiting(self._office, self._eyes)
        except Unavailable as problem:
            log.warning("admission.failed", error=problem.detail)
            waiting = None
        if waiting is not None:
            self._gate.stand(waiting)
        self._admit_at = float("inf") if waiting == frozenset() else time.monotonic() + ADMIT

    def _until_next(self) -> float | None:
        """Seconds until a step is due or a queue is looked after; None if neither is near."""
        wait = self._until_next_due()
        if self._admit_at < float("inf"):
            return max(min(wait or NEAR, self._admit_at - time.monotonic()), 0.0)
        return wait

    def _until_next_due(self) -> float | None:
        """Seconds until a lane's next step is due, if that is near."""
        try:
            with self._office.begin() as tx:
                row = self._turns.next_due(tx, list(self._lanes))
                rate = instances.now(tx).rate if row is not None and row.at is not None else 1.0
        except Unavailable as problem:
            log.warning("look.failed", error=problem.detail)
            return None
        if row is None or row.at is None:
            return None
        wait = float((row.at - row.now).total_seconds()) / rate
        return max(wait, 0.0) if wait < NEAR else None

    # -- settling ------------------------------------------------------------------------------
    def _settle_all(self) -> None:
        while self._unsettled:
            batch = self._unsettled[:BATCH]
            try:
                result = self._settle(batch)
            except Unavailable as problem:
                log.warning("settle.failed", items=len(batch), error=problem.detail)
                self._unsure = True
                return
            except Exception:
                log.exception("settle.broke", items=len(batch))
                del self._unsettled[: len(batch)]
                self._settle_each(batch)
            else:
                del self._unsettled[: len(batch)]
                self._done(result)

    def _settle(self, batch: Sequence[Item]) -> Settled:
        free = max(self._free - self._owed, 0)
        # The janitor's process resolves doubts and leaves what follows to the workers.
        follows = free > 0 and not self._stopping.is_set() and set(self._lanes) != {JANITOR}
        claimer = Claimer(self.lease.hold(), free) if follows else None
        with self._office.begin() as tx:
            return settle(self._office, tx, batch, claimer)

    def _settle_each(self, batch: Sequence[Item]) -> None:
        """Each is settled alone, twice if it lost a key to another process; a bad one is parked."""
        for item in batch:
            for attempt in (item, item, Item(item.task, Broken())):
                try:
                    result = self._settle([attempt])
                except Unavailable as problem:
                    log.warning("settle.failed", items=1, error=problem.detail)
                    self._unsure = True
                    self._inbox.put((item, None))
                    self._flying[item.task.claim] = item.task
                    self._slots.take(item.task.row.lane)
                    break
                except Exception:
                    log.exception("settle.broke_alone", step_id=str(item.task.row.id))
                else:
                    self._done(result)
                    break

    def _done(self, result: Settled) -> None:
        self._launch(result.tasks)
        for errand in result.errands:
            try:
                if self._run_errand is not None:
                    self._run_errand(errand)
            except Exception:  # the step that asked for it asks again
                log.exception("errand.failed", instance_id=str(errand.to))
