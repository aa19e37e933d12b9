"""The fleet of forked pumps: as many as wanted run, those that were killed are replaced."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

from orch8.dev.lifeline import LIFELINE, PROGRAMS
from tests.support.stack import ROOT

_STOP_WITHIN = 5.0


class Forks:
    """A fork server and its children. Use as a context; for one thread."""

    def __init__(self, env: Mapping[str, str], lane: str, size: int, log: Path) -> None:
        self._env, self._lane, self._size, self._log = env, lane, size, log
        self._pids: list[int] = []
        self._server: subprocess.Popen[bytes] | None = None

    def fill(self) -> None:
        """The fleet has its full size."""
        while len(self._pids) < self._size:
            self._pids.append(self._fork())

    def kill_one(self, chance: random.Random) -> None:
        """One of the older half of the pumps, drawn by lot, got SIGKILL and has been replaced.

        The youngest have no work yet, and their death would prove little.
        """
        pid = self._pids.pop(chance.randrange((len(self._pids) + 1) // 2))
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        self.fill()

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.forkserver", self._lane],
                env=dict(self._env),
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        LIFELINE.watch(self._server.pid, signal.SIGTERM, PROGRAMS)
        self.fill()
        return self

    def __exit__(self, *_: object) -> None:
        server = self._server
        if server is None or server.stdin is None or server.stdout is None:
            return
        server.stdin.close()
        server.stdout.close()
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait(_STOP_WITHIN)
        LIFELINE.forget(server.pid)

    def _fork(self) -> int:
        assert self._server is not None
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(b"fork\n")
        self._server.stdin.flush()
        line = self._server.stdout.readline()
        if not line:
            raise RuntimeError(f"the fork server has died; its log: {self._log}")
        return int(line)
