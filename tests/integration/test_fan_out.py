"""Long fan-outs on the real road: what an item costs does not grow with how many there are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from orch8.runtime.settle import INLINE
from orch8.storage import changes, instances, steps
from orch8.storage.months import Month, span
from tests.support.house import House

ITEM = {
    "type": "step", "id": "item", "handler": "transform", "params": {"n": "{{context.data.item}}"},
}  # fmt: skip


def each(*body: Any, **members: Any) -> dict[str, Any]:
    """A for_each over ``context.data.items``."""
    collection = "{{context.data.items}}"
    return {
        "type": "for_each", "id": "each", "collection": collection, "max_iterations": 100_000,
        "body": list(body), **members,
    }  # fmt: skip


def completed(house: House, instance_id: UUID, block_id: str) -> list[int]:
    """The numbers of the iterations in which the block completed, ascending."""
    rows = house.sql(
        "SELECT path[1] AS n FROM steps WHERE instance_id = %s AND block_id = %s"
        " AND state = 'completed' ORDER BY 1",
        instance_id,
        block_id,
    )
    return [row.n for row in rows]


def transactions(house: House, instance_id: UUID) -> int:
    """How many transactions settled steps of the instance."""
    (row,) = house.sql(
        "SELECT count(DISTINCT xid::text) AS n FROM audit_log WHERE instance_id = %s"
        " AND action = 'step.completed'",
        instance_id,
    )
    return int(row.n)


def outputs(house: House, instance_id: UUID) -> list[Any]:
    """The rows of the fan-out's own items, by their numbers."""
    rows = house.steps(instance_id).values()
    return sorted((row for row in rows if row.block_id == "item"), key=lambda row: row.path)


def errors(logs: Iterable[Mapping[str, Any]]) -> list[Any]:
    """What was logged as an error: a batch that had to be taken apart, for instance."""
    return [entry for entry in logs if entry["log_level"] == "error"]


# -- many items ------------------------------------------------------------------------------------
def test_for_each_of_2000_built_ins_takes_a_hundred_of_them_at_a_time(house: House) -> None:
    """One transaction for each hundred, however many there are, and each item once."""
    instance_id = house.run(each(ITEM), data={"items": list(range(2000))})
    assert house.state(instance_id) == "completed"
    assert completed(house, instance_id, "item") == list(range(2000))
    assert transactions(house, instance_id) <= 2000 / INLINE + 1


def test_for_each_reads_of_each_iteration_what_was_skipped_in_it(house: House) -> None:
    """A step that was not entered has no output; knowing that takes no look for each item."""
    here = {"n": "{{context.data.item.n}}"}
    maybe = {**ITEM, "id": "maybe", "when": "{{context.data.item.third}}", "params": here}
    last = {**ITEM, "params": {"n": "{{outputs.maybe.n}}"}}
    items = [{"n": n, "third": n % 3 == 0} for n in range(300)]
    with capture_logs() as logs:
        instance_id = house.run(each(maybe, last), data={"items": items})
    assert house.state(instance_id) == "completed"
    assert completed(house, instance_id, "maybe") == list(range(0, 300, 3))
    rows = outputs(house, instance_id)
    assert [row.output["n"] for row in rows] == [None if n % 3 else n for n in range(300)]
    assert transactions(house, instance_id) <= 400 / INLINE + 2
    assert errors(logs) == []


def test_for_each_passes_over_thousands_of_items_in_one_go(house: House) -> None:
    """Of items of which nothing is to be done nothing is written, and no look is taken at each."""
    never = {**ITEM, "when": "{{context.data.item < 0}}"}
    instance_id = house.run(each(never), data={"items": list(range(10_000))})
    assert house.state(instance_id) == "completed"
    assert completed(house, instance_id, "item") == []


@pytest.mark.parametrize("concurrency", [1, 120])
def test_for_each_starts_instances_with_business_keys_of_their_own(
    houses: Callable[..., House], concurrency: int
) -> None:
    """Each key is asked for before it is taken, those of a batch at once."""
    house = houses(worker_width=128)
    house.publish(
        {"type": "wait", "duration": "1d"}, name="child", unique={"key": "{{context.data.n}}"}
    )
    begin = {
        "type": "step", "id": "begin", "handler": "start_sequence",
        "params": {"sequence": "child", "input": {"n": "{{context.data.item}}"}},
    }  # fmt: skip
    with capture_logs() as logs:
        instance_id = house.run(
            each(begin, concurrency=concurrency), data={"items": list(range(150))}
        )
    assert house.state(instance_id) == "completed"
    assert house.sql("SELECT count(*) FROM business_keys")[0].count == 150
    assert errors(logs) == []


def test_steps_of_many_iterations_are_claimed_at_once(houses: Callable[..., House]) -> None:
    """Each reads the output of a step before it, which another transaction has written."""
    house = houses(worker_width=100)
    house.handler("count", lambda request: {"n": request.params["n"] + 1})
    first = {**ITEM, "id": "first", "handler": "count"}
    second = {**ITEM, "handler": "count", "params": {"n": "{{outputs.first.n}}"}}
    body = first, {"type": "wait", "id": "hour", "duration": "1h"}, second
    with capture_logs() as logs:
        instance_id = house.run(each(*body, concurrency=300), data={"items": list(range(300))})
        house.advance(timedelta(hours=1))
        house.work()
    assert house.state(instance_id) == "completed"
    found = house.sql("SELECT output -> 'n' AS n FROM steps WHERE block_id = 'item'")
    assert sorted(row.n for row in found) == list(range(2, 302))
    assert errors(logs) == []


