"""The database floor: transactions, its errors in our words, retention, publishing."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg2
import pytest

from orch8.errors import AlreadyExists, InvalidArgument, Unavailable
from orch8.runtime.prune import prune
from orch8.runtime.publish import publish
from orch8.storage import gauges, instances
from orch8.storage.changes import Changes, write
from orch8.storage.rows import AuditEntry
from orch8.storage.transaction import Database, dumps, storable
from orch8.testing.misbehaviour import Do, Rule
from tests.support.house import House

CHARGE = {"type": "step", "handler": "charge"}
DAY = timedelta(days=1)


# -- transactions ------------------------------------------------------------------------------
def test_id_that_comes_back_is_not_parsed_again(house: House) -> None:
    """Two statements that read one id give the very same object: reading ids is the hot path."""
    sql = "SELECT '0198c0de-0000-7000-8000-000000000001'::uuid AS id, NULL::uuid AS none"
    with house.office.begin() as tx:
        first, second = tx.rows(sql)[0], tx.rows(sql)[0]
    assert isinstance(first.id, UUID)
    assert first.id is second.id
    assert first.none is None


def test_transaction_is_rolled_back_when_its_block_raises(house: House) -> None:
    """Whatever ends the block, what it wrote is gone and the connection usable."""
    entry = AuditEntry("default", "test", "x", "success")

    def fail(wrong: BaseException) -> None:
        with house.office.begin() as tx:
            write(tx, Changes(audit=[entry]))
            raise wrong

    for wrong in (RuntimeError("no"), KeyboardInterrupt()):
        with pytest.raises(type(wrong)):
            fail(wrong)
    with house.office.begin() as tx:
        assert tx.rows("SELECT id FROM audit_log WHERE action = 'x'") == []


def test_transaction_says_what_is_wrong_in_our_words(house: House) -> None:
    """A taken key exists already, a slow or lost server is Unavailable, a NUL the caller's."""
    twice = """INSERT INTO workers (id, node, lease_until)
               SELECT %(i)s, 'n', now() FROM generate_series(1, 2)"""
    with pytest.raises(AlreadyExists, match="an entry of workers"), house.office.begin() as tx:
        tx.run(twice, {"i": UUID(int=1)})
    with pytest.raises(Unavailable) as slow, house.office.begin() as tx:
        tx.run("SET LOCAL statement_timeout = 50; SELECT pg_sleep(5)")
    assert slow.value.retryable
    with pytest.raises(InvalidArgument, match="NUL"), house.office.begin() as tx:
        instances.instance_by_key(tx, "default", "a\x00b")
    with pytest.raises(psycopg2.Error), house.office.begin() as tx:
        tx.rows("SELECT no_such_column")
    with pytest.raises(ValueError, match="ours"), house.office.begin():
        raise ValueError("ours")


def test_transaction_takes_a_new_connection_after_a_lost_one(house: House) -> None:
    """A connection that the server closed is thrown away; the next transaction works."""
    pool = Database(house.settings.database_url, size=1)

    def cut() -> None:
        with pool.begin() as tx:
            pid = tx.rows("SELECT pg_backend_pid() AS pid")[0].pid
            house.sql_as_admin("SELECT pg_terminate_backend(%s, 5000)", pid)
            tx.rows("SELECT 1")

    with pytest.raises(Unavailable):
        cut()
    with pool.begin() as tx:
        assert tx.rows("SELECT 1 AS one")[0].one == 1
    pool.close()


def test_transaction_is_refused_without_a_server() -> None:
    """A database that is not there is Unavailable, not a driver's error."""
    pool = Database("postgres://nobody@127.0.0.1:9/nothing")
    with pytest.raises(Unavailable, match="away"), pool.begin():
        pytest.fail("there is no server")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"a": "x\x00"}, {"a": "x\ufffd"}),
        (["\\u0000", "\\\x00", "\\\\\x00"], ["\\u0000", "\\\ufffd", "\\\\\ufffd"]),
        ({"\x00": [None, True, 1.5]}, {"\ufffd": [None, True, 1.5]}),
    ],
)
def test_values_come_back_as_they_will_be_stored(house: House, given: Any, kept: Any) -> None:
    """Only NUL changes, and it changes in the same way in memory and on disk."""
    assert storable(given) == kept
    with house.office.begin() as tx:
        assert tx.rows("SELECT %(v)s::jsonb AS v", {"v": dumps(given)})[0].v == kept


