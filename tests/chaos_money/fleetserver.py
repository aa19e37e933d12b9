"""Forks pump processes that are doomed to die at a crash point, and counts their deaths.

Every module is loaded once, so that a kill costs a fork. One JSON object per line on standard
input is a wave: ``{"kills": 50, "pumps": [...]}``, each pump a Berth of fleet.py. Until there were
so many deaths by SIGKILL whoever dies is replaced, and each death is a line on standard output;
then the others end in good order, and ``done`` is told. A wave without kills goes on until a line
says ``rest``. Children end with their parent. Run with: python -m tests.chaos_money.fleetserver,
in a stack's environment.
"""

from __future__ import annotations

import gc
import itertools
import os
import random
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final, NoReturn

import orjson

from orch8 import logs
from orch8.config import Settings
from tests.chaos.forkserver import GRACE, pump
from tests.chaos_money.points import POINTS, arm

_STDIN: Final = 0
_LOOK: Final = 0.01
_ENDS_WITHIN: Final = GRACE + 12.0  # a machine may have other things to do


class Fleet:
    """The children of this process: each pump of the plan runs once."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._numbers = settings, itertools.count(1)
        self._plan: list[dict[str, Any]] = []
        self._running: dict[int, dict[str, Any]] = {}

    def staff(self, plan: list[dict[str, Any]]) -> None:
        """From now on these pumps are what there is to be."""
        self._plan = plan

    def fill(self) -> None:
        """Every pump of the plan that does not run has been forked."""
        for wanted in self._plan:
            if wanted not in self._running.values():
                self._running[self._fork(wanted)] = wanted

    def deaths(self) -> Iterator[str]:
        """The points at which children have killed themselves since the last look."""
        for pid, doomed in list(self._running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self._running[pid]
                killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
                if killed and doomed["point"]:
                    yield doomed["point"]

    def end(self) -> Iterator[str]:
        """All children have ended, in good order unless they come to their point meanwhile."""
        for pid in self._running:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _ENDS_WITHIN
        while self._running and time.monotonic() < deadline:
            yield from self.deaths()
            time.sleep(_LOOK)
        for pid in self._running:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self._running.clear()

    def _fork(self, wanted: dict[str, Any]) -> int:
        number = next(self._numbers)
        pid = os.fork()
        if not pid:
            os.close(_STDIN)
            self._live(wanted, f"doomed-{number}")
        return pid

    def _live(self, wanted: dict[str, Any], node: str) -> NoReturn:
        chance = random.SystemRandom()
        point = wanted["point"]
        if point:
            arm(chance.choice(POINTS[point]), chance.randint(1, wanted["passages"]))
        pump(self._settings, wanted["lane"], node, width=wanted["width"])


def serve() -> None:
    """Waves follow each other until standard input ends."""
    settings = Settings.from_env()
    logs.configure(settings)
    gc.freeze()
    fleet = Fleet(settings)
    with open(_STDIN, "rb", buffering=0, closefd=False) as lines:  # so that select sees them all
        while line := lines.readline():
            wave = orjson.loads(line)
            fleet.staff(wave["pumps"])
            left = wave["kills"]
            while left > 0 or (not wave["kills"] and not _spoken_to()):
                fleet.fill()
                for point in fleet.deaths():
                    left -= 1
                    _tell(point)
                time.sleep(_LOOK)
                if _spoken_to() and left > 0:
                    break  # the campaign has given up, or is gone
            if not wave["kills"]:
                lines.readline()
            for point in fleet.end():
                _tell(point)
            _tell("done")


def _spoken_to() -> bool:
    return bool(select.select([_STDIN], [], [], 0)[0])


def _tell(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    serve()