def test_for_each_that_failed_goes_on_where_it_failed(house: House) -> None:
    """After a retry the items that completed stay so, the others get their own numbers, and what an
    iteration put out before it failed is read in it.
    """
    broken = True
    house.handler("count", lambda request: {} if not broken or request.params["n"] < 250 else 1 / 0)
    call = {
        **ITEM, "handler": "count", "effect": "none", "retry": {"max_attempts": 1},
        "when": "{{outputs.first.n == context.data.item}}",
    }  # fmt: skip
    body = {**ITEM, "id": "first"}, call
    instance_id = house.run(each(*body, concurrency=5), data={"items": list(range(400))})
    assert house.state(instance_id) == "failed"
    broken = False
    house.retry(instance_id)
    house.work()
    assert house.state(instance_id) == "completed"
    assert completed(house, instance_id, "item") == list(range(400))


# -- many children ---------------------------------------------------------------------------------
def test_for_each_of_200_children_is_told_of_many_at_once(houses: Callable[..., House]) -> None:
    """Children that end in one batch wake their parent once, and each is heard once."""
    house = houses(worker_width=100)
    leaf = {**ITEM, "id": "leaf", "params": {"n": "{{context.data.n}}"}}
    house.publish(leaf, name="child")
    child = {
        "type": "sub_sequence", "id": "item", "sequence_name": "child",
        "input": {"n": "{{context.data.item}}"},
    }  # fmt: skip
    with capture_logs() as logs:
        instance_id = house.run(each(child, concurrency=50), data={"items": list(range(200))})
    assert house.state(instance_id) == "completed"
    assert completed(house, instance_id, "item") == list(range(200))
    (row,) = house.sql("SELECT count(*) FROM instances WHERE state = 'completed' AND depth = 1")
    assert row.count == 200
    assert [step.output[0]["output"]["n"] for step in outputs(house, instance_id)] == [*range(200)]
    assert transactions(house, instance_id) <= 20
    assert errors(logs) == []


# -- what is read ----------------------------------------------------------------------------------
def test_outputs_of_the_last_iteration_are_those_of_the_highest_number(house: House) -> None:
    """Of iterations 0 to 11 it is 11, although "9" comes after it in the order of texts; and of
    a loop within a loop the last of the same outer iteration.
    """
    inner = {**each(ITEM), "id": "inner", "collection": "{{context.data.item}}", "item_var": "i"}
    inner["body"] = [{**ITEM, "params": {"n": "{{context.data.i}}"}}]
    after = {**ITEM, "id": "after", "params": {"n": "{{outputs.item.n}}"}}
    pause = {"type": "wait", "id": "pause", "duration": "1h"}
    instance_id = house.run(
        each(inner, pause, after, concurrency=2), {**after, "id": "behind"},
        data={"items": [list(range(12)), list(range(100, 111))]},
    )  # fmt: skip
    house.advance(timedelta(hours=1))
    house.work()
    rows = house.steps(instance_id)
    read = [rows[key].output["n"] for key in ("after[0]", "after[1]", "behind")]
    assert read == [11, 110, 110]


def locking(house: House) -> str:
    """The statement of the function that locks claims."""
    (row,) = house.sql("SELECT prosrc FROM pg_proc WHERE proname = 'orch8_lock_claims_44'")
    statement: str = row.prosrc.split("RETURN QUERY")[1].rsplit(";", 1)[0]
    for number, parameter in enumerate(("%(low)s", "%(high)s", "%(keys)s::json"), 1):
        statement = statement.replace(f"${number}", parameter)
    return statement


def test_steps_are_found_by_instance_and_node_key(house: House) -> None:
    """What settling, claiming, reading and showing look at does not depend on how many steps the
    instance has: here twenty thousand, among others that have one.
    """
    instance_id = house.run({"type": "wait", "duration": "1d"})
    house.sql(
        "INSERT INTO steps (instance_id, node_key, id, block_id, path, handler, effect, state,"
        " lane, created_at) SELECT %s, 'item[' || n || ']', gen_random_uuid(), 'item', ARRAY[n],"
        " 'h', 'none', 'completed', 'renewal', now() FROM generate_series(0, 19999) n",
        instance_id,
    )
    house.sql(
        "INSERT INTO steps (instance_id, node_key, id, block_id, handler, effect, state, lane,"
        " created_at) SELECT gen_random_uuid(), 'leaf', gen_random_uuid(), 'leaf', 'h', 'none',"
        " 'completed', 'renewal', now() FROM generate_series(1, 20000)"
    )
    house.sql("ANALYZE steps")
    ref = {"n": 0, "i": str(instance_id), "k": "item[7]", "first": True, "exact": True}
    one = {"refs": json.dumps([ref]), "keys": json.dumps([ref]), "i": str(instance_id)}
    one |= {"woken": "[]", **span([instance_id])}
    filled = f" on steps_{Month.of(instance_id)} "
    for sql in (
        steps._EXACT,
        steps._READ,
        locking(house),
        f"{instances._SHOWN} WHERE i.id = %(i)s",
        f"SELECT s.id FROM steps s, {steps._LIVE_OF}",
        f"WITH {changes._WAKE} SELECT 1",
    ):
        with house.office.begin() as tx:
            plan = [row[0].strip() for row in tx.rows(f"EXPLAIN {sql}", one)]
        looks = [below for line, below in pairwise(plan) if "Scan" in line and filled in line]
        assert looks, plan
        for look in looks:
            assert look.startswith("Index Cond: ((instance_id = "), plan
            assert "AND (node_key = " in look, (sql, plan)
