"""The gate: rate-limit tokens for a whole batch of calls, right before they are made.

A call whose token comes within a moment is held here; for a longer wait it goes back to Postgres,
into its key's queue. When calls have ended, the gate gives their leases back and passes on what the
provider said of its limits. Without Redis calls go on within this process's share.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from itertools import count
from typing import Protocol
from uuid import UUID

import structlog

from orch8.engine.outcome import Answer, Verdict
from orch8.errors import Orch8Error
from orch8.handlers import pressure
from orch8.limits import Ended, Grant, Limit, Limiter, LimiterUnavailable, Refusal, Share
from orch8.limits.grant import MOST_ROOM
from orch8.money.limits import block_after
from orch8.runtime import flights
from orch8.runtime.keeping import Keeping
from orch8.runtime.newcomers import Newcomers
from orch8.runtime.preparing import Limits, Task
from orch8.runtime.settle import Deferral, Item, Stuck

log = structlog.get_logger(__name__)

AWAY = 1.0  # seconds until Redis is tried again when it is away
BATCH = 256
MOST_LATE = 3  # tokens that a call was too late for
REBUILDS = 3  # times that a batch is asked for again after lost histories were rebuilt
MOST_REPORTS = 5000  # ended calls that are kept until Redis is back
TOO_MANY = 429
_DEALT_WITH = frozenset(
    {
        Verdict.SUCCEEDED, Verdict.DECLINED, Verdict.REQUIRES_ACTION, Verdict.PENDING,
        Verdict.FAILED,
    }
)  # fmt: skip
OBJECT_LOCK = "lock_timeout"  # Stripe: another request holds the object, no limit is reached


class Records(Protocol):
    """What the database knows; runtime/standing.py reads it."""

    def used(
        self, tenant_id: str, limit: Limit, waiting: Sequence[UUID]
    ) -> tuple[list[float], list[str]]:
        """The ages of used units in seconds, and the holders of leases that may be in flight."""

    def limits(self) -> Limits:
        """The stated limits as they are now."""

    def live(self) -> int | None:
        """How many worker processes there are; None if that is not known."""


class Gate:
    """Decides which calls may go now. Used by the pump's own thread only."""

    def __init__(self, limiter: Limiter | None, records: Records) -> None:
        self._limiter, self._records = limiter, records
        self._held: list[tuple[float, int, Task, float]] = []  # the last: held since when
        self._order = count()
        self._share = Share()
        self._newcomers = Newcomers()
        self._away_until = 0.0
        self._flying: Counter[tuple[str, str]] = Counter()  # calls in flight here, by key
        self._ended: list[tuple[str, Ended]] = []
        self._keeping = Keeping()

    @property
    def held(self) -> int:
        """How many claimed calls wait here for their token."""
        return len(self._held)

    @property
    def waiting(self) -> list[Task]:
        """The claimed calls that wait here for their token."""
        return [task for _, _, task, _ in self._held]

    def next_at(self) -> float | None:
        """When (time.monotonic) the first held call may go."""
        return self._held[0][0] if self._held else None

    def admit(self, tasks: Iterable[Task]) -> tuple[list[tuple[Task, Grant]], list[Item]]:
        """The calls that may be made right now with their grants, and those that go back; held
        calls whose time has come are among them.
        """
        now = time.monotonic()
        ready: list[tuple[Task, float]] = []
        granted: list[tuple[Task, Grant]] = []
        back: list[Item] = []
        while self._held and self._held[0][0] <= now:
            _, _, task, since = heapq.heappop(self._held)
            if self._outdated(task):
                back.append(Item(task, Deferral()))  # it is claimed again under what holds now
            else:
                ready.append((task, since))
        for task in tasks:
            joins = self._newcomers.arrive(task)
            if joins is None:
                ready.append((task, now))
            else:
                back.append(Item(task, Deferral(joins[0], _line(joins[1]))))
        ready.sort(key=lambda each: self._newcomers.place(each[0]))
        for first in range(0, len(ready), BATCH):
            self._ask(ready[first : first + BATCH], granted, back)
        return granted, back

    def hold(self, task: Task) -> bool:
        """A call that was too late for its token asks for another the next time that calls are
        admitted; False if it was late so often that another process may try.
        """
        task.late += 1
        if task.late > MOST_LATE:
            return False
        now = time.monotonic()
        heapq.heappush(self._held, (now, next(self._order), task, now))
        return True

    def release(self, task: Task, grant: Grant) -> None:
        """Tokens of a call that was not made are free again."""
        self._landed(task, grant)
        if Share.owns(grant):
            self._share.give_back(task.row.tenant_id, grant)
        elif self._limiter is not None and grant.tokens:
            try:
                self._limiter.release(task.row.tenant_id, [grant])
            except LimiterUnavailable as problem:  # they stay spent for one window, which is safe
                log.warning("limiter.release_failed", error=str(problem))

    def ended(self, task: Task, grant: Grant, answer: Answer) -> None:
        """A call was made and answered: it is no longer in flight. report() passes that on, with
        what the provider said of its limits.
        """
        tenant_id, took = task.row.tenant_id, time.monotonic() - grant.granted_at
        blocked, crowded = self._felt(task, answer)
        self._landed(task, grant)
        if Share.owns(grant):
            self._share.give_back(tenant_id, grant)
        if self._limiter is not None and (grant.leases or blocked or crowded):
            call = Ended(task.limits, grant, took, _stood(answer), blocked, crowded)
            self._ended.append((tenant_id, call))

    def report(self) -> None:
        """What ended() took in is known to every process, once Redis is there; and calls that take
        longer than their leases keep them.
        """
        self._renew()
        while self._ended and self._limiter is not None and time.monotonic() >= self._away_until:
            try:
                self._limiter.ended(self._ended[:BATCH])
            except LimiterUnavailable as problem:
                log.warning("limiter.report_failed", error=str(problem), calls=len(self._ended))
                self._away_until = time.monotonic() + AWAY
                del self._ended[:-MOST_REPORTS]  # leases run out by themselves
            else:
                del self._ended[:BATCH]

    def _renew(self) -> None:
        now = time.monotonic()
        if not (due := self._keeping.due(now)):
            return
        for kept in due:
            self._share.renew(kept.tenant_id, kept.grant, kept.lease)
        if self._limiter is not None:
            if now < self._away_until:
                return
            try:
                for first in range(0, len(due), BATCH):
                    calls = due[first : first + BATCH]
                    self._limiter.renew([(e.tenant_id, e.grant, e.lease) for e in calls])
            except LimiterUnavailable as problem:
                log.warning("limiter.renew_failed", error=str(problem), calls=len(due))
                self._away_until = time.monotonic() + AWAY
                return
        self._keeping.renewed(due, now)

    def stand(self, queues: Collection[tuple[str, str]]) -> None:
        """These keys, each with its tenant, are all that have a queue."""
        self._newcomers.stand(queues)

    def empty(self) -> list[Item]:
        """Every held call goes back: the process is stopping."""
        held, self._held = self._held, []
        return [Item(task, Deferral()) for _, _, task, _ in held]

    # -- what providers say ----------------------------------------------------------------------
    def _felt(self, task: Task, answer: Answer) -> tuple[dict[str, float], dict[str, int]]:
        """The keys for which the provider wants no calls, with the seconds; and those of which too
        many calls are in flight, with how many are in flight here.

        Steps name the widest key first: that is what a limit of the whole account concerns, one of
        an endpoint the last. A limit of a single object concerns this call only.
        """
        told = pressure.read(answer.evidence)
        if told is None or (answer.error or {}).get("code") == OBJECT_LOCK:
            return {}, {}
        keys = [limit.key for limit in task.limits]
        concerned = {"global": keys[:1], "endpoint": keys[-1:], "resource": []}
        found = concerned.get(told.scope or "", keys)
        if told.concurrent:
            return {}, {key: self._flying[task.row.tenant_id, key] for key in found}
        if told.last:  # of which key is not said; refusals come soon enough if there are several
            return dict.fromkeys(keys, told.seconds or 0.0) if len(keys) == 1 else {}, {}
        waits = dict.fromkeys(found, told.seconds)
        if told.seconds is None and answer.evidence.get("http_status") == TOO_MANY:
            waits = {key: answer.retry_after or block_after(key) for key in found}
        blocked = {key: seconds for key, seconds in waits.items() if seconds}
        if blocked:
            log.warning("limiter.pushed_back", keys=list(blocked), seconds=max(blocked.values()))
        return blocked, {}

    def _landed(self, task: Task, grant: Grant) -> None:
        if grant.leases:
            self._keeping.end(task)
        for limit in task.limits:
            at = (task.row.tenant_id, limit.key)
            self._flying[at] -= 1
            if self._flying[at] <= 0:
                del self._flying[at]

    def _outdated(self, task: Task) -> bool:
        """Whether other limits are stated for the call's keys than when it was claimed."""
        before, now = task.under, self._records.limits()
        if before is None or before is now:
            return False
        task.under, tenant_id = now, task.row.tenant_id
        keys = {*(limit.key for limit in task.limits), *task.unlimited}
        return any(
            before.stated.get((tenant_id, k)) != now.stated.get((tenant_id, k)) for k in keys
        )

    # -- asking ----------------------------------------------------------------------------------
    def _ask(
        self,
        ready: list[tuple[Task, float]],
        granted: list[tuple[Task, Grant]],
        back: list[Item],
    ) -> None:
        try:
            grants = self._grants([task for task, _ in ready])
        except Exception as problem:
            if len(ready) > 1:  # whoever it is does not hold up the others
                for each in ready:
                    self._ask([each], granted, back)
                return
            ((task, _),) = ready
            log.exception("gate.cannot_judge", step_id=str(task.row.id))
            why = getattr(problem, "detail", None) or f"{type(problem).__name__}: {problem}"
            back.append(Item(task, Stuck("cannot_limit", str(why))))
            return
        now = time.monotonic()
        for (task, since), grant in zip(ready, grants, strict=True):
            if grant.granted:
                self._flying.update((task.row.tenant_id, limit.key) for limit in task.limits)
                granted.append((task, grant))
                if grant.leases:
                    self._keeping.begin(task, grant)
                continue
            if grant.refusal is Refusal.CLOSED:
                back.append(Item(task, _over(task, grant)))
                continue
            # When a call in flight ends is a guess, and whoever waits here takes up a slot.
            patience = self._newcomers.patience(task, self.held)
            if grant.refusal is Refusal.HELD:
                patience += since - now
            if grant.retry_after <= patience:
                at = now + grant.retry_after
                heapq.heappush(self._held, (at, next(self._order), task, since))
            else:
                back.append(Item(task, Deferral(grant.retry_after, self._queue(task, grant))))

    def _grants(self, tasks: Sequence[Task]) -> list[Grant]:
        """A grant or a refusal for each call, once lost histories were rebuilt."""
        grants = self._acquire(tasks)
        for _ in range(REBUILDS):
            lost = [i for i, grant in enumerate(grants) if grant.refusal is Refusal.REBUILD]
            if not lost or not self._rebuild([tasks[i] for i in lost], tasks):
                break
            for i, grant in zip(lost, self._acquire([tasks[i] for i in lost]), strict=True):
                grants[i] = grant
        return grants

    def _acquire(self, tasks: Sequence[Task]) -> list[Grant]:
        asked = [(task.row.tenant_id, self._newcomers.asks(task)) for task in tasks]
        if self._limiter is not None and time.monotonic() >= self._away_until:
            try:
                for tenant_id in sorted(self._share.tenants):
                    self._limiter.distrust(tenant_id)  # it does not know of the share's calls
                grants = self._limiter.acquire_many(asked)
            except LimiterUnavailable as problem:
                self._away_until = time.monotonic() + AWAY
                if not self._share.in_use:
                    log.warning("limiter.away", error=str(problem))
            else:
                if self._share.in_use:
                    self._share.found()
                    log.info("limiter.back")
                return grants
        self._share.lost()
        live = self._records.live()
        if live is None:
            return [_unknown(task.limits) for task in tasks]
        return [self._share.acquire(task.row.tenant_id, task.limits, live) for task in tasks]

    def _rebuild(self, lost: Sequence[Task], tasks: Sequence[Task]) -> bool:
        """Whether histories that the server lost, or never had, were counted from our own."""
        waiting = [task.row.id for task in tasks]
        waiting += [task.row.id for task in self.waiting]
        limits = {
            (task.row.tenant_id, limit.key): (task.row.tenant_id, limit)
            for task in lost
            for limit in task.limits
            if limit.long or limit.max_in_flight is not None
        }
        for tenant_id, limit in limits.values():
            assert self._limiter is not None
            asked = limit if limit.long else replace(limit, max=None)
            try:
                ages, holders = self._records.used(tenant_id, asked, waiting)
                in_flight = None if limit.max_in_flight is None else holders
                self._limiter.restore(tenant_id, asked, ages, in_flight)
            except (LimiterUnavailable, Orch8Error) as problem:  # asked again with the next call
                log.warning("limiter.restore_failed", key=limit.key, error=str(problem))
                return False
            log.info(
                "limiter.restored",
                tenant=tenant_id, key=limit.key, calls=len(ages), in_flight=len(holders),
            )  # fmt: skip
        return bool(limits)

    def _queue(self, task: Task, grant: Grant) -> Limit | None:
        """The limit whose queue a refused step joins: where it lacks both, the slower one. None if
        it only comes back after a while.
        """
        limit = _refusing(task, grant)
        if grant.refusal is Refusal.AWAY and limit.long:
            return None  # its queue is as slow as its window, and there may be room in it
        if grant.refusal is Refusal.FULL and limit.max is not None:
            self._newcomers.refused(task.row.tenant_id, limit.key, grant.retry_after)
        if grant.refusal is Refusal.HELD or limit.max is None:
            in_flight = _in_flight(limit, grant)
            if in_flight.pace < limit.pace:
                return in_flight
        return _line(limit)


