"""What all engines share in one run: a Postgres, a Redis, the handler; and the commits counted.

Every engine has a database of its own on the same server, with the same settings.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import psycopg2

from orch8.dev.postgres import ADMIN, EmbeddedPostgres
from orch8.dev.redis import EmbeddedRedis
from tests.support.stack import HandlerProcess

# The log must still be there when its commits are counted.
SETTINGS = {"wal_keep_size": "2GB"}
_COMMITS = re.compile(r"^\s*Transaction/COMMIT\s+(\d+)", re.MULTILINE)
_WITHIN = 60.0


class Bed:
    """Postgres with fsync on, Redis with its file on, and a handler that answers at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.postgres = EmbeddedPostgres(folder / "servers", settings=SETTINGS)
        self.redis = EmbeddedRedis(folder / "servers")
        self.handler = HandlerProcess(("-m", "tests.bench.handler", "{port}"), folder)
        self._connections: dict[str, Any] = {}

    def __enter__(self) -> Self:
        try:
            self.postgres.start()
            self.redis.start()
            self.handler.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing runs any more, and the data are gone."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()
        self.handler.stop()
        self.redis.stop()
        self.postgres.erase()

    def parts(self) -> dict[str, Sequence[int]]:
        """The shared processes, for the account of CPU time."""
        pids = {
            "postgres": self.postgres.pid,
            "redis": self.redis.pid,
            "handler": self.handler.child.pid,
        }
        return {name: [pid] for name, pid in pids.items() if pid}

    def create(self, database: str) -> bool:
        """The database exists; whether it is new."""
        known = "SELECT FROM pg_database WHERE datname = %s"
        if self.ask(known, (database,), database=ADMIN):
            return False
        self._do(f'CREATE DATABASE "{database}"')
        return True

    def settle(self) -> None:
        """What earlier engines wrote is on disk, so that the next one does not pay for it."""
        self._do("CHECKPOINT")

    def ask(
        self, statement: str, parameters: Sequence[Any] = (), *, database: str
    ) -> list[tuple[Any, ...]]:
        """The rows of a query. psycopg2.Error if it fails."""
        with self._connection(database).cursor() as cursor:
            cursor.execute(statement, parameters)
            return list(cursor.fetchall())

    def position(self) -> str:
        """How far Postgres' log has been written: a place for ``commits``."""
        ((at,),) = self.ask("SELECT pg_current_wal_flush_lsn()::text", database=ADMIN)
        return str(at)

    def commits(self, since: str, to: str) -> int | None:
        """The commits in a stretch of the log; None if it cannot be read.

        Transactions that only read are not in the log, and cost no fsync.
        """
        if since == to:
            return 0
        program = self.postgres.program("pg_waldump")
        if program is None:
            return None
        folder = str(self.postgres.directory / "pg_wal")
        place = (f"--path={folder}", f"--start={since}", f"--end={to}")
        done = subprocess.run(
            [str(program), "--rmgr=Transaction", "--stats=record", *place],
            capture_output=True,
            text=True,
            timeout=_WITHIN,
            check=False,
        )
        if done.returncode:
            return None
        found = _COMMITS.search(done.stdout)
        return int(found[1]) if found else 0

    def _do(self, statement: str) -> None:
        with self._connection(ADMIN).cursor() as cursor:
            cursor.execute(statement)

    def _connection(self, database: str) -> Any:
        """The connection to a database, kept open: a look must not cost the start of a backend."""
        if database not in self._connections:
            opened = psycopg2.connect(self.postgres.url_for(ADMIN, database))
            opened.autocommit = True
            self._connections[database] = opened
        return self._connections[database]
