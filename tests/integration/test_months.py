"""Months: work across partitions, keys across months, partitions made ahead, plans that prune."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any
from uuid import UUID

import psycopg2
import pytest

from orch8.errors import AlreadyExists
from orch8.runtime.ahead import Ahead
from orch8.runtime.start import StartRequest
from orch8.runtime.start_many import OnDuplicate, start_many
from orch8.storage import partitions as storage
from orch8.storage import transaction
from orch8.storage.ids import uuid7
from orch8.storage.months import OWNED, PARTITIONED, Month
from orch8.storage.transaction import Row, Tx
from tests.support.calendar import installed_in, made_in, partitions, this_month
from tests.support.house import House

CHARGE = {"type": "step", "handler": "charge"}
THEN = {"type": "step", "handler": "set_state", "params": {"key": "a", "value": 1}}


@pytest.fixture
def old(house: House) -> House:
    """A house that was installed half a year ago, with a sequence of two steps."""
    installed_in(house, this_month().later(-6))
    house.publish(CHARGE, THEN)
    return house


def started(house: House, *, months_ago: int, **more: Any) -> UUID:
    """An instance of back then."""
    with made_in(this_month().later(-months_ago)):
        return house.start(**more)


def place(house: House, table: str, instance_id: UUID) -> set[str]:
    """The partitions in which an instance's rows are."""
    column = "id" if table == "instances" else "instance_id"
    found = house.sql(
        f"SELECT DISTINCT tableoid::regclass::text AS name FROM {table} WHERE {column} = %s",
        instance_id,
    )
    return {row.name for row in found}


# -- work ----------------------------------------------------------------------------------------
def test_batch_settles_instances_of_different_months(old: House) -> None:
    """Claimed together and settled together, each in the partitions of its month."""
    ids = {ago: started(old, months_ago=ago) for ago in (5, 2, 0)}
    old.work()
    for ago, instance_id in ids.items():
        assert old.state(instance_id) == "completed"
        month = this_month().later(-ago)
        for table in OWNED:
            assert place(old, table, instance_id) == {f"{table}_{month}"}
    assert len(old.keys()) == 3


def test_child_of_an_older_parent_wakes_it(old: House) -> None:
    """Parent and child are of different months, and locked in one batch."""
    old.publish(CHARGE, name="child")
    old.publish({"type": "sub_sequence", "sequence_name": "child"}, name="parent")
    parent = started(old, months_ago=4, name="parent")
    old.work()
    assert old.state(parent) == "completed"
    (child,) = old.sql("SELECT id FROM instances WHERE parent_instance_id = %s", parent)
    assert place(old, "instances", child.id) == {f"instances_{this_month()}"}


# -- keys ----------------------------------------------------------------------------------------
def test_key_of_an_older_month_is_that_instance(old: House) -> None:
    """The same key in two months is one instance, and one that differs is refused as ever."""
    first = started(old, months_ago=3, idempotency_key="k")
    again = old.request(idempotency_key="k")
    assert (again.instance.id, again.deduplicated) == (first, True)
    assert old.sql("SELECT count(*) AS n FROM instances")[0].n == 1
    assert old.sql("SELECT count(*) AS n FROM steps")[0].n == 1


def requests(house: House, *keys: str) -> list[StartRequest]:
    """Requests for an instance of the newest version under each of the keys."""
    (version,) = house.sql("SELECT id FROM sequences ORDER BY version DESC LIMIT 1")
    return [StartRequest(sequence=str(version.id), idempotency_key=key) for key in keys]


def test_batch_meets_keys_of_older_months(old: House) -> None:
    """They are skipped or refused, whatever month they are of."""
    started(old, months_ago=3, idempotency_key="a")
    with pytest.raises(AlreadyExists):
        start_many(old.office, requests(old, "a", "b"))
    made = start_many(old.office, requests(old, "a", "b"), OnDuplicate.SKIP)
    assert (made.created, made.deduplicated) == (1, 1)


def orphan(house: House, key: str) -> None:
    """A key whose instance went with its month."""
    house.sql(
        "INSERT INTO instance_keys (tenant_id, key, instance_id) VALUES ('default', %s, %s)",
        key,
        uuid7(),
    )


def test_key_whose_instance_is_gone_is_free(old: House) -> None:
    """It does not wait until prune has come to it."""
    orphan(old, "k")
    made = old.request(idempotency_key="k")
    assert not made.deduplicated
    assert old.request(idempotency_key="k").instance.id == made.instance.id


@pytest.mark.parametrize("on_duplicate", OnDuplicate)
def test_batch_takes_keys_whose_instances_are_gone(old: House, on_duplicate: OnDuplicate) -> None:
    """As a single start does."""
    orphan(old, "a")
    made = start_many(old.office, requests(old, "a", "b"), on_duplicate)
    assert (made.created, made.deduplicated) == (2, 0)


# -- ahead ---------------------------------------------------------------------------------------
def test_tick_makes_the_months_to_come(house: House) -> None:
    """As the application, which owns no table; what came early moves into its month."""
    house.publish(CHARGE)
    last = this_month().later(storage.AHEAD)
    for table in PARTITIONED:
        if table != "audit_log":
            house.sql(f"DROP TABLE {table}_{last}")
    early = started(house, months_ago=-storage.AHEAD)
    assert place(house, "steps", early) == {"steps_rest"}
    house.tick()
    for table in OWNED:
        assert f"{table}_{last}" in partitions(house, table)
        assert place(house, table, early) == {f"{table}_{last}"}
    house.work()
    assert house.state(early) == "completed"


