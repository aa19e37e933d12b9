"""The campaign's handle on its fleet of doomed pump processes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

import orjson

from orch8.dev.lifeline import LIFELINE, PROGRAMS
from tests.support.stack import ROOT

_DIES_WITHIN: Final = 120.0  # seconds between two deaths: more means that the fleet has no work
_ENDS_WITHIN: Final = 30.0


@dataclass(frozen=True, slots=True)
class Berth:
    """One pump of the fleet. It dies at its ``point``, if it has one, once up to ``passages`` calls
    have come there, and is replaced. ``number`` tells berths apart that are alike.
    """

    number: int
    lane: str
    width: int
    point: str | None = None
    passages: int = 1


class Fleet:
    """A process that forks pumps, one wave after the other. Use as a context; for one thread."""

    def __init__(self, env: Mapping[str, str], log: Path) -> None:
        self._env, self._log = env, log
        self._server: subprocess.Popen[bytes] | None = None
        self._working = False

    def kill(self, kills: int, berths: Sequence[Berth], on_kill: Callable[[], None]) -> int:
        """At least so many pumps have died at their points, and no other runs; how many died."""
        self.rest()
        self._say(kills, berths)
        died = 0
        while self._hear(_DIES_WITHIN) != "done":
            died += 1
            on_kill()
        return died

    def work(self, berths: Sequence[Berth]) -> None:
        """Pumps that are not to die are at work until the next call."""
        self.rest()
        self._say(0, berths)
        self._working = True

    def rest(self) -> None:
        """No pump runs, and what they had under way is settled."""
        if self._working:
            self._working = False
            self._write(b"rest\n")
            while self._hear(_ENDS_WITHIN) != "done":
                pass

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos_money.fleetserver"],
                env=dict(self._env),
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                bufsize=0,
            )
        LIFELINE.watch(self._server.pid, signal.SIGTERM, PROGRAMS)
        return self

    def __exit__(self, *_: object) -> None:
        server = self._server
        if server is None or server.stdin is None or server.stdout is None:
            return
        server.stdin.close()
        server.stdout.close()
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait(_ENDS_WITHIN)
        LIFELINE.forget(server.pid)

    def _say(self, kills: int, berths: Sequence[Berth]) -> None:
        wave = {"kills": kills, "pumps": [asdict(berth) for berth in berths]}
        self._write(orjson.dumps(wave) + b"\n")

    def _write(self, line: bytes) -> None:
        assert self._server is not None
        assert self._server.stdin is not None
        self._server.stdin.write(line)

    def _hear(self, within: float) -> str:
        """The next word of the fleet. RuntimeError if there is none in time."""
        assert self._server is not None
        assert self._server.stdout is not None
        if not select.select([self._server.stdout], [], [], within)[0]:
            raise RuntimeError(f"nobody died in {within:g} s; the fleet's log: {self._log}")
        word = self._server.stdout.readline()
        if not word:
            raise RuntimeError(f"the fleet has died; its log: {self._log}")
        return word.decode().strip()
