"""One session of one engine: latency with one workflow at a time, then a backlog worked off.

Steps per second count from the first step's beginning to the last one's; a step's latency is the
time from its beginning to the beginning of the next one in the same workflow, with nothing else to
do, so it holds the step itself, what makes its output durable, and the way to the next.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.bench import cpu
from tests.peers.bed import Bed
from tests.peers.companion import Trouble
from tests.peers.contender import Arrivals, Contender
from tests.peers.programs.step import STEPS
from tests.support.stack import until

SMALLEST = 10  # workflows in a backlog
_BURST, _BIG_BURST = 10, 100
_SHORT = 1.0  # a burst that takes less tells too little
_SINGLES, _SINGLES_SECONDS = 20, 3.0
_SINGLE_WITHIN = 30.0
_DRAINED_WITHIN = 60.0
_POLL, _SINGLE_POLL = 0.1, 0.01


@dataclass(frozen=True, slots=True)
class Measured:
    """One workload in one session. ``cpu`` is in seconds, by part; ``periods`` in seconds."""

    workflows: int
    steps_per_s: float
    periods: Sequence[float]
    cpu: Mapping[str, float]
    commits: int | None  # of the backlog, from its submission to its end
    repeated: int  # steps that began more than once

    def steps(self, kind: str) -> int:
        """How many steps the backlog had."""
        return self.workflows * STEPS[kind]


@dataclass(frozen=True, slots=True)
class Size:
    """How large a backlog is: as many workflows as take some seconds, and no more than ``most``."""

    seconds: float
    most: int


class Session:
    """An engine that has been started, and its measurements."""

    def __init__(self, contender: Contender, bed: Bed) -> None:
        self._contender, self._bed = contender, bed

    def measure(self, kind: str, size: Size) -> Measured:
        """The workload has been measured. Trouble or AssertionError if it did not come to an end,
        or if a step is missing.
        """
        rate = self._warm(kind)
        periods = self._singles(kind)
        count = max(SMALLEST, min(size.most, round(rate * size.seconds)))
        return self._backlog(kind, count, periods)

    def _warm(self, kind: str) -> float:
        """About how many workflows the engine finishes in a second."""
        for count in (_BURST, _BIG_BURST):
            began = time.monotonic()
            self._run(kind, _ids(count), _POLL / 4)
            took = time.monotonic() - began
            if took > _SHORT:
                break
        return count / took

    def _singles(self, kind: str) -> list[float]:
        found: list[float] = []
        end = time.monotonic() + _SINGLES_SECONDS
        for _ in range(_SINGLES):
            arrivals = self._run(kind, _ids(1), _SINGLE_POLL, within=_SINGLE_WITHIN)
            found += periods_of(arrivals)
            if time.monotonic() > end:
                break
        return found

    def _run(
        self, kind: str, ids: Sequence[str], poll: float, within: float = _DRAINED_WITHIN
    ) -> Arrivals:
        self._contender.begin(kind)
        self._contender.submit(kind, ids)
        self._wait(kind, ids, poll, within)
        return self._contender.arrivals()

    def _wait(self, kind: str, ids: Sequence[str], poll: float, within: float) -> None:
        words = f"{len(ids)} workflows of the kind {kind} are done"
        until(lambda: self._contender.finished(kind, ids), within, words, poll=poll)

    def _backlog(self, kind: str, count: int, periods: Sequence[float]) -> Measured:
        ids = _ids(count)
        parts = {"itself": self._contender.processes(), **self._bed.parts()}
        self._contender.begin(kind)
        position = self._bed.position()
        with self._standstill():
            self._contender.submit(kind, ids)
            before = cpu.look(parts)
        self._wait(kind, ids, _POLL, _DRAINED_WITHIN)
        used = cpu.look(parts).since(before)
        commits = self._bed.commits(position, self._bed.position())
        arrivals = self._contender.arrivals()
        repeated = len(arrivals) - count * STEPS[kind]
        if repeated < 0 or len({workflow for _, workflow in arrivals}) != count:
            raise Trouble(f"{-repeated} steps of {count} workflows are missing")
        took = max(arrivals[-1][0] - arrivals[0][0], 1e-6)
        rate = (len(arrivals) - 1 - repeated) / took
        return Measured(count, rate, periods, used, commits, repeated)

    @contextlib.contextmanager
    def _standstill(self) -> Iterator[None]:
        """The workers, with their children, stand still inside the block."""
        pids = descendants(self._contender.workers())
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)


def periods_of(arrivals: Arrivals) -> list[float]:
    """The times from one beginning to the next, in the same workflow."""
    by_workflow: defaultdict[str, list[float]] = defaultdict(list)
    for at, workflow in arrivals:
        by_workflow[workflow].append(at)
    return [b - a for each in by_workflow.values() for a, b in pairwise(each)]


def descendants(pids: Sequence[int]) -> list[int]:
    """The processes and all that they started, parents first."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            children[int(fields[1])].append(int(stat.parent.name))
    found = list(pids)
    for pid in found:  # grows as it goes
        found += children[pid]
    return found


def _ids(count: int) -> list[str]:
    return [str(uuid.uuid4()) for _ in range(count)]
