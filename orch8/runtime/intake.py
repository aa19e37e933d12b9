"""The intake: instances that are asked for at the same moment are written by one transaction.

Who comes first starts its own at once. Who comes while that is being written waits, and the first
of those then writes for all of them: a commit serves as many as came during the one before.
Nobody notices the others: what cannot be written together is started alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

import structlog

from orch8.errors import Orch8Error, Unavailable
from orch8.runtime.library import Published
from orch8.runtime.loading import Work
from orch8.runtime.office import Office
from orch8.runtime.run import Run
from orch8.runtime.start import (
    StartRequest,
    StartResult,
    begin,
    check,
    check_session,
    find,
    newborn,
    result_of,
    start,
)
from orch8.storage.changes import Changes, write
from orch8.storage.rows import Moment
from orch8.storage.transaction import Tx

log = structlog.get_logger(__name__)

MOST: Final = 64  # instances in one transaction
TRIES: Final = 3  # of writing together, each without those whose keys turned out to be known


class Intake:
    """Starts instances for the threads of one process; at most one transaction at a time writes
    for several.
    """

    def __init__(self, office: Office) -> None:
        self._office = office
        self._lock = threading.Lock()
        self._waiting: list[_Wish] = []
        self._led = False  # whether a thread is writing, who will see to those that wait

    def start(self, request: StartRequest) -> StartResult:
        """As runtime.start.start, which says what is true afterwards and what is raised."""
        wish = _Wish(request)
        with self._lock:
            self._waiting.append(wish)
            wish.leads, self._led = not self._led, True
        if not wish.leads:
            wish.turn.acquire()
        if wish.leads:
            return self._lead(wish)
        return self._end(wish)

    def _lead(self, own: _Wish) -> StartResult:
        """Writes for all who wait by now. Whatever becomes of it, they and the next go on."""
        with self._lock:
            group = self._waiting[:MOST]
            del self._waiting[:MOST]
        try:
            if len(group) == 1:
                return start(self._office, own.request)
            self._write(group)
        finally:
            self._pass_on()
            for wish in group:
                if wish is not own:
                    wish.turn.release()
        return self._end(own)

    def _pass_on(self) -> None:
        """The first of those who came meanwhile leads; if nobody did, the next to come will."""
        with self._lock:
            following = self._waiting[0] if self._waiting else None
            self._led = following is not None
        if following is not None:
            following.leads = True
            following.turn.release()

    def _write(self, group: Sequence[_Wish]) -> None:
        try:
            runs = start_together(self._office, [wish.request for wish in group])
        except Unavailable as problem:
            for wish in group:
                wish.problem = problem
            return
        for wish, run in zip(group, runs, strict=True):
            wish.run = run

    def _end(self, wish: _Wish) -> StartResult:
        if wish.problem is not None:
            # One of its own for each thread: an exception collects the traces of who raises it.
            detail, retry_after = wish.problem.detail, wish.problem.retry_after
            raise Unavailable(detail, retry_after=retry_after) from wish.problem
        if wish.run is None:
            return start(self._office, wish.request)
        return result_of(wish.run, wish.request)


class _Wish:
    """A request, the thread that waits for it, and what became of it."""

    __slots__ = ("leads", "problem", "request", "run", "turn")

    def __init__(self, request: StartRequest) -> None:
        self.request = request
        self.leads = False
        self.run: Run | None = None
        self.problem: Unavailable | None = None
        self.turn = threading.Lock()
        self.turn.acquire()


def start_together(office: Office, requests: Sequence[StartRequest]) -> list[Run | None]:
    """The run of each instance that exists now. None for a request of which nothing was written,
    as its key is known already or something is wrong with it: start tells which.

    Raises Unavailable if the database cannot be reached, or did not confirm its commit.
    """
    runs: list[Run | None] = [None] * len(requests)
    # In the order of their keys, so that two processes never wait for each other in a circle.
    places = sorted(range(len(requests)), key=lambda n: _key(requests[n]))
    for _ in range(TRIES):
        writing = False
        try:
            with office.begin() as tx:
                writing = True
                made = _create(office, tx, [requests[n] for n in places])
                writing = False
        except _Known as found:
            places = [n for at, n in enumerate(places) if at not in found.places]
        except Exception as problem:
            if isinstance(problem, Unavailable) and not writing:
                raise
            log.warning("intake.apart", requests=len(places), error=repr(problem))
            break
        else:
            for n, run in zip(places, made, strict=True):
                runs[n] = run
            break
    return runs


class _Known(Exception):
    """There are instances with the keys of the requests at these places already."""

    def __init__(self, places: frozenset[int]) -> None:
        self.places = places
        super().__init__(f"{len(places)} known keys")


def _create(office: Office, tx: Tx, requests: Sequence[StartRequest]) -> list[Run | None]:
    """One statement for all that nothing is wrong with; None stands for the others."""
    versions: dict[tuple[str, str, str, int | None], tuple[Published, Moment]] = {}
    runs: list[Run | None] = [None] * len(requests)
    works: list[Work] = []
    places: dict[UUID, int] = {}
    for place, request in enumerate(requests):
        meant = (request.sequence, request.tenant_id, request.namespace, request.version)
        try:
            check(office, request)
            if meant not in versions:
                versions[meant] = find(office, tx, request)
            check_session(tx, request)
            run = newborn(office, request, *versions[meant])
        except Orch8Error:
            continue  # told by start, in the thread of the one who asked
        places[run.row.id] = place
        works.append((run, _begin(request, lambda run: places.pop(run.row.id, None))))
    office.loader.carry_out(tx, works)
    changes = Changes()
    for run, _ in works:
        if run.row.id in places:
            changes.extend(run.collected)
            runs[places[run.row.id]] = run
    made = write(tx, changes)
    if known := places.keys() - made:
        raise _Known(frozenset(places[each] for each in known))
    return runs


def _begin(request: StartRequest, refuse: Callable[[Run], object]) -> Callable[[Run], None]:
    """The work that creates an instance; if it cannot be done the run is refused instead."""
    work = begin(request)

    def begun(run: Run) -> None:
        try:
            work(run)
        except Orch8Error:
            refuse(run)

    return begun


def _key(request: StartRequest) -> tuple[str, str]:
    return request.tenant_id, request.key or ""