def test_month_that_cannot_be_made_is_tried_again(house: House) -> None:
    """Somebody holds the table: a tick does not wait for that, and does not fail."""
    last = this_month().later(storage.AHEAD)
    house.sql(f"DROP TABLE steps_{last}")
    with closing(psycopg2.connect(house.database.owner_url)) as other:
        other.cursor().execute("LOCK TABLE steps_rest")
        assert Ahead().look(house.office.begin) == 0
    ahead = Ahead()
    assert ahead.look(house.office.begin) == 1
    assert ahead.look(house.office.begin) == 0
    assert f"steps_{last}" in partitions(house, "steps")


def test_clock_that_runs_wrong_stops_nobody(old: House) -> None:
    """Neither an id of a year to come nor one of a month that was pruned lacks a place."""
    gone = this_month().later(-4)
    for table in OWNED:
        old.sql(f"DROP TABLE {table}_{gone}")
    ids = [started(old, months_ago=ago) for ago in (4, -40)]
    old.work()
    for instance_id in ids:
        assert old.state(instance_id) == "completed"
        assert place(old, "instances", instance_id) == {"instances_rest"}
    with old.office.begin() as tx:
        assert storage.strays(tx) == 2


def test_ids_and_months_are_the_same_in_python_and_in_the_database(house: House) -> None:
    """Both compute the bounds of partitions."""
    month = this_month()
    for _ in range(30):
        (row,) = house.sql(
            "SELECT orch8_first_id(%s) AS low",
            f"{month.year}-{month.number:02}-01T00:00:00Z",
        )
        assert row.low == month.low
        month = month.next


def test_application_may_make_only_the_months_to_come(house: House) -> None:
    """The function that takes a moment is the owner's."""
    with pytest.raises(Exception, match="permission denied"), house.office.begin() as tx:
        tx.rows("SELECT orch8_make_months('steps', now() + interval '99 years')")
    with pytest.raises(Exception, match="has no months"), house.office.begin() as tx:
        tx.rows("SELECT orch8_months_ahead('workers')")


# -- plans ---------------------------------------------------------------------------------------
class Watching(Tx):
    """A transaction that notes of each statement which partitions its plan would look at."""

    seen: list[tuple[str, set[str]]] = []  # noqa: RUF012 - one list for all: that is the point

    def rows(self, sql: str, params: Any = None) -> list[Row]:
        self._look(sql, params)
        return super().rows(sql, params)

    def one(self, sql: str, params: Any = None) -> Row | None:
        self._look(sql, params)
        return super().one(sql, params)

    def run(self, sql: str, params: Any = None) -> int:
        self._look(sql, params)
        return super().run(sql, params)

    def _look(self, sql: str, params: Any) -> None:
        self._cursor.execute("EXPLAIN (FORMAT JSON, COSTS OFF) " + sql, params)
        plan = self._cursor.fetchone()[0]
        self.seen.append((sql, set(_relations(plan))))


def _relations(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for each in node:
            yield from _relations(each)
    elif isinstance(node, dict):
        if "Relation Name" in node and node.get("Operation") != "Insert":
            yield node["Relation Name"]
        for each in node.values():
            yield from _relations(each)


# What looks for rows by time, process, key or tenant, and not by instance. Asked once for a batch,
# a tick or a shut-down, each is an index probe in every partition.
BY_SOMETHING_ELSE = ("due_at", "claimed_by", "limit_key", "fence", "parent_instance_id")


def test_statements_that_know_their_instances_look_at_one_month(
    old: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of everything that an instance's life is made of; the others look at every month."""
    steps = [
        CHARGE,
        THEN,
        {"type": "step", "handler": "refund", "params": {"x": "{{ outputs.charge.charge_id }}"}},
    ]
    old.publish(*steps, name="long")
    monkeypatch.setattr(transaction, "Tx", Watching)
    monkeypatch.setattr(Watching, "seen", [])
    instance_id = old.start(name="long", idempotency_key="k")
    old.work()
    old.tick()
    assert old.state(instance_id) == "completed"
    wide = []
    for sql, relations in Watching.seen:
        months = {name for name in relations if name.startswith("steps_")}
        if len(months) > 1:
            wide.append(sql)
            assert any(word in sql for word in BY_SOMETHING_ELSE), sql
            assert len(months) == len(partitions(old, "steps"))
    known = [sql for sql, relations in Watching.seen if f"steps_{this_month()}" in relations]
    assert len(known) > len(wide) >= 1
    for sql in wide:
        assert "json_to_recordset" not in sql, sql


def test_month_is_over_a_day_after_its_end(old: House) -> None:
    """Only such months are pruned: ids of the present one are still being made."""
    with old.office.begin() as tx:
        found = storage.stored(tx)
    assert [month.month for month in found] == [this_month().later(n) for n in range(-6, 3)]
    assert not any(month.over for month in found if month.month >= this_month())
    assert all(month.over for month in found if month.month < this_month().later(-1))
    assert found[0].low == UUID(int=0)
    assert found[1].low == found[0].high == Month.of(found[0].high).low