# -- publishing --------------------------------------------------------------------------------
def test_publish_numbers_versions_and_knows_a_body_again(house: House) -> None:
    """The same body is no new version; a new one has the next number, which is its own."""
    first, same = house.publish(CHARGE), house.publish(CHARGE)
    assert (first.id, first.version) == (same.id, 1)
    assert house.publish(CHARGE, CHARGE).version == 2
    with pytest.raises(AlreadyExists, match="version 1"):
        house.publish(CHARGE, CHARGE, CHARGE, version=1)


def test_publish_at_once_gives_each_body_its_number(house: House) -> None:
    """Eight publications of a name at the same time are versions one to eight."""
    problems: list[BaseException] = []

    def one(n: int) -> None:
        try:
            with house.office.begin() as tx:
                body = {"id": "t", "blocks": [{**CHARGE, "params": {"n": n}}]}
                publish(house.office, tx, body, tenant_id=None, actor="test")
        except BaseException as problem:  # noqa: BLE001 - shown by the test
            problems.append(problem)

    threads = [threading.Thread(target=one, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert problems == []
    versions = house.sql("SELECT version FROM sequences ORDER BY version")
    assert [row.version for row in versions] == list(range(1, 9))


# -- retention ---------------------------------------------------------------------------------
def test_prune_deletes_what_ended_long_ago_and_nothing_in_doubt(house: House) -> None:
    """Ended instances go with all that is theirs; live and doubtful ones stay, and the audit."""
    house.provider_does(Rule(Do.FAIL_BEFORE, handler="doubt"))
    doubt = house.run({"type": "step", "handler": "doubt", "idempotency": {"ttl": "1h"},
                       "retry": {"max_attempts": 1, "backoff": "2h"}}, name="d")  # fmt: skip
    assert house.step(doubt, "doubt").state == "parked"
    keep = {"type": "step", "handler": "set_state", "params": {"key": "a", "value": 1}}
    done = house.run(CHARGE, keep)
    live = house.run({"type": "wait", "duration": "99d"}, name="l")
    house.advance(40 * DAY)
    fresh = house.start()
    house.work()
    seen: list[int] = []
    owner = Database(house.settings.database_owner_url)
    assert prune(owner, 30 * DAY, progress=seen.append) == 1
    assert prune(owner, 30 * DAY, progress=seen.append) == 0
    owner.close()
    left = {row.id for row in house.sql("SELECT id FROM instances")}
    assert left == {doubt, live, fresh}
    for table in ("steps", "contexts", "instance_state", "signals"):
        gone = house.sql(f"SELECT 1 FROM {table} WHERE instance_id = %s", str(done))
        assert gone == []
    assert house.actions(done)[-1] == "instance.completed"
    assert seen == [1]


def test_prune_keeps_a_child_whose_parent_runs(house: House) -> None:
    """A parent may still read what its child has put out."""
    house.publish(CHARGE, name="child")
    sub = {"type": "sub_sequence", "sequence_name": "child"}
    parent = house.run(sub, {"type": "wait", "duration": "90d"})
    house.advance(40 * DAY)
    owner = Database(house.settings.database_owner_url)
    assert prune(owner, 30 * DAY, progress=lambda _: None) == 0
    house.advance(60 * DAY)
    house.work()
    assert house.state(parent) == "completed"
    house.advance(40 * DAY)
    assert prune(owner, 30 * DAY, progress=lambda _: None) == 2
    owner.close()


# -- what monitoring asks for ------------------------------------------------------------------
def test_backlog_tells_each_lane_apart(house: House) -> None:
    """Due steps are counted by lane, with the age of the oldest."""
    house.publish(CHARGE)
    for priority in ("High", "Normal", "Normal", "Low"):
        house.start(priority=priority)
    house.advance(timedelta(minutes=5))
    with house.office.begin() as tx:
        found = {row.lane: row for row in gauges.backlog(tx)}
    assert {lane: row.due for lane, row in found.items()} == {
        "interactive": 1,
        "renewal": 2,
        "bulk": 1,
    }
    assert min(row.oldest_seconds for row in found.values()) >= 300
