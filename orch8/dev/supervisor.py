"""Keeps a set of programs running: starts them, restarts those that crash, stops all in order."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from orch8.dev.process import Child, Command
from orch8.errors import ConfigurationError

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0  # seconds before a crashed program is started again
HEALTHY_AFTER = 30.0  # a program that ran this long starts over with the first pause
_POLL = 0.05


@dataclass(frozen=True, slots=True)
class Program:
    """A command and how to treat it: its place in the order of stopping, and after a crash."""

    command: Command
    tier: int  # lower tiers stop first; the members of a tier stop together
    grace: float = 3.0  # seconds between the request to stop and the kill
    restart: bool = False

    @property
    def name(self) -> str:
        """The name of the program, of its log and in messages."""
        return self.command.name


@dataclass(frozen=True, slots=True)
class Running:
    """How a program is now."""

    name: str
    pid: int | None  # None: it does not run
    exit_code: int | None  # of its last end; negative: the signal that ended it
    restarts: int
    last_words: str = ""  # how its last unwanted end came, with the end of its log


@dataclass(slots=True)
class _Post:
    """A program and its current process."""

    program: Program
    child: Child
    started_at: float = 0.0
    restarts: int = 0
    pause: float = FIRST_PAUSE
    start_again_at: float | None = None
    expected: bool = False  # it was stopped on purpose, or its end has been reported
    exit_code: int | None = None
    last_words: str = ""


class Supervisor:
    """Programs by name; safe to use from any thread. ``on_event`` hears one line per happening."""

    def __init__(self, logs: Path, on_event: Callable[[str], None] | None = None) -> None:
        self._logs = logs
        self._on_event = on_event or (lambda _line: None)
        self._posts: dict[str, _Post] = {}
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, program: Program) -> Child:
        """The program runs under its name and is looked after. ValueError if it runs already."""
        with self._lock:
            known = self._posts.get(program.name)
            if known is not None and known.child.pid is not None:
                raise ValueError(f"{program.name} runs already")
            child = Child(program.command, self._logs / f"{program.name}.log")
            child.start()
            post = _Post(program, child, started_at=time.monotonic())
            post.restarts = known.restarts + 1 if known else 0
            self._posts[program.name] = post
            if self._thread is None:
                self._over.clear()
                self._thread = threading.Thread(
                    target=self._look_after, name="supervisor", daemon=True
                )
                self._thread.start()
            return child

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """The program got the signal, from outside as it were; the answer is the pid that it had.

        LookupError if there is no such program or it does not run.
        """
        with self._lock:
            post = self._posts.get(name)
            pid = post.child.pid if post else None
            if post is None or pid is None:
                raise LookupError(f"{name} does not run")
            post.child.signal(number)
            return pid

    def stop(self, name: str) -> None:
        """The program is down and is not started again. LookupError if there is no such program."""
        with self._lock:
            post = self._posts.get(name)
            if post is None:
                raise LookupError(f"there is no program {name}")
            self._stop_together([post])

    def stop_all(self, within: float | None = None) -> None:
        """Nothing runs: ended tier by tier, each with its grace, all ``within`` these seconds."""
        self._over.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._thread = None
        deadline = None if within is None else time.monotonic() + within
        with self._lock:
            for tier in sorted({post.program.tier for post in self._posts.values()}):
                members = [p for p in self._posts.values() if p.program.tier == tier]
                self._stop_together(members, deadline)

    def running(self) -> Sequence[Running]:
        """How every program is now, in the order of their start."""
        with self._lock:
            for post in self._posts.values():
                self._notice(post)
            return tuple(
                Running(name, post.child.pid, post.exit_code, post.restarts, post.last_words)
                for name, post in self._posts.items()
            )

    def _stop_together(self, posts: Sequence[_Post], deadline: float | None = None) -> None:
        for post in posts:
            post.expected, post.start_again_at = True, None
            post.child.signal(post.program.command.stop)
        asked_at = time.monotonic()
        for post in posts:
            until = asked_at + post.program.grace
            until = until if deadline is None else min(until, deadline)
            post.child.wait_end(max(0.0, until - time.monotonic()))
            post.child.signal(signal.SIGKILL)
        for post in posts:
            post.child.wait_end(1.0)
            post.exit_code = post.child.poll()

    def _look_after(self) -> None:
        while not self._over.wait(_POLL):
            with self._lock:
                for post in self._posts.values():
                    self._notice(post)
                    if post.start_again_at is not None and time.monotonic() >= post.start_again_at:
                        self._start_again(post)

    def _notice(self, post: _Post) -> None:
        """Record an end that nobody asked for, and plan what follows."""
        code = post.child.poll()
        if code is None or post.expected:
            return
        child = post.child
        post.expected, post.exit_code = True, code
        post.last_words = f"{child.obituary()}; {child.log} ends: {child.tail()}"
        if not post.program.restart:
            self._on_event(f"{child.obituary()}; its log: {child.log}")
            return
        now = time.monotonic()
        if now - post.started_at >= HEALTHY_AFTER:
            post.pause = FIRST_PAUSE
        post.start_again_at = now + post.pause
        self._on_event(f"{child.obituary()}; starting it again in {post.pause:g} s")
        post.pause = min(2 * post.pause, LONGEST_PAUSE)

    def _start_again(self, post: _Post) -> None:
        post.start_again_at = None
        post.started_at = time.monotonic()
        post.restarts += 1
        try:
            post.child.start()
        except ConfigurationError as error:
            self._on_event(str(error))
            return
        post.expected = False
        self._on_event(f"{post.program.name} runs again (process {post.child.pid})")
