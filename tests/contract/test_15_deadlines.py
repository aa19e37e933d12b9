"""CONTRACT 15: deadlines of steps end them; promises about duration only alert."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.support.desk import Desk, seated
from tests.support.house import House

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
WAIT = {"type": "step", "id": "w", "handler": "wait_signal", "params": {"signal": "paid"}}
LOG = {"handler": "log", "params": {"message": "late"}}
PULLED = {"type": "step", "id": "review", "handler": "review"}


def sequence(*blocks: Any, **more: Any) -> Any:
    """A definition of these blocks."""
    return {"id": "s", "blocks": list(blocks), **more}


def outputs(desk: Desk, instance: Any) -> list[tuple[str, Any]]:
    """The rows of an instance's outputs: of which block, and what it says."""
    found = desk.api.get(f"/instances/{instance['id']}/outputs")
    return [(row["block_id"], row["output"]) for row in found]


def later(desk: Desk, span: timedelta) -> None:
    """The time has passed, and all that was due is done."""
    desk.house.advance(span)
    desk.house.tick()
    desk.house.work()


# -- deadline ------------------------------------------------------------------------------------
def test_breach_leaves_a_row_and_fails_the_instance(desk: Desk) -> None:
    """The row says what the deadline was and how long it took."""
    found = desk.run(sequence({**WAIT, "deadline": 61_500}))
    assert outputs(desk, found) == []
    later(desk, 2 * MINUTE)
    assert desk.read(found)["state"] == "failed"
    ((block, told),) = outputs(desk, found)
    assert (block, told["_error"], told["_deadline_ms"]) == ("w", "sla_deadline_breached", 61_500)
    assert told["_elapsed_ms"] >= 120_000


def test_step_that_ends_in_time_breaches_nothing(desk: Desk) -> None:
    """It has its own row alone."""
    step = {"type": "step", "id": "a", "handler": "noop", "deadline": 60_000}
    found = desk.run(sequence(step))
    later(desk, HOUR)
    assert desk.read(found)["state"] == "completed"
    (row,) = desk.api.get(f"/instances/{found['id']}/outputs")
    assert "_error" not in (row["output"] or {})


def test_deadline_counts_from_the_steps_own_start(desk: Desk) -> None:
    """A later step with a short deadline is not late before it begins."""
    slow = {"type": "wait", "id": "slow", "duration": "2h"}
    quick = {"type": "step", "id": "quick", "handler": "noop", "deadline": 1000}
    found = desk.run(sequence(slow, quick))
    later(desk, 2 * HOUR)
    assert desk.read(found)["state"] == "completed"


@pytest.mark.parametrize("inside", [False, True])
def test_delay_is_none_of_a_deadlines_time(desk: Desk, inside: bool) -> None:
    """What is delayed for two days begins in two days; also inside a branch."""
    step = {"type": "step", "id": "a", "handler": "noop", "delay": {"days": 2}, "deadline": 1000}
    parallel = {"type": "parallel", "id": "p", "branches": [[step]]}
    found = desk.run(sequence(parallel if inside else step))
    later(desk, timedelta(days=2))
    assert desk.read(found)["state"] == "completed"


def test_instance_that_begins_later_has_its_deadline_later(desk: Desk) -> None:
    """next_fire_at, and a time that an operator names, move the deadline along."""
    now = desk.house.advance()
    at = (now + 3 * HOUR).isoformat()
    step = {"type": "step", "id": "a", "handler": "noop", "deadline": 1000}
    found = desk.api.started(sequence(step), next_fire_at=at)
    other = desk.api.started(sequence(step), next_fire_at=at)
    body = {"state": "paused"}
    desk.api.send("PATCH", f"/instances/{other['id']}/state", body)
    body = {"state": "scheduled", "next_fire_at": (now + 5 * HOUR).isoformat()}
    desk.api.send("PATCH", f"/instances/{other['id']}/state", body)
    later(desk, 3 * HOUR)
    assert desk.read(found)["state"] == "completed"
    assert desk.read(other)["state"] == "scheduled"
    later(desk, 2 * HOUR)
    assert desk.read(other)["state"] == "completed"


def test_breach_inside_a_branch_can_be_caught(desk: Desk) -> None:
    """The row is there all the same, and the catch runs."""
    block = {
        "type": "try_catch", "id": "careful", "try_block": [{**WAIT, "deadline": 1000}],
        "catch_block": [{"type": "step", "id": "plan_b", "handler": "noop"}],
    }  # fmt: skip
    found = desk.run(sequence(block))
    later(desk, MINUTE)
    assert desk.read(found)["state"] == "completed"
    assert [block for block, _ in outputs(desk, found)] == ["w", "plan_b"]
    assert outputs(desk, found)[0][1]["_error"] == "sla_deadline_breached"


