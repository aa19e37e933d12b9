"""The schema of months: an installation becomes one of months without a copy, and back again."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg2
import pytest

from orch8.storage.ids import uuid7
from orch8.storage.migrate import migrate
from orch8.storage.months import OWNED, Month
from tests.support.house import execute
from tests.support.servers import Database, clone

BEFORE = "0014"  # the migration before months


@pytest.fixture
def database(postgres: Database) -> Database:
    """A database as it was before months, with a few instances."""
    database = clone(postgres.server, f"{postgres.name}_months")
    migrate(database.owner_url, database.url, revision="base")
    migrate(database.owner_url, database.url, revision=BEFORE)
    fill(database, 20)
    return database


def fill(database: Database, count: int) -> None:
    """So many instances with a step and a context each, every other one with a key."""
    for n in range(count):
        key = f"k{n}" if n % 2 else None
        execute(
            database.owner_url,
            """WITH i AS (
                INSERT INTO instances (id, sequence_id, state, snapshot, lane, priority,
                    idempotency_key, created_at, updated_at)
                VALUES (%s, %s, 'running', '{}', 'bulk', 'Low', %s, now(), now()) RETURNING id),
            c AS (INSERT INTO contexts (instance_id, version, body) SELECT id, 1, '{}' FROM i)
            INSERT INTO steps (instance_id, node_key, id, block_id, handler, effect, state, lane,
                created_at)
            SELECT id, 'a', id, 'a', 'h', 'none', 'waiting', 'bulk', now() FROM i""",
            uuid7(),
            uuid7(),
            key,
        )


def rows(database: Database) -> list[object]:
    """Everything in the tables, in order."""
    return [
        execute(database.owner_url, f"SELECT t::text FROM {table} t ORDER BY 1") for table in OWNED
    ]


def files(database: Database, oids: list[int]) -> dict[int, int]:
    """In which file each table or index is."""
    found = execute(
        database.owner_url,
        "SELECT oid, pg_relation_filenode(oid) AS file FROM pg_class WHERE oid = ANY(%s::oid[])",
        oids,
    )
    return {row.oid: row.file for row in found}


def oids(database: Database, table: str) -> list[int]:
    """A table and its indexes."""
    found = execute(
        database.owner_url,
        "SELECT %s::regclass::oid AS oid UNION ALL "
        "SELECT indexrelid FROM pg_index WHERE indrelid = %s::regclass",
        table,
        table,
    )
    return [row.oid for row in found]


def test_installation_becomes_one_of_months_without_a_copy(database: Database) -> None:
    """Every row stays in its file, and so does every index but that of the keys and ends."""
    before, were = rows(database), {}
    for table in OWNED:
        were |= files(database, oids(database, table))
    migrate(database.owner_url, database.url, revision="0020")
    assert rows(database) == before
    now = files(database, list(were))
    assert {oid: were[oid] for oid in now} == now
    assert len(were) - len(now) == 2
    month = Month.at(datetime.now(UTC))
    for table in OWNED:
        (there,) = execute(
            database.owner_url, f"SELECT DISTINCT tableoid::regclass::text AS name FROM {table}"
        )
        assert there.name == f"{table}_{month}"
    keys = execute(database.owner_url, "SELECT count(*) AS n FROM instance_keys")
    assert keys[0].n == 10


def test_indexes_of_months_are_those_of_the_table(database: Database) -> None:
    """Each partition has one for each of the table's, and none is left over or invalid."""
    migrate(database.owner_url, database.url)
    found = execute(
        database.owner_url,
        """SELECT t.inhparent::regclass::text AS parent, t.inhrelid::regclass::text AS part,
            count(*) AS indexes, count(i.inhparent) AS attached, bool_and(x.indisvalid) AS valid,
            (SELECT count(*) FROM pg_index p WHERE p.indrelid = t.inhparent) AS wanted
        FROM pg_inherits t JOIN pg_index x ON x.indrelid = t.inhrelid
        LEFT JOIN pg_inherits i ON i.inhrelid = x.indexrelid
        WHERE t.inhparent = ANY(%s::regclass[]) GROUP BY 1, 2, t.inhparent""",
        list(OWNED),
    )
    assert len(found) == len(OWNED) * 4  # this month, two ahead, the rest
    for row in found:
        assert row.indexes == row.attached == row.wanted, row
        assert row.valid


def test_fill_factor_of_each_partition_leaves_room_for_updates(database: Database) -> None:
    """Heap-only updates need room in the page."""
    migrate(database.owner_url, database.url)
    found = execute(
        database.owner_url,
        """SELECT inhparent::regclass::text AS parent, reloptions FROM pg_inherits
        JOIN pg_class ON oid = inhrelid
        WHERE inhparent IN ('steps'::regclass, 'instances'::regclass)""",
    )
    wanted = {"steps": ["fillfactor=85"], "instances": ["fillfactor=80"]}
    assert len(found) == 8
    assert all(row.reloptions == wanted[row.parent] for row in found)


def test_ids_of_the_next_month_move_the_bound(database: Database) -> None:
    """A clock that ran ahead has made them already."""
    month = Month.at(datetime.now(UTC))
    ahead = month.next.low
    execute(database.owner_url, "UPDATE instances SET id = %s WHERE id = (SELECT id FROM instances "
            "ORDER BY id DESC LIMIT 1)", ahead)  # fmt: skip
    migrate(database.owner_url, database.url)
    (there,) = execute(
        database.owner_url,
        "SELECT tableoid::regclass::text AS name FROM instances WHERE id = %s",
        ahead,
    )
    assert there.name == f"instances_{month.next}"


def test_months_go_back_to_one_table(database: Database) -> None:
    """With every row of every month, and one instance to a key again."""
    migrate(database.owner_url, database.url, revision="0020")
    execute(database.owner_url, "UPDATE instances SET id = %s WHERE id = (SELECT id FROM instances "
            "WHERE idempotency_key = 'k1')", Month.at(datetime.now(UTC)).next.low)  # fmt: skip
    before = rows(database)
    migrate(database.owner_url, database.url, revision="0020-1")
    assert rows(database) == before
    with pytest.raises(psycopg2.errors.UniqueViolation):
        execute(database.owner_url, "UPDATE instances SET idempotency_key = 'k1'")
    migrate(database.owner_url, database.url, revision="0020")
    assert rows(database) == before
