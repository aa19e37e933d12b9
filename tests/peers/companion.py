"""One process of a peer, in the peer's environment: it talks JSON lines, and ends with the driver.

The other side of the talk is ``tests/peers/programs/talk.py``.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orch8.dev.lifeline import LIFELINE, PROGRAMS
from tests.support.stack import ROOT

_GRACE = 5.0
_TAIL = 600


class Trouble(Exception):
    """A peer did not do what it was asked for; the text says what, in one line."""


class Companion:
    """A running process; its standard error goes to a log file."""

    def __init__(self, words: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self._log = log
        self._name = " ".join(words[-2:])
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                words,
                env=dict(env),
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        self._rest = b""
        LIFELINE.watch(self.pid, signal.SIGTERM, PROGRAMS)

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def tell(self, **words: Any) -> None:
        """The process can read the words. Trouble if it has ended."""
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps(words).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Trouble(self._obituary()) from None

    def hear(self, word: str, within: float) -> Any:
        """What the process says about ``word`` next. Trouble if it ends or takes too long."""
        assert self._process.stdout
        deadline = time.monotonic() + within
        while b"\n" not in self._rest:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Trouble(f"{self._name} did not say {word!r} within {within:g} s")
            if select.select([self._process.stdout], [], [], left)[0]:
                data = os.read(self._process.stdout.fileno(), 65536)
                if not data:
                    raise Trouble(self._obituary())
                self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)[word]

    def end(self, within: float) -> None:
        """The process has ended by itself. Trouble if it failed or takes too long."""
        assert self._process.stdin
        self._process.stdin.close()
        try:
            code = self._process.wait(within)
        except subprocess.TimeoutExpired:
            raise Trouble(f"{self._name} did not end within {within:g} s") from None
        if code:
            raise Trouble(self._obituary())

    def stop(self) -> None:
        """The process and its group are gone."""
        for number in (signal.SIGCONT, signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)
            if number == signal.SIGTERM:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_GRACE)
        self._process.wait(_GRACE)
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                assert pipe
                pipe.close()
        LIFELINE.forget(self.pid)

    def _obituary(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        said = self._log.read_bytes()[-_TAIL:].decode(errors="replace").strip().splitlines()
        return f"{self._name} ended: {said[-1] if said else 'no word in its log'}"