@pytest.mark.parametrize("inside", [False, True])
def test_waiting_external_step_is_breached_by_the_tick(
    houses: Callable[..., House],
    inside: bool,
) -> None:
    """Nobody has to come for it."""
    with seated(houses(handler_url="")) as desk:
        step = {**PULLED, "deadline": 1000}
        parallel = {"type": "parallel", "id": "p", "branches": [[step]]}
        found = desk.run(sequence(parallel if inside else step))
        assert desk.read(found)["state"] == "waiting"
        desk.house.advance(MINUTE)
        desk.house.tick()
        assert desk.read(found)["state"] == "failed"
        ((block, told),) = outputs(desk, found)
        assert (block, told["_error"]) == ("review", "sla_deadline_breached")


def test_breach_handler_runs_and_the_instance_fails_all_the_same(desk: Desk) -> None:
    """It gets its parameters, and what was breached besides."""
    marks = {"handler": "log", "params": {"message": "late: {{context.data.id}}"}}
    step = {**WAIT, "deadline": 1000, "on_deadline_breach": marks}
    found = desk.run(sequence(step), context={"data": {"id": "i7"}})
    later(desk, MINUTE)
    assert desk.read(found)["state"] == "failed"
    audit = desk.api.get(f"/instances/{found['id']}/audit")
    assert "step.escalated" in {entry["action"] for entry in audit}
    ((_, told),) = outputs(desk, found)
    assert set(told) == {"_error", "_deadline_ms", "_elapsed_ms"}


def test_breach_handler_that_fails_changes_nothing(desk: Desk) -> None:
    """The step fails by its deadline."""
    step = {**WAIT, "deadline": 1000, "on_deadline_breach": {"handler": "fail", "params": {}}}
    found = desk.run(sequence(step))
    later(desk, MINUTE)
    assert desk.read(found)["error"]["code"] == "deadline"


def test_breach_is_told_to_receivers(houses: Callable[..., House]) -> None:
    """As every failure is, of a flat instance, too."""
    house = houses(webhook_urls="http://127.0.0.1:9/hook", allow_internal_urls=True)
    with seated(house) as desk:
        found = desk.run(sequence({**WAIT, "deadline": 1000}))
        later(desk, MINUTE)
        rows = desk.api.rows("SELECT event_type, instance_id::text FROM outbox")
        assert rows == [("instance.failed", found["id"])]


def test_breach_never_fails_what_may_have_moved_money(houses: Callable[..., House]) -> None:
    """A call in flight is found out about; the step is parked for a person."""
    with seated(houses(handler_url="")) as desk:
        charge = {"type": "step", "id": "charge", "handler": "charge", "deadline": "1h"}
        found = desk.run(sequence(charge))
        body = {"handler_name": "charge", "worker_id": "w"}
        assert desk.api.post("/workers/tasks/poll", body, status=200)
        later(desk, 2 * HOUR)
        shown = desk.read(found)
        assert (shown["state"], shown["attention"]["reason"]) == ("waiting", "outcome_unknown")


# -- sla -----------------------------------------------------------------------------------------
def alerts(desk: Desk, instance: Any) -> list[tuple[str, Any]]:
    """The alerts among an instance's outputs."""
    return [row for row in outputs(desk, instance) if row[0].startswith("_sla:")]


def test_run_that_takes_too_long_is_told_of_once(desk: Desk) -> None:
    """And goes on."""
    found = desk.run(sequence(WAIT, sla={"max_runtime": 60_000}))
    later(desk, 2 * MINUTE)
    later(desk, HOUR)
    ((scope, told),) = alerts(desk, found)
    assert (scope, told["_sla_breach"]) == ("_sla:runtime", "runtime")
    assert told["_alerted_at"].endswith("Z")
    assert desk.read(found)["state"] == "waiting"


def test_step_that_takes_too_long_is_told_of_once(desk: Desk) -> None:
    """And goes on."""
    found = desk.run(sequence(WAIT, sla={"max_step_runtime": 60_000}))
    later(desk, MINUTE / 2)
    assert alerts(desk, found) == []
    later(desk, 2 * MINUTE)
    later(desk, HOUR)
    ((scope, told),) = alerts(desk, found)
    assert (scope, told["_sla_breach"]) == ("_sla:step:w", "step")
    assert desk.read(found)["state"] == "waiting"
    desk.api.post(f"/instances/{found['id']}/signals", {"signal_type": {"custom": "paid"}})
    desk.house.work()
    assert desk.read(found)["state"] == "completed"
    assert desk.api.rows("SELECT count(*) FROM alarms") == [(0,)]


