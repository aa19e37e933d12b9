"""What Postgres spent its time on, statement by statement, from pg_stat_statements."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import psycopg2

from orch8.dev.postgres import ADMIN, EmbeddedPostgres

_TOP = """
SELECT left(regexp_replace(query, '\\s+', ' ', 'g'), 90), calls, rows, total_exec_time
FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid AND d.datname = current_database()
ORDER BY total_exec_time DESC LIMIT %s
"""


@dataclass(frozen=True, slots=True)
class Statement:
    """One kind of statement: how it begins, and its calls, rows and milliseconds in all."""

    text: str
    calls: int
    rows: int
    ms: float


def forget(server: EmbeddedPostgres) -> None:
    """The counting begins anew. psycopg2.Error if the extension is not there."""
    _ask(server, "SELECT 1 FROM pg_stat_statements_reset()", ())


def busiest(server: EmbeddedPostgres, most: int = 12) -> list[Statement]:
    """The statements that took the longest in all, since the counting began."""
    return [Statement(*row) for row in _ask(server, _TOP, (most,))]


def _ask(
    server: EmbeddedPostgres, statement: str, parameters: tuple[object, ...]
) -> list[tuple[str, int, int, float]]:
    with (
        contextlib.closing(psycopg2.connect(server.url_for(ADMIN))) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(statement, parameters)
        found: list[tuple[str, int, int, float]] = cursor.fetchall()
        connection.commit()
        return found
