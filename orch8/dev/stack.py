"""A whole orch8 on this machine: servers, migration, programs; started, watched and stopped as one.

Used by ``orch8 dev`` and, as a library, by the demo, the acceptance tests, chaos and bench.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from orch8.dev import programs
from orch8.dev.address import Address
from orch8.dev.environment import StackOptions, Urls, chosen_address, program_environment
from orch8.dev.folders import FolderLock, data_folder, own_folder
from orch8.dev.postgres import EmbeddedPostgres
from orch8.dev.redis import EmbeddedRedis
from orch8.dev.supervisor import Program, Running, Supervisor
from orch8.errors import ConfigurationError

__all__ = ["Interrupted", "Stack", "StackOptions", "Urls", "installation"]

READY_WITHIN = 60.0  # seconds
STOP_WITHIN = 4.5  # seconds in which programs and servers end by themselves
LEAST = 0.2  # seconds that a server has for it in any case; on a quiet machine it needs half of it

_POLL = 0.05

Migrate = Callable[[str, str], None]
Programs = Callable[["Stack"], Sequence[Program]]


class Interrupted(BaseException):
    """The start was called off."""


class Stack:
    """One stack, with the options of ``orch8 dev``.

    ORCH8_DATABASE_URL, ORCH8_BROKER_URL and ORCH8_REDIS_URL in ``environ`` replace its servers,
    ORCH8_HTTP_ADDR its address.
    ``migrate(owner_url, app_url)`` and ``programs`` are seams; left out, they are the real ones.
    """

    def __init__(
        self,
        options: StackOptions | None = None,
        environ: Mapping[str, str] | None = None,
        *,
        on_event: Callable[[str], None] | None = None,
        migrate: Migrate | None = None,
        programs: Programs | None = None,
    ) -> None:
        self.options = options or StackOptions()
        self.environ = dict(os.environ if environ is None else environ)
        self.postgres: EmbeddedPostgres | None = None
        self.redis: EmbeddedRedis | None = None
        self.address = Address("127.0.0.1", 0)
        self.env: dict[str, str] = {}
        self._on_event = on_event or (lambda _line: None)
        self._migrate = migrate or _migrate
        self._programs = programs or installation
        self._urls: Urls | None = None
        self._supervisor: Supervisor | None = None
        self._lock: FolderLock | None = None
        self._called_off = threading.Event()

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.options.data.expanduser().absolute()

    @property
    def logs(self) -> Path:
        """The folder of the log files, one per process."""
        return self.data / "logs"

    @property
    def urls(self) -> Urls:
        """Where the parts are. RuntimeError before the start."""
        if self._urls is None:
            raise RuntimeError("the stack has not been started")
        return self._urls

    @property
    def processes(self) -> Sequence[Running]:
        """How each process is now: embedded servers (``postgres``, ``redis``), then programs."""
        embedded = {"postgres": self.postgres, "redis": self.redis}
        servers = (Running(n, server.pid, None, 0) for n, server in embedded.items() if server)
        return (*servers, *(self._supervisor.running() if self._supervisor else ()))

    def start(self, within: float = READY_WITHIN) -> Self:
        """The API is ready and every program runs; else everything is stopped again.

        ConfigurationError says what to do: a port in use, a folder in use, a package missing, a
        program that ended at once.
        """
        data = data_folder(self.options.data)
        lock = FolderLock(data / "stack.lock")
        lock.hold(
            f"a stack already runs in {data} (process {{pid}}); "
            "stop that one, or choose another folder with --data"
        )
        self._lock = lock
        self._supervisor = None
        try:
            self.address = chosen_address(self.options, self.environ).claim()
            self._start_servers(data)
            self._check_called_off()
            self._migrate(self.urls.owner, self.urls.database)
            self._start_programs()
            self._wait_ready(within)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Nothing of the stack runs: beat, workers, web, Redis and Postgres ended in this order."""
        deadline = time.monotonic() + STOP_WITHIN
        if self._supervisor is not None:
            self._supervisor.stop_all(STOP_WITHIN)
        if self.redis is not None:
            self.redis.stop(max(deadline - time.monotonic(), LEAST))
        if self.postgres is not None:
            self.postgres.stop(max(deadline - time.monotonic(), LEAST))
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def call_off(self) -> None:
        """A start in progress ends with Interrupted soon. May be called by a signal handler."""
        self._called_off.set()

    def add(self, program: Program) -> None:
        """One more program runs as a part of the stack, such as a pretend payment provider."""
        self._supervision().start(program)

    def kill_worker(self, number: int, how: signal.Signals = signal.SIGKILL) -> int:
        """Worker ``number`` (from 1) got the signal; the answer is the pid that it had."""
        return self._supervision().kill(programs.worker_name(number), how)

    def stop_worker(self, number: int) -> None:
        """Worker ``number`` has ended as on a deployment, and is not started again."""
        self._supervision().stop(programs.worker_name(number))

    def start_worker(self, number: int) -> None:
        """Worker ``number`` runs: one more, or one that was stopped or killed before."""
        self._supervision().start(
            programs.worker(number, self.env, restart=self.options.restart_workers)
        )

    def lost_server(self) -> str:
        """The name of an embedded server that has died, or an empty text."""
        servers = {"postgres": self.postgres, "redis": self.redis}
        return next((n for n, server in servers.items() if server and not server.alive), "")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _supervision(self) -> Supervisor:
        if self._supervisor is None:
            self._supervisor = Supervisor(own_folder(self.logs), self._on_event)
        return self._supervisor

    def _start_servers(self, data: Path) -> None:
        given, durable = self.environ.get, self.options.durable
        database, broker = given("ORCH8_DATABASE_URL"), given("ORCH8_BROKER_URL")
        redis_url = given("ORCH8_REDIS_URL")
        owner = given("ORCH8_DATABASE_OWNER_URL") or database
        if not database or not owner:
            self.postgres = EmbeddedPostgres(data, durable=durable).start()
            database, owner = self.postgres.url, self.postgres.owner_url
        self._check_called_off()
        if not broker or not redis_url:
            self.redis = EmbeddedRedis(data, durable=durable).start()
            broker, redis_url = broker or self.redis.broker_url, redis_url or self.redis.redis_url
        self._urls = Urls(self.address.url, database, owner, broker, redis_url)
        self.env = program_environment(self.options, self.environ, self.urls, data)

    def _start_programs(self) -> None:
        for program in self._programs(self):
            self._check_called_off()
            self._supervision().start(program)

    def _wait_ready(self, within: float) -> None:
        deadline = time.monotonic() + within
        while answer := self.address.readiness():
            self._check_called_off()
            for process in self.processes:
                if process.last_words:
                    raise ConfigurationError(process.last_words)
            if time.monotonic() >= deadline:
                raise ConfigurationError(f"not ready in {within:g} s: {answer}; see {self.logs}")
            time.sleep(_POLL)

    def _check_called_off(self) -> None:
        if self._called_off.is_set():
            raise Interrupted


def installation(stack: Stack) -> Sequence[Program]:
    """The programs of a real orch8: web, workers, control worker, beat."""
    return programs.installation(
        stack.address.host,
        stack.address.port,
        stack.options.workers,
        stack.data,
        stack.env,
        restart=stack.options.restart_workers,
    )


def _migrate(owner_url: str, app_url: str) -> None:
    from orch8.storage.migrate import migrate  # noqa: PLC0415 - slow; only a real stack needs it

    migrate(owner_url, app_url)