def _refusing(task: Task, grant: Grant) -> Limit:
    return next(limit for limit in task.limits if limit.key == grant.refused_by)


def _over(task: Task, grant: Grant) -> Stuck:
    limit = _refusing(task, grant)
    why = (
        f"its cost {limit.weight} is more than max {limit.max} of the rate limit {limit.key!r}: "
        "raise max, then have it sent again"
    )
    return Stuck("over_limit", why)


def _stood(answer: Answer) -> bool:
    """Whether the provider has dealt with a call: it stands as many at a time as there were."""
    return answer.verdict in _DEALT_WITH or (
        answer.verdict is Verdict.REFUSED and "http_status" in answer.evidence
    )


def _in_flight(limit: Limit, grant: Grant) -> Limit:
    places = grant.room or limit.max_in_flight or 1
    most = limit.max_in_flight or MOST_ROOM
    return flights.pace(limit.key, places, grant.took, most, limit.weight)


def _line(limit: Limit) -> Limit:
    return replace(limit, max_in_flight=None, holder="")


def _unknown(limits: Sequence[Limit]) -> Grant:
    """A refusal for as long as nobody knows how many processes share a limit."""
    return Grant(
        granted=False, tokens=(), granted_at=time.monotonic(), slack=0.0,
        refused_by=limits[0].key, refusal=Refusal.AWAY, retry_after=AWAY,
    )  # fmt: skip
