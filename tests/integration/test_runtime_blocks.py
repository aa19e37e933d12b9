"""Composite blocks on the real road: children, loops, routes, kept state."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from orch8.storage.rows import StepRow
from tests.support.house import House

CHARGE = {"type": "step", "handler": "charge"}
NOTIFY = {"type": "step", "handler": "notify"}
DAY = timedelta(days=1)


def children(house: House) -> list[Any]:
    """The instances that a step of another one has started."""
    started = "metadata ->> '_parent_instance_id' IS NOT NULL"
    found = house.sql(f"SELECT id FROM instances WHERE {started} ORDER BY id")
    return [house.instance(row.id) for row in found]


# -- sequences within each other ---------------------------------------------------------------
def test_sub_sequence_ends_with_its_child(house: House) -> None:
    """The child runs as an instance of its own, and its outputs are the step's output."""
    charge = {**CHARGE, "params": {"amount": "{{data.amount}}"}}
    house.publish(charge, {"type": "wait", "duration": "1d"}, name="child")
    sub = {"type": "sub_sequence", "sequence_name": "child", "input": {"amount": "{{data.n}}"}}
    instance_id = house.run(sub, NOTIFY, data={"n": 7})
    (child,) = children(house)
    assert (child.parent_instance_id, child.depth, child.state) == (instance_id, 1, "scheduled")
    assert house.state(instance_id) == "waiting"
    house.advance(DAY)
    house.work()
    assert house.state(child.id) == "completed"
    assert house.state(instance_id) == "completed"
    output = house.step(instance_id, "sub_sequence").output
    assert [each["block_id"] for each in output] == ["charge", "wait"]
    assert output[0]["output"]["amount"] == 7


def test_sub_sequence_fails_with_its_child(house: House) -> None:
    """A child's failure is the step's, with the child's error as details; it can be caught."""
    fail = {"type": "step", "handler": "fail", "params": {"message": "no"}}
    house.publish(fail, name="child")
    sub = {"type": "sub_sequence", "sequence_name": "child"}
    instance_id = house.run({"type": "try_catch", "try": [sub], "catch": [NOTIFY]})
    row = house.step(instance_id, "sub_sequence")
    assert (row.state, row.error["code"], row.error["details"]["message"]) == (
        "failed",
        "child",
        "no",
    )
    assert house.state(instance_id) == "completed"


def test_sub_sequence_cancels_its_child_first(house: House) -> None:
    """A cancelled parent is over when its child is."""
    house.publish({"type": "wait", "duration": "9d"}, name="child")
    instance_id = house.run({"type": "sub_sequence", "sequence_name": "child"}, NOTIFY)
    house.signal(instance_id, "cancel")
    assert house.instance(instance_id).cancelling
    house.work()
    (child,) = children(house)
    assert (house.state(child.id), house.state(instance_id)) == ("cancelled", "cancelled")
    assert "notify" not in house.steps(instance_id)


def test_sub_sequence_needs_a_sequence_and_a_bottom(house: House) -> None:
    """A child that does not exist fails the step; one that is itself ends at a depth of 16."""
    house.publish({"type": "sub_sequence", "sequence_name": "me"}, name="me")
    deep = house.start(name="me")
    house.work()
    assert house.state(deep) == "failed"
    assert len(children(house)) == 16
    missing = house.run({"type": "sub_sequence", "sequence_name": "nobody"}, name="x")
    assert house.step(missing, "sub_sequence").error["code"] == "unknown_sequence"


def test_sub_sequence_may_begin_with_a_condition(house: House) -> None:
    """The first blocks of a child read what a new instance has: its input, and nothing else."""
    router = {
        "type": "router",
        "routes": [
            {"condition": "{{state.x == null and outputs.later == null}}", "blocks": [NOTIFY]}
        ],
    }
    house.publish(router, {"type": "step", "id": "later", "handler": "noop"}, name="child")
    instance_id = house.run({"type": "sub_sequence", "sequence_name": "child"})
    assert house.state(instance_id) == "completed"
    assert house.totals()["asked"] == 1


