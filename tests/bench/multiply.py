"""Many instances from one real one: its rows, multiplied in Postgres with new ids and times.

What the engine wrote for the one is what stands there for each of the others, in every table that
names the instance, whatever its columns are. Only ids, unique texts and times differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, LiteralString, Self, cast

import psycopg2
from psycopg2 import extensions

from orch8.dev.postgres import ADMIN, EmbeddedPostgres

BATCH: Final = 20_000  # instances in one transaction
_FILLING: Final = {"max_wal_size": "16GB", "checkpoint_timeout": "30min"}

_TABLES: Final = """
SELECT c.oid::regclass::text, a.attname FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid
    AND a.attname = CASE c.relname WHEN 'instances' THEN 'id' ELSE 'instance_id' END
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence = 'p'
    AND c.relnamespace = 'public'::regnamespace
ORDER BY c.relname
"""
# A text is unique if it stands in a unique index that does not name the instance, too.
_COLUMNS: Final = """
SELECT a.attname, a.atttypid::regtype::text, EXISTS (
    SELECT FROM pg_index x WHERE x.indrelid = a.attrelid AND x.indisunique
        AND a.attnum = ANY (x.indkey) AND NOT EXISTS (
            SELECT FROM pg_attribute o WHERE o.attrelid = a.attrelid
                AND o.attnum = ANY (x.indkey) AND o.attname IN ('id', 'instance_id')))
FROM pg_attribute a
WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped
    AND a.attidentity = '' AND a.attgenerated = '' AND a.atttypid <> 'xid8'::regtype
ORDER BY a.attnum
"""
_MADE: Final = """
CREATE TEMP TABLE made (n bigint PRIMARY KEY, id uuid NOT NULL, age interval NOT NULL,
    due_at timestamptz)
"""
_MAKE: Final = """
INSERT INTO made SELECT n, uuidv7(-age), age, due_at FROM (
    SELECT n, %(age)s * (1 - n / %(of)s::float8) AS age,
        %(begin)s::timestamptz + n * %(gap)s::interval AS due_at
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) n) numbered
"""


@dataclass(frozen=True, slots=True)
class Due:
    """When the copies are due: the first at ``begin``, each further one ``gap`` later."""

    begin: datetime
    gap: timedelta = timedelta(0)


class Multiplier:
    """A connection of the superuser that copies instances; use as a context."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._connection: extensions.connection = psycopg2.connect(server.url_for(ADMIN))
        with self._connection, self._connection.cursor() as cursor:
            cursor.execute("SET synchronous_commit = off")
            cursor.execute(_MADE)
            cursor.execute(_TABLES)
            self._tables: Sequence[tuple[str, str]] = cursor.fetchall()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def multiply(
        self,
        template: str,
        count: int,
        *,
        age: timedelta = timedelta(0),
        due: Due | None = None,
        progress: Callable[[int], None] = lambda _done: None,
    ) -> None:
        """``count`` copies of the instance ``template`` exist.

        The first is ``age`` older than it, the last as old. Rows of steps with a due time get the
        one that ``due`` says, if it says one.
        """
        statements = [
            made
            for table, key in self._tables
            if (made := self._copying(table, key, template, due=due is not None)) is not None
        ]
        for first in range(0, count, BATCH):
            last = min(first + BATCH, count) - 1
            with self._connection, self._connection.cursor() as cursor:
                cursor.execute("TRUNCATE made")
                cursor.execute(_MAKE, {
                    "first": first, "last": last, "of": count, "age": age,
                    "begin": due and due.begin, "gap": due.gap if due else timedelta(0),
                })  # fmt: skip
                for statement in statements:
                    cursor.execute(statement, {"template": template})
            progress(last + 1)

    def settle_down(self) -> None:
        """Every table is vacuumed and analyzed, and a checkpoint is done."""
        with self._alone() as run:
            run("VACUUM (ANALYZE)")
            run("CHECKPOINT")

    def empty(self) -> None:
        """Nothing is left of any instance."""
        names = ", ".join(table for table, _ in self._tables)
        with self._alone() as run:
            run("SET session_replication_role = replica")  # the audit log refuses otherwise
            run(f"TRUNCATE {names}")
            run("RESET session_replication_role")
        self.settle_down()

    @contextmanager
    def filling(self) -> Iterator[None]:
        """Checkpoints are rare inside the block; what it wrote is on disk after it."""
        with self._alone() as run:
            for name, value in _FILLING.items():
                run(f"ALTER SYSTEM SET {name} = '{value}'")
            run("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            with self._alone() as run:
                for name in _FILLING:
                    run(f"ALTER SYSTEM RESET {name}")
                run("SELECT pg_reload_conf()")
        self.settle_down()

    def _copying(self, table: str, key: str, template: str, *, due: bool) -> str | None:
        """The statement that copies the template's rows of a table; None if it has none there."""
        with self._connection, self._connection.cursor() as cursor:
            cursor.execute(
                f"SELECT count(*), bool_or((to_jsonb(r) - %s - 'id')::text LIKE %s) "
                f"FROM {table} r WHERE {key} = %s",
                (key, f"%{template}%", template),
            )
            found = cursor.fetchone()
            assert found
            if not found[0]:
                return None
            if found[1]:
                raise RuntimeError(f"{table} names the instance in a column that cannot be copied")
            cursor.execute(_COLUMNS, (table,))
            columns = {
                name: _value(name, kind, unique=unique, key=key, due=due)
                for name, kind, unique in cursor.fetchall()
            }
        names = ", ".join(columns)
        values = ", ".join(columns.values())
        return (
            f"INSERT INTO {table} ({names}) SELECT {values} FROM made m "
            f"CROSS JOIN (SELECT * FROM {table} WHERE {key} = %(template)s) r ORDER BY m.n"
        )

    @contextmanager
    def _alone(self) -> Iterator[Callable[[str], None]]:
        """Statements that each are a transaction of their own."""
        self._connection.autocommit = True
        try:
            with closing(self._connection.cursor()) as cursor:
                yield lambda statement: cursor.execute(cast("LiteralString", statement))
        finally:
            self._connection.autocommit = False


def _value(name: str, kind: str, *, unique: bool, key: str, due: bool) -> str:
    """What a column of a copy holds."""
    if name == key:
        return "m.id"
    if name == "id" and kind == "uuid":
        return "uuidv7(-m.age)"
    if name == "due_at" and due:
        return "CASE WHEN r.due_at IS NOT NULL THEN m.due_at END"
    if kind == "text" and unique and name not in {"tenant_id", "namespace"}:
        return f"r.{name} || '-' || m.id"
    return f"r.{name} - m.age" if kind == "timestamp with time zone" else f"r.{name}"