def test_each_step_that_takes_too_long_is_told_of(desk: Desk) -> None:
    """A step of a loop once, however often it takes too long."""
    loop = {
        "type": "loop", "id": "l", "condition": "true", "max_iterations": 2, "body": [
            {"type": "step", "id": "nap", "handler": "sleep", "params": {"duration_ms": 300_000}},
        ],
    }  # fmt: skip
    found = desk.run(sequence(loop, WAIT, sla={"max_step_runtime": 60_000}))
    for _ in range(4):
        later(desk, 2 * MINUTE)
    assert [scope for scope, _ in alerts(desk, found)] == ["_sla:step:nap"]
    later(desk, 5 * MINUTE)
    later(desk, 5 * MINUTE)
    assert [scope for scope, _ in alerts(desk, found)] == ["_sla:step:nap", "_sla:step:w"]


def test_step_that_ends_in_time_is_not_told_of(desk: Desk) -> None:
    """Nor one that ended before anybody looked."""
    nap = {"type": "step", "id": "nap", "handler": "sleep", "params": {"duration_ms": 30_000}}
    found = desk.run(sequence(nap, sla={"max_step_runtime": 60_000}))
    desk.house.advance(MINUTE / 2)
    desk.house.work()
    later(desk, HOUR)
    assert alerts(desk, found) == []
    assert desk.read(found)["state"] == "completed"


def test_delay_is_none_of_a_steps_runtime(desk: Desk) -> None:
    """A step that is delayed for three days has not begun, also when it was put off meanwhile."""
    step = {**WAIT, "delay": {"days": 3}}
    found = desk.run(sequence(step, sla={"max_step_runtime": 60_000}))
    body = {"filter": {"tenant_id": "default"}, "offset_secs": 86_400}
    assert desk.api.send("PATCH", "/instances/bulk/reschedule", body).json["count"] == 1
    later(desk, timedelta(days=3, hours=1))
    assert alerts(desk, found) == []
    later(desk, timedelta(days=1))
    assert [scope for scope, _ in alerts(desk, found)] == ["_sla:step:w"]


def test_breach_of_a_step_is_told_to_receivers(houses: Callable[..., House]) -> None:
    """Which step it is, how long it may take and how long it took."""
    house = houses(webhook_urls="http://127.0.0.1:9/hook", allow_internal_urls=True)
    with seated(house) as desk:
        found = desk.run(sequence(WAIT, sla={"max_step_runtime": 60_000}))
        later(desk, 2 * MINUTE)
        ((kind, body),) = desk.api.rows("SELECT event_type, payload FROM outbox")
        assert (kind, body["instance_id"]) == ("instance.sla_breached", found["id"])
        data = body["data"]
        assert set(data) == {
            "type", "limit_ms", "elapsed_ms", "step_id", "sequence_id", "tenant_id",
        }  # fmt: skip
        told = data["type"], data["limit_ms"], data["step_id"], data["tenant_id"]
        assert told == ("step", 60_000, "w", "default")
        assert data["elapsed_ms"] >= 120_000


def test_breaches_are_counted_by_type(desk: Desk) -> None:
    """Of runs and of steps."""
    desk.run(sequence(WAIT, sla={"max_runtime": 60_000, "max_step_runtime": 60_000}))
    later(desk, 2 * MINUTE)
    rows = desk.api.rows("SELECT action FROM audit_log WHERE action LIKE '%%sla_breached'")
    assert sorted(rows) == [("instance.sla_breached",), ("step.sla_breached",)]
    metrics = desk.api.client.get("/metrics").text
    assert 'orch8_sla_breached_total{type="step"}' in metrics


def test_step_is_held_to_the_version_that_it_goes_on_by(desk: Desk) -> None:
    """Which may promise less."""
    found = desk.run(sequence(WAIT, sla={"max_step_runtime": 60_000}))
    target = desk.api.post("/sequences", sequence(WAIT, sla={"max_step_runtime": 7_200_000}))
    body = {"instance_id": found["id"], "target_sequence_id": target["id"]}
    desk.api.post("/sequences/migrate-instance", body, status=200)
    later(desk, HOUR)
    assert alerts(desk, found) == []
    later(desk, 2 * HOUR)
    assert [scope for scope, _ in alerts(desk, found)] == ["_sla:step:w"]
