"""CONTRACT 10: the states of instances, and which of them an operator can set."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.support.api import CHARGE, NOOP, WAITING, Api
from tests.support.desk import Desk

FUTURE, SOONER = "2999-01-01T00:00:00Z", "2998-01-01T00:00:00Z"
STATES = ("scheduled", "running", "waiting", "paused", "completed", "failed", "cancelled")
FAIL = {"id": "failing", "blocks": [{"type": "step", "id": "no", "handler": "fail"}]}
SLEEPER = {
    "id": "sleeper",
    "blocks": [{"type": "step", "handler": "sleep", "params": {"duration_ms": 600_000}}],
}
DELAYED = {
    "id": "delayed",
    "blocks": [{"type": "step", "handler": "noop", "delay": {"days": 3}}],
}


def put(api: Api, instance: Any, state: str, status: int = 200, **more: Any) -> Any:
    """What setting a state is answered."""
    answer = api.send("PATCH", f"/instances/{instance['id']}/state", {"state": state, **more})
    assert answer.status_code == status, answer.text
    return answer.json


def state(api: Api, instance: Any) -> str:
    """The state that an instance shows."""
    return str(api.get(f"/instances/{instance['id']}")["state"])


def in_state(desk: Desk, name: str) -> Any:
    """An instance that shows this state."""
    api = desk.api
    match name:
        case "scheduled":
            return api.started(NOOP, next_fire_at=FUTURE)
        case "running":
            return desk.run(SLEEPER)
        case "waiting":
            return desk.run(WAITING)
        case "completed":
            return desk.run(NOOP)
        case "failed":
            return desk.run(FAIL)
    found = api.started(NOOP, next_fire_at=FUTURE)
    put(api, found, name)
    return found


@pytest.mark.parametrize(
    ("before", "allowed"),
    [
        ("scheduled", {"running", "paused", "cancelled"}),
        ("running", {"scheduled", "waiting", "paused", "cancelled"}),
        ("waiting", {"running", "scheduled", "cancelled"}),
        ("paused", {"scheduled", "cancelled"}),
        ("completed", {"scheduled"}),
        ("failed", {"scheduled"}),
        ("cancelled", set()),
    ],
)
def test_state_can_be_set_as_the_table_says(desk: Desk, before: str, allowed: set[str]) -> None:
    """What is not in the table is 400 and changes nothing. What only answers can bring about
    (completed, failed) nobody can declare, and what was cancelled stays so.
    """
    for wanted in STATES:
        found = in_state(desk, before)
        assert state(desk.api, found) == before
        if wanted in allowed:
            assert put(desk.api, found, wanted) is None
        else:
            said = put(desk.api, found, wanted, status=400)["error"]
            assert f"cannot transition from {before} to {wanted}" in said
            assert state(desk.api, found) == before


def test_paused_instance_does_nothing_until_it_is_scheduled(desk: Desk) -> None:
    """Then it goes on at once."""
    started = desk.api.started(NOOP)
    put(desk.api, started, "paused")
    desk.house.work()
    assert desk.read(started)["state"] == "paused"
    put(desk.api, started, "scheduled")
    desk.house.work()
    assert desk.read(started)["state"] == "completed"


def test_sleeper_that_is_paused_stays_so(desk: Desk) -> None:
    """The end of its sleep does not overwrite what was set meanwhile."""
    found = desk.run(SLEEPER)
    put(desk.api, found, "paused")
    desk.house.advance(timedelta(days=1))
    desk.house.work()
    assert desk.read(found)["state"] == "paused"


def test_sleeper_that_is_set_to_waiting_stays_so(desk: Desk) -> None:
    """Whatever its sleep, a custom signal or a call in flight would do, until it is let go: by
    setting it to scheduled or running, or with the signal resume.
    """
    for lets_go in ("scheduled", "running", "resume"):
        found = desk.run(SLEEPER)
        put(desk.api, found, "waiting")
        assert desk.read(found)["state"] == "waiting"
        desk.api.post(f"/instances/{found['id']}/signals", {"signal": "anything"})
        desk.house.advance(timedelta(days=1))
        desk.house.tick()
        desk.house.work()
        assert desk.read(found)["state"] == "waiting"
        if lets_go == "resume":
            desk.api.post(f"/instances/{found['id']}/signals", {"signal": "resume"})
        else:
            put(desk.api, found, lets_go)
        desk.house.work()
        assert desk.read(found)["state"] == "completed"


def test_held_instance_is_like_a_paused_one(desk: Desk) -> None:
    """It can be paused by the signal, then shows so; it can be cancelled; its changes are told."""
    found = desk.run(SLEEPER)
    put(desk.api, found, "waiting", actor="ana", reason="fraud check")
    put(desk.api, found, "paused", status=400)
    desk.api.post(f"/instances/{found['id']}/signals", {"signal": "pause"})
    assert desk.read(found)["state"] == "paused"
    put(desk.api, found, "scheduled")
    put(desk.api, found, "waiting")
    put(desk.api, found, "cancelled")
    assert desk.read(found)["state"] == "cancelled"
    entries = desk.api.get(f"/instances/{found['id']}/audit")
    held = [(e["actor"], e["reason"]) for e in entries if e["action"] == "instance.held"]
    assert ("ana", "fraud check") in held
    told = desk.api.get(f"/instances/{found['id']}/timeline")["state_transitions"]
    assert [each["to_state"] for each in told] == [
        "scheduled", "waiting", "paused", "scheduled", "waiting", "cancelled",
    ]  # fmt: skip


def test_held_instance_takes_in_the_answer_of_its_call(desk: Desk) -> None:
    """What was sent is answered and kept; the step after it is held."""
    called, go_on = threading.Event(), threading.Event()

    def slow(_request: Any) -> Any:
        called.set()
        assert go_on.wait(20)
        return {"paid": True}

    desk.house.handler("charge", slow)
    after = {"type": "step", "id": "after", "handler": "noop"}
    found = desk.api.started({"id": "held", "blocks": [*CHARGE["blocks"], after]})
    thread = threading.Thread(target=desk.house.work)
    thread.start()
    assert called.wait(10)
    put(desk.api, found, "waiting")
    go_on.set()
    thread.join(30)
    assert [each["block_id"] for each in desk.api.get(f"/instances/{found['id']}/outputs")] == [
        "charge"
    ]
    assert desk.read(found)["state"] == "waiting"
    put(desk.api, found, "scheduled")
    desk.house.work()
    assert desk.read(found)["state"] == "completed"


def test_scheduled_instance_goes_on_at_the_time_that_is_named(desk: Desk) -> None:
    """Or at once, if none is."""
    started = desk.api.started(NOOP, next_fire_at=FUTURE)
    put(desk.api, started, "paused")
    put(desk.api, started, "scheduled", next_fire_at=SOONER)
    assert desk.read(started)["next_fire_at"] == SOONER
    put(desk.api, started, "running")
    desk.house.work()
    assert desk.read(started)["state"] == "completed"


def test_delay_of_the_definition_outlives_a_pause(desk: Desk) -> None:
    """Letting an instance go on charges nobody three days early; only a time that is named does."""
    found = desk.run(DELAYED)
    due = found["next_fire_at"]
    put(desk.api, found, "paused")
    put(desk.api, found, "scheduled")
    assert desk.read(found)["next_fire_at"] == due
    put(desk.api, found, "running", next_fire_at="2026-01-01T00:00:00Z")
    desk.house.work()
    assert desk.read(found)["state"] == "completed"


def test_failed_instance_that_is_scheduled_is_retried(desk: Desk) -> None:
    """In its next round, at the time that is named."""
    found = desk.run(FAIL)
    put(desk.api, found, "scheduled", next_fire_at=FUTURE)
    again = desk.read(found)
    assert (again["state"], again["round"], again["next_fire_at"]) == ("scheduled", 2, FUTURE)


def test_completed_instance_that_is_scheduled_does_nothing_twice(desk: Desk) -> None:
    """Every output is kept, so there is nothing to do: it stays completed."""
    found = desk.run(NOOP)
    before = desk.api.get(f"/instances/{found['id']}/outputs")
    put(desk.api, found, "scheduled")
    desk.house.work()
    assert desk.read(found)["state"] == "completed"
    assert desk.api.get(f"/instances/{found['id']}/outputs") == before


def test_cancelling_waits_for_a_call_in_flight(api: Api) -> None:
    """Its answer is needed, since money may have moved; then nothing else is done."""
    blocks = [*CHARGE["blocks"], {"type": "step", "id": "after", "handler": "noop"}]
    started = api.started({"id": "charging", "blocks": blocks})
    body = {"handler_name": "charge", "worker_id": "w"}
    (task,) = api.post("/workers/tasks/poll", body, status=200)
    put(api, started, "cancelled")
    shown = api.get(f"/instances/{started['id']}")
    assert shown["cancelling"]
    done = {"worker_id": "w", "claim_epoch": task["claim_epoch"], "output": {}}
    api.send("POST", f"/workers/tasks/{task['id']}/complete", done)
    assert state(api, started) == "cancelled"


def test_child_that_is_cancelled_wakes_its_parent(desk: Desk) -> None:
    """The parent does not wait for it any longer."""
    desk.api.post("/sequences", SLEEPER)
    calls = {"type": "sub_sequence", "id": "sub", "sequence_name": "sleeper"}
    parent = desk.run({"id": "parent", "blocks": [calls]})
    (child,) = desk.api.get(f"/instances/{parent['id']}/children")
    put(desk.api, child, "cancelled")
    desk.house.work()
    assert desk.read(child)["state"] == "cancelled"
    assert desk.read(parent)["state"] == "failed"


def test_state_that_is_set_is_in_the_audit_log(api: Api) -> None:
    """With who and why."""
    started = api.started(NOOP, next_fire_at=FUTURE)
    put(api, started, "paused", actor="ana", reason="card stolen")
    entry = api.get(f"/instances/{started['id']}/audit")[0]
    told = entry["action"], entry["actor"], entry["reason"]
    assert told == ("instance.paused", "ana", "card stolen")


def test_state_is_one_of_the_known(api: Api) -> None:
    """An unknown word is 422; an unknown instance, and another tenant's, 404."""
    started = api.started(NOOP, next_fire_at=FUTURE)
    path = f"/instances/{started['id']}/state"
    api.refused(422, "PATCH", path, {"state": "asleep"})
    api.refused(422, "PATCH", path, {})
    api.refused(404, "PATCH", f"/instances/{uuid4()}/state", {"state": "paused"})
    api.refused(404, "PATCH", path, {"state": "paused"}, headers={"X-Tenant-Id": "other"})
    api.refused(400, "PATCH", "/instances/nope/state", {"state": "paused"})


