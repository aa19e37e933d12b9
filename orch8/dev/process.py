"""One child process: its own session and process group, a log file, a stop that always ends it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from orch8.dev.lifeline import LIFELINE, PROGRAMS
from orch8.errors import ConfigurationError

LOG_LIMIT = 10 * 1024 * 1024  # bytes; a longer log is set aside as <name>.log.1 at the next start
_TAIL = 8192
_POLL = 0.02


@dataclass(frozen=True, slots=True)
class Account:
    """The user that a child runs as."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Command:
    """What to run. ``env`` is the whole environment of the child, None means this process's own."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    account: Account | None = None
    stop: signal.Signals = signal.SIGTERM
    wave: int = PROGRAMS


class Child:
    """A process that runs a Command, or the memory of one that did. For one thread at a time."""

    def __init__(self, command: Command, log: Path) -> None:
        self.command = command
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """The number of the running process, or None."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else None

    def start(self) -> None:
        """The command runs in a session of its own, its output appended to the log."""
        if self.poll() is None and self._process is not None:
            raise RuntimeError(f"{self.command.name} runs already")
        with contextlib.suppress(FileNotFoundError):
            if self.log.stat().st_size > LOG_LIMIT:
                self.log.replace(self.log.with_name(f"{self.log.name}.1"))
        account = self.command.account
        try:
            with self.log.open("ab") as log:
                self._log_start = log.tell()
                self._process = subprocess.Popen(
                    self.command.argv,
                    env=None if self.command.env is None else dict(self.command.env),
                    cwd=self.command.cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    user=account.uid if account else None,
                    group=account.gid if account else None,
                    extra_groups=[] if account else None,
                )
        except (OSError, subprocess.SubprocessError) as error:
            raise ConfigurationError(f"{self.command.name} cannot be started: {error}") from error
        LIFELINE.watch(self._process.pid, self.command.stop, self.command.wave)

    def poll(self) -> int | None:
        """The exit code (negative: the signal that ended it), or None while it runs or never ran.

        When it has ended, nothing of its process group runs any more either.
        """
        if self._process is None or self._process.returncode is not None:
            return None if self._process is None else self._process.returncode
        code = self._process.poll()
        if code is not None:
            self._sweep(self._process.pid)
            LIFELINE.forget(self._process.pid)
        return code

    def wait_ready(self, ready: Callable[[], bool], within: float) -> None:
        """``ready()`` has answered True. ConfigurationError if the process or the time ends."""
        deadline = time.monotonic() + within
        while not ready():
            if self.poll() is not None:
                raise ConfigurationError(f"{self.obituary()}; {self.log} ends: {self.tail()}")
            if time.monotonic() >= deadline:
                raise ConfigurationError(
                    f"{self.command.name} was not ready within {within:g} s; "
                    f"its log {self.log} ends: {self.tail()}"
                )
            time.sleep(_POLL)

    def wait_end(self, within: float) -> bool:
        """Whether the process has ended, after at most ``within`` seconds."""
        deadline = time.monotonic() + within
        while self.poll() is None and self._process is not None:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL)
        return True

    def signal(self, number: signal.Signals) -> None:
        """The process, if it still runs, got the signal; SIGKILL goes to its whole group."""
        if self.poll() is not None or self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(self._process.pid, number)
            else:
                os.kill(self._process.pid, number)

    def stop(self, grace: float) -> None:
        """The process and its group are gone: asked to end, then killed after ``grace`` seconds."""
        self.signal(self.command.stop)
        if not self.wait_end(grace):
            self.signal(signal.SIGKILL)
            self.wait_end(grace)

    def tail(self, lines: int = 1) -> str:
        """The last lines that this run wrote to the log."""
        return " | ".join(self.output().strip().splitlines()[-lines:]) or "(empty)"

    def output(self) -> str:
        """What this run wrote to the log, at most its last 8 KiB."""
        with contextlib.suppress(OSError), self.log.open("rb") as log:
            log.seek(max(self._log_start, log.seek(0, os.SEEK_END) - _TAIL))
            return log.read().decode(errors="replace")
        return ""

    def obituary(self) -> str:
        """How the process ended, in words."""
        code = self.poll()
        if code is None:
            return f"{self.command.name} runs"
        if code >= 0:
            return f"{self.command.name} ended with code {code}"
        with contextlib.suppress(ValueError):
            return f"{self.command.name} was ended by {signal.Signals(-code).name}"
        return f"{self.command.name} was ended by signal {-code}"

    @staticmethod
    def _sweep(group: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