def test_start_sequence_goes_on_at_once(house: House) -> None:
    """An independent instance is started once, with the input, and nobody waits for it."""
    house.publish({"type": "wait", "duration": "9d"}, name="other")
    start = {
        "type": "step", "handler": "start_sequence",
        "params": {"sequence_name": "other", "input": {"a": 1}},
    }  # fmt: skip
    instance_id = house.run(start)
    assert house.state(instance_id) == "completed"
    (other,) = children(house)
    assert str(other.id) == house.step(instance_id, "start_sequence").output["instance_id"]
    assert (other.parent_instance_id, other.state) == (None, "scheduled")
    assert house.sql("SELECT body FROM contexts WHERE instance_id = %s", str(other.id))[0].body[
        "data"
    ] == {"a": 1}


# -- kept state --------------------------------------------------------------------------------
def keep(key: str, value: Any, **more: Any) -> dict[str, Any]:
    return {"type": "step", "handler": "set_state", "params": {"key": key, "value": value}, **more}


def test_state_is_kept_between_steps_and_commits(house: House) -> None:
    """What set_state keeps, null too, get_state and expressions read, at once and days later."""
    get = {"type": "step", "handler": "get_state", "params": {"key": "n"}}
    see = {"type": "step", "handler": "noop", "when": "{{state.n == 2 and state.gone == null}}"}
    forget = {"type": "step", "handler": "delete_state", "params": {"key": "gone"}}
    instance_id = house.run(
        keep("n", 1), keep("gone", 1), keep("n", 2), keep("nil", None), get,
        {"type": "wait", "duration": "1d"}, forget, {**get, "id": "again"}, see,
    )  # fmt: skip
    kept = {row.key: row.value for row in house.sql("SELECT key, value FROM instance_state")}
    assert kept == {"n": 2, "gone": 1, "nil": None}
    house.advance(DAY)
    house.work()
    rows = house.steps(instance_id)
    assert rows["get_state"].output["value"] == rows["again"].output["value"] == 2
    assert rows["noop"].state == "completed"
    kept = {row.key: row.value for row in house.sql("SELECT key, value FROM instance_state")}
    assert kept == {"n": 2, "nil": None}
    assert house.state(instance_id) == "completed"


def test_state_counts_in_a_loop_of_one_commit(house: House) -> None:
    """A loop of built-ins, which one transaction carries out, writes each key once."""
    count = keep("n", "{{(state.n | default(0)) + 1}}")
    loop = {"type": "loop", "body": [count], "max_iterations": 20}
    forget = {"type": "step", "handler": "delete_state", "params": {"key": "n"}}
    instance_id = house.run(loop, forget, keep("n", 5), keep("m", 1), {**forget, "id": "f"})
    assert house.state(instance_id) == "completed"
    assert house.step(instance_id, "set_state[19]").output["value"] == 20
    assert [row.key for row in house.sql("SELECT key FROM instance_state")] == ["m"]


# -- loops -------------------------------------------------------------------------------------
def test_for_each_calls_its_body_for_each_item(house: House) -> None:
    """Each item is called with, a few at a time, and outputs are told apart by their index."""
    live: list[int] = []

    def charge(request: Any) -> Any:
        rows = house.sql("SELECT count(*) AS n FROM steps WHERE state = 'running'")
        live.append(rows[0].n)
        return {"id": request.params["card"] * 10}

    house.handler("charge", charge)
    charge_step = {**CHARGE, "params": {"card": "{{card}}"}}
    see = {"type": "step", "handler": "transform", "params": {"got": "{{outputs.charge.id}}"}}
    block = {
        "type": "for_each", "collection": "{{data.cards}}", "item_var": "card", "concurrency": 3,
        "body": [charge_step, see],
    }  # fmt: skip
    instance_id = house.run(block, data={"cards": [1, 2, 3, 4, 5, 6, 7]})
    assert house.state(instance_id) == "completed"
    rows = house.steps(instance_id)
    assert [rows[f"transform[{n}]"].output["got"] for n in range(7)] == [10, 20, 30, 40, 50, 60, 70]
    assert max(live) <= 3


