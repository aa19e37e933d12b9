"""orch8 migrate: the schema at its newest, partitions ahead of time, rights for the application."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import sqlalchemy
from alembic import command
from alembic.config import Config
from psycopg2 import sql

from orch8.storage.months import PARTITIONED
from orch8.storage.transaction import psycopg2_url

MONTHS_AHEAD = 12  # of the audit log, the present one among them
APPEND_ONLY = ("audit_log", "evidence")


def migrate(owner_url: str, app_url: str, *, revision: str = "head") -> None:
    """The schema is at ``revision``, the months to come have their partitions, and the role of
    ``app_url`` may work with the tables but not change or delete what is append-only.
    """
    engine = sqlalchemy.create_engine(psycopg2_url(owner_url))
    try:
        with engine.connect() as connection:
            # Two migrations at once: the second waits, then finds nothing to do.
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(80867238)")
            run_alembic(connection, revision)
            if _has_tables(connection):
                _make_months(connection)
                _grant(connection, owner_url, app_url)
            connection.commit()
    finally:
        engine.dispose()


def run_alembic(connection: sqlalchemy.Connection, revision: str) -> None:
    """The schema of ``connection`` is at ``revision``, up or down; the caller commits."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    if revision == "base" or "-" in revision:  # 0020-1 is the one before
        command.downgrade(config, revision)
    else:
        command.upgrade(config, revision)


def _has_tables(connection: sqlalchemy.Connection) -> bool:
    """Whether the schema is not at its base."""
    found = connection.exec_driver_sql("SELECT to_regclass('audit_log') IS NOT NULL")
    return bool(found.scalar())


def _make_months(connection: sqlalchemy.Connection) -> None:
    """The tables have partitions for the months to come, unless the schema is of before them."""
    found = connection.exec_driver_sql("SELECT to_regprocedure('orch8_months_ahead(text)')")
    if found.scalar() is not None:
        for table in PARTITIONED:
            connection.exec_driver_sql("SELECT orch8_months_ahead(%s)", (table,))


def _grant(connection: sqlalchemy.Connection, owner_url: str, app_url: str) -> None:
    app = sqlalchemy.make_url(app_url).username
    if not app or app == sqlalchemy.make_url(owner_url).username:
        return
    role = sql.Identifier(app)
    with closing(connection.connection.cursor()) as cursor:
        for statement in (
            "GRANT USAGE ON SCHEMA public TO {}",
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {}",
            *(f"REVOKE UPDATE, DELETE, TRUNCATE ON {table} FROM {{}}" for table in APPEND_ONLY),
        ):
            cursor.execute(sql.SQL(statement).format(role))
        cursor.execute("SELECT to_regprocedure('orch8_months_ahead(text)') IS NOT NULL")
        if cursor.fetchone() == (True,):
            grant = sql.SQL("GRANT EXECUTE ON FUNCTION orch8_months_ahead(text) TO {}")
            cursor.execute(grant.format(role))
        cursor.execute(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
            "WHERE i.inhparent = 'audit_log'::regclass"
        )
        for (partition,) in cursor.fetchall():
            revoke = sql.SQL("REVOKE UPDATE, DELETE, TRUNCATE ON {} FROM {}")
            cursor.execute(revoke.format(sql.Identifier(partition), role))