# -- 10.2 nodes ----------------------------------------------------------------------------------
NESTED = {
    "id": "nested",
    "blocks": [
        {"type": "step", "id": "pre", "handler": "noop"},
        {
            "type": "parallel",
            "id": "both",
            "branches": [
                [{"type": "step", "id": "left", "handler": "noop"}],
                [
                    {
                        "type": "try_catch",
                        "id": "careful",
                        "try_block": [{"type": "step", "id": "risky", "handler": "fail"}],
                        "catch_block": [
                            {"type": "step", "id": "nap", "handler": "sleep",
                             "params": {"duration_ms": 600_000}},
                        ],
                    },
                ],
            ],
        },
        {
            "type": "loop",
            "id": "twice",
            "condition": "true",
            "max_iterations": 2,
            "body": [{"type": "step", "id": "again", "handler": "noop",
                      "when": "context.data.n == 1"}],
        },
    ],
}  # fmt: skip


def nodes(desk: Desk, instance: Any) -> dict[str, tuple[str, Any, Any, str]]:
    """The nodes of the tree by id: type, parent, branch and state."""
    found = desk.api.get(f"/instances/{instance['id']}/tree")
    return {
        each["id"]: (
            each["block_type"], each["parent_id"], each["branch_index"], each["state"],
        )
        for each in found
    }  # fmt: skip


