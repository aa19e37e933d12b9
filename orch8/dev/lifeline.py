"""The line from a process to its watchdog: children registered here never outlive the process."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading

from orch8.dev import guard

SERVERS = 1  # the wave of databases; programs that use them end first, in wave 0
PROGRAMS = 0


class Lifeline:
    """A watchdog process and the children it has been told of; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        self._children: dict[int, tuple[int, int]] = {}

    def watch(self, pid: int, stop: signal.Signals, wave: int) -> None:
        """The child ends when this process does; ``stop`` is the signal that asks it to."""
        with self._lock:
            self._after_fork()
            self._children[pid] = (int(stop), wave)
            self._tell(f"+ {pid} {int(stop)} {wave}\n")

    def forget(self, pid: int) -> None:
        """The child has been reaped: its number may belong to a stranger from now on."""
        with self._lock:
            self._after_fork()
            if self._children.pop(pid, None) is not None:
                self._tell(f"- {pid}\n")

    def close(self) -> None:
        """The watchdog has ended what was still registered, and itself."""
        with self._lock:
            self._after_fork()
            watchdog, self._watchdog = self._watchdog, None
            self._children.clear()
        if watchdog is not None and watchdog.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                watchdog.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                watchdog.wait(timeout=2 * (SERVERS + 1) * guard.GRACE)

    def _tell(self, line: str) -> None:
        """Send a line; a watchdog that is missing or was killed is started with the whole list."""
        if self._watchdog is not None and self._watchdog.poll() is None:
            try:
                self._write(line)
            except BrokenPipeError:
                pass
            else:
                return
        self._watchdog = subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
        for pid, (stop, wave) in self._children.items():
            self._write(f"+ {pid} {stop} {wave}\n")

    def _write(self, line: str) -> None:
        if self._watchdog is not None and self._watchdog.stdin is not None:
            self._watchdog.stdin.write(line.encode())
            self._watchdog.stdin.flush()

    def _after_fork(self) -> None:
        """A forked copy of this process has children of its own, and not its parent's."""
        if self._owner != os.getpid():
            self._owner, self._watchdog, self._children = os.getpid(), None, {}


LIFELINE = Lifeline()
atexit.register(LIFELINE.close)