def test_for_each_of_many_items_is_written_in_pages(house: House) -> None:
    """A few hundred items of built-ins come to their end in batches."""
    noop = {"type": "step", "handler": "noop"}
    block = {"type": "for_each", "collection": "{{data.items}}", "body": [noop], "concurrency": 50}
    instance_id = house.run(block, data={"items": list(range(250))})
    assert house.state(instance_id) == "completed"
    done = house.sql(
        "SELECT count(*) AS n FROM steps WHERE handler = 'noop' AND state = 'completed'"
    )
    assert done[0].n == 250


def test_loop_ends_when_its_body_says_so(house: House) -> None:
    """break_on reads the output that the body has just put out."""
    house.handler("poll", lambda request: {"n": int(request.step[5:-1])})
    poll = {"type": "step", "handler": "poll"}
    loop = {
        "type": "loop",
        "body": [poll],
        "break_on": "{{outputs.poll.n >= 3}}",
        "max_iterations": 9,
    }
    instance_id = house.run(loop, NOTIFY)
    rows: dict[str, StepRow] = house.steps(instance_id)
    assert [key for key in rows if key.startswith("poll")] == [f"poll[{n}]" for n in range(4)]
    assert house.state(instance_id) == "completed"


def test_loop_may_pause_between_its_rounds(house: House) -> None:
    """poll_interval is a timer of business time."""
    loop = {"type": "loop", "body": [NOTIFY], "max_iterations": 3, "poll_interval": "1d"}
    instance_id = house.run(loop)
    for asked in (1, 2, 3):
        assert house.totals()["asked"] == asked
        house.advance(DAY)
        house.work()
    assert house.state(instance_id) == "completed"


# -- choices -----------------------------------------------------------------------------------
def test_router_decides_once(house: House) -> None:
    """A changed context does not change the way that was taken."""
    router = {
        "type": "router",
        "routes": [
            {
                "condition": "{{data.way == 'left'}}",
                "blocks": [{"type": "wait", "duration": "1d"}, NOTIFY],
            },
            {"default": True, "blocks": [CHARGE]},
        ],
    }  # fmt: skip
    instance_id = house.run(router, data={"way": "left"})
    house.signal(instance_id, "update_context", payload={"data": {"way": "right"}})
    house.advance(DAY)
    house.work()
    assert house.state(instance_id) == "completed"
    assert [entry["handler"] for entry in house.provider.ledger.page()] == ["notify"]


def test_parallel_waits_for_all_and_end_ends_them(house: House) -> None:
    """Branches run beside each other; an end in one of them closes the run under its name."""
    slow = [{"type": "wait", "duration": "9d"}, NOTIFY]
    block = {"type": "parallel", "branches": [slow, [CHARGE]]}
    instance_id = house.run(block)
    assert house.state(instance_id) == "scheduled"
    end = {"type": "end", "outcome": "paid"}
    ended = house.run({"type": "parallel", "branches": [slow, [CHARGE, end]]}, NOTIFY, name="e")
    row = house.instance(ended)
    assert (row.state, row.outcome) == ("completed", "paid")
    assert house.step(ended, "wait").state == "cancelled"


def test_race_cancels_its_losers(house: House) -> None:
    """The first branch to succeed wins; a timer that lost is gone."""
    block = {"type": "race", "branches": [[{"type": "wait", "duration": "9d"}], [CHARGE]]}
    instance_id = house.run(block)
    rows = house.steps(instance_id)
    assert (rows["wait"].state, rows["wait"].due_at) == ("cancelled", None)
    assert house.state(instance_id) == "completed"


@pytest.mark.parametrize("outcome", ["completed", "failed"])
def test_saga_undoes_what_completed(house: House, outcome: str) -> None:
    """A later failure compensates the steps that completed, newest first; the saga has failed."""
    last = NOTIFY if outcome == "completed" else {"type": "step", "handler": "fail"}
    steps = [
        {"action": CHARGE, "compensation": {"type": "step", "handler": "refund"}},
        {"action": {"type": "step", "handler": "book"},
         "compensation": {"type": "step", "handler": "unbook"}},
        {"action": last},
    ]  # fmt: skip
    instance_id = house.run({"type": "saga", "steps": steps})
    asked = [entry["handler"] for entry in house.provider.ledger.page()]
    undone = [] if outcome == "completed" else ["unbook", "refund"]
    assert [each for each in asked if each in ("refund", "unbook")] == undone
    assert house.state(instance_id) == outcome
