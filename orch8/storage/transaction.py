"""The database: connections, transactions, and its errors in our own words.

Statements go to psycopg2 as they stand (no ORM, no server-side PREPARE, so PgBouncer in transaction
mode is fine). Rows come back as named tuples, JSON as Python values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

import orjson
import psycopg2
import psycopg2.errors
import psycopg2.extensions
import psycopg2.extras
import sqlalchemy
from sqlalchemy.pool import QueuePool

from orch8.errors import AlreadyExists, InvalidArgument, Unavailable
from orch8.storage.cipher import OPEN, Cipher

DatabaseProblem = psycopg2.Error  # what statements raise inside a transaction
Row = Any  # a named tuple of the columns that a statement returns

# Postgres keeps no NUL in text. In JSON it is written \\u0000, behind an even number of
# backslashes.
_NUL: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")

psycopg2.extras.register_uuid()  # type: ignore[no-untyped-call]
# The same few ids come back again and again: those of the instance with each of its steps, of its
# sequence and of the claimer. Parsing one anew takes twenty times as long as finding it. Kept are
# those of about a second: more would lie about among younger objects, and memory would grow by it.
_uuid = lru_cache(maxsize=8192)(UUID)
_UUID: Final = psycopg2.extensions.new_type((2950,), "UUID", lambda text, _: text and _uuid(text))
psycopg2.extensions.register_type(_UUID)
psycopg2.extras.register_default_jsonb(globally=True, loads=orjson.loads)
psycopg2.extras.register_default_json(globally=True, loads=orjson.loads)


class Tx:
    """An open transaction. Everything that touches the database takes one first.

    ``cipher`` seals and opens what is not kept in the clear. ``turns`` says which of the instances
    that share the transaction has something that only one may have.
    """

    __slots__ = ("_cursor", "cipher", "turns")

    def __init__(self, cursor: Any, cipher: Cipher = OPEN) -> None:
        self._cursor, self.cipher = cursor, cipher
        self.turns: dict[Any, UUID] = {}

    def rows(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Row]:
        """The rows that ``sql`` returns."""
        self._cursor.execute(sql, params)
        found: list[Row] = self._cursor.fetchall()
        return found

    def one(self, sql: str, params: Mapping[str, Any] | None = None) -> Row | None:
        """The first row that ``sql`` returns, or None."""
        self._cursor.execute(sql, params)
        return self._cursor.fetchone()

    def run(self, sql: str, params: Mapping[str, Any] | None = None) -> int:
        """How many rows ``sql`` changed."""
        self._cursor.execute(sql, params)
        changed: int = self._cursor.rowcount
        return changed


class Database:
    """A pool of connections to one Postgres, as one role."""

    def __init__(
        self, url: str, *, size: int = 5, name: str = "orch8", cipher: Cipher = OPEN
    ) -> None:
        self.cipher = cipher
        self.engine = sqlalchemy.create_engine(
            psycopg2_url(url),
            poolclass=QueuePool,
            pool_size=size,
            max_overflow=0,
            pool_timeout=5,
            pool_pre_ping=False,
            pool_recycle=1800,
            isolation_level="READ COMMITTED",
            connect_args={
                "application_name": name,
                "connect_timeout": 5,
                # Behind PgBouncer: ignore_startup_parameters = options, and set them on the role.
                # Statements find their few rows by keys: with the default random_page_cost of 4
                # the planner would read tables of some thousand rows from end to end instead.
                "options": "-c statement_timeout=5000 -c lock_timeout=2000"
                " -c idle_in_transaction_session_timeout=10000 -c random_page_cost=1.1",
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "cursor_factory": psycopg2.extras.NamedTupleCursor,
            },
        )
        # SQLAlchemy gives each new connection a reader of ids of its own, before this.
        sqlalchemy.event.listen(self.engine, "connect", _read_ids)

    @contextmanager
    def begin(self) -> Iterator[Tx]:
        """A transaction: committed at the end of the block, rolled back if it raises."""
        try:
            connection = self.engine.raw_connection()
        except (psycopg2.OperationalError, sqlalchemy.exc.TimeoutError) as problem:
            raise Unavailable(f"the database is away: {_first_line(problem)}") from problem
        try:
            cursor = connection.cursor()
            yield Tx(cursor, self.cipher)
            cursor.close()
            connection.commit()
        except psycopg2.Error as problem:
            _undo(connection, problem)
            raise _translated(problem) from problem
        except ValueError as problem:
            _undo(connection, None)
            if "NUL" in str(problem):  # psycopg2 says no more than that
                raise InvalidArgument("a text contains a NUL character; leave it out") from problem
            raise
        except BaseException:
            _undo(connection, None)
            raise
        finally:
            connection.close()

    def close(self) -> None:
        """Every pooled connection is closed."""
        self.engine.dispose()

    def after_fork(self) -> None:
        """Forget the connections inherited from the parent process without closing them."""
        self.engine.dispose(close=False)


def _read_ids(connection: Any, _: object) -> None:
    psycopg2.extensions.register_type(_UUID, connection)


def psycopg2_url(url: str) -> sqlalchemy.URL:
    """What users write (postgres://, postgresql://) with the driver that we use."""
    made = sqlalchemy.make_url(url.replace("postgres://", "postgresql://", 1))
    return made.set(drivername="postgresql+psycopg2")


def dumps(value: Any) -> str:
    """``value`` as JSON text for a statement's parameter; a NUL in a text becomes U+FFFD."""
    text = orjson.dumps(value).decode()
    return _NUL.sub(r"\1\\ufffd", text) if "\\u0000" in text else text


def storable(value: Any) -> Any:
    """The JSON value that will be read back when ``value`` is written: ``value`` itself, unless a
    text in it has a NUL.
    """
    text = orjson.dumps(value).decode()
    if "\\u0000" not in text:
        return value
    return orjson.loads(_NUL.sub(r"\1\\ufffd", text))


def _undo(connection: Any, problem: BaseException | None) -> None:
    lost = isinstance(problem, (psycopg2.OperationalError, psycopg2.InterfaceError))
    if lost and connection.dbapi_connection is not None and connection.dbapi_connection.closed:
        connection.invalidate()
        return
    try:
        connection.rollback()
    except psycopg2.Error:
        connection.invalidate()


def _translated(problem: psycopg2.Error) -> Exception:
    if isinstance(problem, psycopg2.errors.UniqueViolation):
        return AlreadyExists(f"an entry of {problem.diag.table_name or 'the database'} like this")
    if isinstance(problem, (psycopg2.OperationalError, psycopg2.InterfaceError)):
        return Unavailable(f"the database did not answer: {_first_line(problem)}", retry_after=1)
    return problem


def _first_line(problem: BaseException) -> str:
    return str(problem).strip().split("\n", 1)[0]
