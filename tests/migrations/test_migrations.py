"""The schema: up, down and up again; partitions ahead; what is append-only stays as it was."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta

import psycopg2
import pytest

from orch8.storage.migrate import APPEND_ONLY, MONTHS_AHEAD, migrate
from tests.support.house import House, execute
from tests.support.servers import Database, clone

TABLES = {
    "sequences", "instances", "contexts", "instance_state", "steps", "evidence", "signals",
    "audit_log", "workers", "handlers", "pull_workers", "rate_limits", "dev_clock",
}  # fmt: skip


@pytest.fixture
def database(postgres: Database) -> Database:
    """A migrated database that a test may take apart."""
    return clone(postgres.server, f"{postgres.name}_migrations")


def schema(database: Database) -> list[str]:
    """Every column, index, constraint, trigger and grant of the schema, as text."""
    queries = (
        (
            "SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable"
            " || ' ' || COALESCE(column_default, '') AS t FROM information_schema.columns"
            " WHERE table_schema = 'public'"
        ),
        "SELECT indexdef AS t FROM pg_indexes WHERE schemaname = 'public'",
        (
            "SELECT conrelid::regclass || ' ' || pg_get_constraintdef(oid) AS t FROM pg_constraint"
            " WHERE connamespace = 'public'::regnamespace"
        ),
        "SELECT pg_get_triggerdef(oid) AS t FROM pg_trigger WHERE NOT tgisinternal",
        (
            "SELECT grantee || ' ' || privilege_type || ' ' || table_name AS t"
            " FROM information_schema.role_table_grants WHERE table_schema = 'public'"
        ),
        (
            "SELECT pg_get_functiondef(p.oid) AS t FROM pg_proc p"
            " WHERE pronamespace = 'public'::regnamespace"
        ),
    )
    return sorted(row.t for query in queries for row in execute(database.admin_url, query))


def tables(database: Database) -> set[str]:
    found = execute(
        database.admin_url,
        "SELECT c.relname FROM pg_class c WHERE relnamespace = 'public'::regnamespace"
        " AND relkind IN ('r', 'p') AND NOT relispartition",
    )
    return {row.relname for row in found}


def test_migrations_go_up_and_down_and_up_again(database: Database) -> None:
    """Down leaves nothing behind, and up makes the same schema and rights again."""
    before = schema(database)
    assert tables(database) >= TABLES
    migrate(database.owner_url, database.url, revision="base")
    assert tables(database) <= {"alembic_version"}
    left = execute(
        database.admin_url,
        "SELECT proname FROM pg_proc p WHERE pronamespace = 'public'::regnamespace AND NOT EXISTS ("
        "SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')",  # an extension's
    )
    assert left == []
    migrate(database.owner_url, database.url)
    assert schema(database) == before


def test_migrations_may_be_run_again(database: Database) -> None:
    """A second run changes nothing."""
    before = schema(database)
    migrate(database.owner_url, database.url)
    assert schema(database) == before


def test_audit_log_has_partitions_for_a_year(database: Database) -> None:
    """Each of the next twelve months has its own; an entry of today is in this month's."""
    found = execute(
        database.admin_url,
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits"
        " WHERE inhparent = 'audit_log'::regclass ORDER BY 1",
    )
    month, wanted = datetime.now(UTC).replace(day=1), []
    for _ in range(MONTHS_AHEAD):
        wanted.append(f"audit_log_{month:%Y_%m}")
        month = (month + timedelta(days=32)).replace(day=1)
    assert {row.name for row in found} >= {*wanted, "audit_log_rest"}


def test_audit_entries_are_in_the_partition_of_their_month(house: House) -> None:
    """Ids carry the time, and so decide the partition."""
    house.publish({"type": "step", "handler": "noop"})
    (place,) = house.sql("SELECT DISTINCT tableoid::regclass::text AS name FROM audit_log")
    assert place.name == f"audit_log_{datetime.now(UTC):%Y_%m}"


def forbidden(database: Database) -> list[tuple[str, str]]:
    """Every statement that would change what is append-only, and the table that it names."""
    names = [*APPEND_ONLY, f"audit_log_{datetime.now(UTC):%Y_%m}", "audit_log_rest"]
    made = []
    for name in names:
        made += [
            (name, f"UPDATE {name} SET tenant_id = 'x'"),
            (name, f"DELETE FROM {name}"),
            (name, f"TRUNCATE {name}"),
        ]
    return made


def fill(house: House) -> None:
    """There is an audit entry and a piece of evidence."""
    house.handler("charge", lambda _: 1 / 0)
    house.run({"type": "step", "handler": "charge", "retry": {"max_attempts": 1, "backoff": "9h"}})
    assert house.sql("SELECT 1 FROM evidence")
    assert house.sql("SELECT 1 FROM audit_log")


def test_application_cannot_change_what_is_append_only(house: House) -> None:
    """The application's role has no right to, on the tables and on their partitions."""
    fill(house)
    for name, statement in forbidden(house.database):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            execute(house.database.url, statement)
        assert name


def test_owner_is_stopped_by_a_trigger(house: House) -> None:
    """Even the owner of the tables has to take a trigger away first."""
    fill(house)
    with closing(psycopg2.connect(house.database.owner_url)) as connection:
        for name, statement in forbidden(house.database):
            if name == "audit_log_rest" and "TRUNCATE" not in statement:
                continue  # it is empty: no row, no trigger
            with pytest.raises(psycopg2.Error, match="append-only"):
                connection.cursor().execute(statement)
            connection.rollback()


def test_application_owns_nothing_and_may_not_create(house: House) -> None:
    """A stolen application password does not change the schema."""
    for statement in (
        "CREATE TABLE x (a int)",
        "DROP TABLE steps",
        "ALTER TABLE steps DROP COLUMN id",
    ):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            execute(house.database.url, statement)