def test_tree_has_every_block(desk: Desk) -> None:
    """Composites, while they run and when they ended; what is asleep is running. What was not come
    to is pending.
    """
    started = desk.api.started(NESTED, context={"data": {"n": 1}})
    desk.house.work()
    assert nodes(desk, started) == {
        "pre": ("step", None, None, "completed"),
        "both": ("parallel", None, None, "running"),
        "left": ("step", "both", 0, "completed"),
        "careful": ("try_catch", "both", 1, "running"),
        "risky": ("step", "careful", 0, "failed"),
        "nap": ("step", "careful", 1, "running"),
        "twice": ("loop", None, None, "pending"),
        "again": ("step", "twice", None, "pending"),
    }
    desk.house.advance(timedelta(minutes=11))
    desk.house.work()
    assert desk.read(started)["state"] == "completed"
    assert nodes(desk, started) == {
        "pre": ("step", None, None, "completed"),
        "both": ("parallel", None, None, "completed"),
        "left": ("step", "both", 0, "completed"),
        "careful": ("try_catch", "both", 1, "completed"),
        "risky": ("step", "careful", 0, "failed"),
        "nap": ("step", "careful", 1, "completed"),
        "twice": ("loop", None, None, "completed"),
        "again[0]": ("step", "twice", None, "completed"),
        "again[1]": ("step", "twice", None, "completed"),
    }


def test_tree_of_a_failed_instance_has_no_live_node(desk: Desk) -> None:
    """What stood around the failed step failed with it; what was cancelled says so."""
    branches = [FAIL["blocks"], SLEEPER["blocks"]]
    block = {"type": "parallel", "id": "both", "branches": branches}
    found = desk.run({"id": "broken", "blocks": [block]})
    put(desk.api, found, "cancelled")
    assert {node[3] for node in nodes(desk, found).values()} <= {"failed", "cancelled"}
