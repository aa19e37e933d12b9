"""The real servers of a test session: one Postgres for all its processes, one Redis for each.

The first process that needs Postgres starts it and migrates the database ``orch8``; every process
works on a clone of that database. Whoever started the server leaves last. All of it is told by
file locks, which end with their holder, however it ends.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg2
import pytest

from orch8.dev.folders import FolderLock
from orch8.dev.postgres import ADMIN, APPLICATION, OWNER, EmbeddedPostgres
from orch8.dev.redis import EmbeddedRedis
from orch8.errors import ConfigurationError
from orch8.storage.migrate import migrate

_START_WITHIN = 60.0
_OTHERS_WITHIN = 900.0


@dataclass(frozen=True, slots=True)
class Database:
    """A migrated database that belongs to one test process."""

    name: str
    server: EmbeddedPostgres

    @property
    def url(self) -> str:
        """The database as the application role."""
        return self.server.url_for(APPLICATION, self.name)

    @property
    def owner_url(self) -> str:
        """The database as the owner of its tables."""
        return self.server.url_for(OWNER, self.name)

    @property
    def admin_url(self) -> str:
        """The database as superuser."""
        return self.server.url_for(ADMIN, self.name)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A migrated database for this process in a real Postgres, which is its ``server``."""
    process = os.environ.get("PYTEST_XDIST_WORKER")
    base = tmp_path_factory.getbasetemp()
    with _shared_server(base.parent if process else base) as server:
        yield clone(server, f"orch8_{process or 'main'}")


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """A real Redis-compatible server for this process alone, so that a test may flush it."""
    with EmbeddedRedis(tmp_path_factory.mktemp("redis"), durable=False) as server:
        yield server


def clone(server: EmbeddedPostgres, name: str) -> Database:
    """A fresh copy of the migrated database exists under the name; an older one is gone."""
    with contextlib.closing(psycopg2.connect(server.admin_url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            cursor.execute(f'CREATE DATABASE "{name}" TEMPLATE orch8 OWNER {OWNER}')
    return Database(name, server)


class Spares:
    """Databases that earlier tests are done with: emptied, they are as good as new copies, which
    take a second each.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[Any, Any]] = {}  # what each was made of, and its first rows

    def take(self, server: EmbeddedPostgres, name: str) -> Database:
        """A migrated database without a row that a test has written."""
        database = Database(name, server)
        if name in self._known:
            made_of, rows = self._known[name]
            with _superuser(database) as cursor:
                if _shape(cursor) == made_of:
                    _empty(cursor, rows)
                    return database
        database = clone(server, name)
        with _superuser(database) as cursor:
            self._known[name] = _shape(cursor), _first_rows(cursor)
        return database


# What a test may have changed besides rows: then its database is not used again.
_SHAPE: Final = """
SELECT (SELECT (count(*), max(oid::bigint)) FROM pg_class),
    (SELECT count(*) FROM pg_inherits), (SELECT count(*) FROM pg_attribute),
    (SELECT (count(*), max(oid::bigint)) FROM pg_constraint), (SELECT count(*) FROM pg_trigger),
    (SELECT string_agg(prosrc, '' ORDER BY oid) FROM pg_proc
     WHERE pronamespace = 'public'::regnamespace)"""
_TABLES: Final = """
SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND NOT relispartition
    AND relkind IN ('r', 'p') AND relname <> 'alembic_version' ORDER BY relname"""

_OTHERS: Final = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()"""


@contextlib.contextmanager
def _superuser(database: Database) -> Iterator[Any]:
    with (
        contextlib.closing(psycopg2.connect(database.admin_url)) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        yield cursor


def _shape(cursor: Any) -> Any:
    cursor.execute(_SHAPE)
    return cursor.fetchone()


def _tables(cursor: Any) -> list[str]:
    cursor.execute(_TABLES)
    return [name for (name,) in cursor.fetchall()]


def _first_rows(cursor: Any) -> list[tuple[str, str]]:
    """The rows that a migrated database has from the first, each with its table."""
    found = []
    for table in _tables(cursor):
        cursor.execute(f'SELECT to_jsonb(t)::text FROM "{table}" t')
        found += [(table, row) for (row,) in cursor.fetchall()]
    return found


def _empty(cursor: Any, rows: list[tuple[str, str]]) -> None:
    cursor.execute(_OTHERS)
    # Not TRUNCATE, which makes new files for every table, index and month.
    cursor.execute("SET session_replication_role = replica")
    cursor.execute(";".join(f'DELETE FROM "{table}"' for table in _tables(cursor)))
    for table, row in rows:
        sql = (
            f'INSERT INTO "{table}" SELECT * FROM jsonb_populate_record(NULL::"{table}", %s::jsonb)'
        )
        cursor.execute(sql, (row,))


@contextlib.contextmanager
def _shared_server(base: Path) -> Iterator[EmbeddedPostgres]:
    """The session's Postgres runs at least until the block ends."""
    folder = base / "servers"
    users = folder / "users"
    users.mkdir(parents=True, exist_ok=True)
    server = EmbeddedPostgres(folder, durable=False)
    mutex, owner = FolderLock(folder / "mutex"), FolderLock(folder / "owner")
    user = FolderLock(users / str(os.getpid()))
    with _holding(mutex):
        user.hold("a test process holds its own lock already")
        starter = _try(owner)
        if starter:
            _start(server)
    try:
        yield server
    finally:
        user.release()
        if starter:
            _leave_last(users, mutex, server)
            owner.release()


def _start(server: EmbeddedPostgres) -> None:
    """The server runs with the migrated database, or is gone."""
    try:
        server.start()
        migrate(server.owner_url, server.url)
    except BaseException:
        server.erase()
        raise


def _leave_last(users: Path, mutex: FolderLock, server: EmbeddedPostgres) -> None:
    deadline = time.monotonic() + _OTHERS_WITHIN
    while True:
        with _holding(mutex):
            others = any(_held(FolderLock(path)) for path in users.iterdir())
            if not others or time.monotonic() > deadline:
                server.erase()
                return
        time.sleep(0.05)


@contextlib.contextmanager
def _holding(lock: FolderLock) -> Iterator[None]:
    lock.hold("process {pid} has been starting the test servers for a minute", _START_WITHIN)
    try:
        yield
    finally:
        lock.release()


def _try(lock: FolderLock) -> bool:
    try:
        lock.hold("taken")
    except ConfigurationError:
        return False
    return True


def _held(lock: FolderLock) -> bool:
    if _try(lock):
        lock.release()
        return False
    return True
