"""CONTRACT 9.6: what is done with every instance that a filter means."""

from __future__ import annotations

from typing import Any

import pytest

from orch8.handlers.python import Refused
from tests.support.api import CHARGE, NOOP, WAITING, Api
from tests.support.desk import Desk

FUTURE, HOUR_LATER = "2999-01-01T00:00:00Z", "2999-01-01T01:00:00Z"
MINE: dict[str, Any] = {"tenant_id": "default"}


def later(api: Api, definition: Any = NOOP, **members: Any) -> str:
    """The id of an instance that is scheduled for a far day."""
    return str(api.started(definition, next_fire_at=FUTURE, **members)["id"])


def state(api: Api, instance_id: str) -> str:
    """The state that an instance shows."""
    return str(api.get(f"/instances/{instance_id}")["state"])


def patch(api: Api, path: str, **body: Any) -> Any:
    """What a successful PATCH is answered."""
    answer = api.send("PATCH", path, body)
    assert answer.status_code == 200, answer.text
    return answer.json


def act(api: Api, action: str, wanted: Any = MINE, **more: Any) -> Any:
    """What a batch action is answered."""
    body = {"filter": wanted, "action": action, **more}
    return api.post("/instances/batch-action", body, status=200)


def tried(answer: Any) -> tuple[int, int, int, int]:
    """The counts of a batch action."""
    return answer["matched"], answer["applied"], answer["skipped"], answer["failed"]


def entries(api: Api, instance_id: str) -> list[Any]:
    """The audit log of an instance since it was created, the oldest first."""
    return list(reversed(api.get(f"/instances/{instance_id}/audit")[:-1]))


def test_running_instances_can_all_be_set_to_waiting(desk: Desk) -> None:
    """Those that are not running are left as they are."""
    sleeper = {"type": "step", "handler": "sleep", "params": {"duration_ms": 600_000}}
    running = desk.run({"id": "sleeper", "blocks": [sleeper]})
    scheduled = later(desk.api)
    answer = patch(desk.api, "/instances/bulk/state", filter=MINE, state="waiting")
    assert answer["count"] == 1
    assert state(desk.api, running["id"]) == "waiting"
    assert state(desk.api, scheduled) == "scheduled"


# -- the filter ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("method", "path", "more"),
    [
        ("PATCH", "/instances/bulk/state", {"state": "paused"}),
        ("PATCH", "/instances/bulk/reschedule", {"offset_secs": 5}),
        ("POST", "/instances/batch-action", {"action": "pause"}),
    ],
)
def test_tenant_must_be_named(api: Api, method: str, path: str, more: dict[str, Any]) -> None:
    """By the header or the filter; nothing is done to the instances of every tenant."""
    wanted = later(api)
    answer = api.refused(400, method, path, {"filter": {}, **more})
    assert "tenant scope is required" in answer["error"]
    api.refused(422, method, path, more)
    headers = {"X-Tenant-Id": "other"}
    assert api.send(method, path, {"filter": MINE, **more}, headers=headers).status_code == 200
    assert state(api, wanted) == "scheduled"


def test_filter_narrows_by_each_member(api: Api) -> None:
    """Namespace, sequence, states and metadata."""
    one = later(api, metadata={"batch": "7", "run": 1})
    other = later(api, WAITING)
    sequence = api.get(f"/instances/{one}")["sequence_id"]
    for member in (
        {"metadata": {"batch": "7"}}, {"metadata": {"run": 1}}, {"sequence_id": sequence},
    ):  # fmt: skip
        assert act(api, "pause", MINE | member, dry_run=True)["matched"] == 1
    for member in ({"metadata": {"batch": "8"}}, {"namespace": "x"}, {"states": ["paused"]}):
        assert act(api, "pause", MINE | member, dry_run=True)["matched"] == 0
    both = MINE | {"states": ["scheduled", "waiting"], "namespace": "default"}
    assert act(api, "pause", both, dry_run=True)["matched"] == 2
    assert state(api, other) == "scheduled"
    body = {"filter": MINE | {"states": ["asleep"]}, "action": "pause"}
    api.refused(422, "POST", "/instances/batch-action", body)


# -- bulk state ----------------------------------------------------------------------------------
def test_bulk_state_counts_what_it_changed(api: Api) -> None:
    """Only moves that are legal are made; the others are skipped."""
    first, second = later(api), later(api)
    paused = patch(api, "/instances/bulk/state", filter=MINE, state="paused")
    assert paused == {"count": 2, "skipped": 0, "has_more": False}
    assert patch(api, "/instances/bulk/state", filter=MINE, state="paused")["skipped"] == 2
    assert {state(api, first), state(api, second)} == {"paused"}
    cancelled = patch(api, "/instances/bulk/state", filter=MINE, state="cancelled")
    assert cancelled["count"] == 2
    assert {state(api, first), state(api, second)} == {"cancelled"}
    again = patch(api, "/instances/bulk/state", filter=MINE, state="scheduled")
    assert (again["count"], again["skipped"]) == (0, 2)


def test_bulk_state_says_who_did_it(api: Api) -> None:
    """Each instance has an audit entry with the actor and the reason."""
    wanted = later(api)
    body = {"filter": MINE, "state": "paused", "reason": "provider is down"}
    api.send("PATCH", "/instances/bulk/state", body, headers={"X-Actor": "ana"})
    (entry,) = entries(api, wanted)
    assert (entry["action"], entry["actor"]) == ("instance.paused", "ana")
    assert entry["reason"] == "provider is down"


# -- bulk reschedule -----------------------------------------------------------------------------
def test_reschedule_shifts_what_is_scheduled(api: Api) -> None:
    """Later or sooner; instances in other states keep their time."""
    moved, waiting = later(api), api.started(CHARGE)["id"]
    answer = patch(api, "/instances/bulk/reschedule", filter=MINE, offset_secs=3600)
    assert answer["count"] == 1
    assert api.get(f"/instances/{moved}")["next_fire_at"] == HOUR_LATER
    assert state(api, waiting) == "waiting"
    patch(api, "/instances/bulk/reschedule", filter=MINE, offset_secs=-3600)
    assert api.get(f"/instances/{moved}")["next_fire_at"] == FUTURE
    assert [entry["action"] for entry in entries(api, moved)] == ["instance.rescheduled"] * 2


def test_reschedule_needs_an_offset(api: Api) -> None:
    """A whole number of seconds."""
    for given in ({}, {"offset_secs": "5"}, {"offset_secs": 1.5}):
        body = {"filter": MINE, **given}
        api.refused(422, "PATCH", "/instances/bulk/reschedule", body)


def test_reschedule_leaves_attempts_alone(desk: Desk) -> None:
    """A call that was made before is sent again when its retry policy says, not sooner."""
    retry = {"max_attempts": 2, "backoff": "1h"}
    failing = {"id": "f", "blocks": [{"type": "step", "handler": "fail", "retry": retry,
        "params": {"retryable": True}}]}  # fmt: skip
    found = desk.run(failing)
    assert found["state"] == "scheduled"
    answer = patch(desk.api, "/instances/bulk/reschedule", filter=MINE, offset_secs=-7200)
    assert answer["count"] == 0
    assert desk.read(found)["next_fire_at"] == found["next_fire_at"]


# -- batch action --------------------------------------------------------------------------------
def test_batch_action_pauses_resumes_and_cancels(api: Api) -> None:
    """What it makes no sense for is skipped; a waiting instance can be paused, too."""
    ids = [later(api), api.started(CHARGE)["id"]]
    for action, expected in (("pause", {"paused"}), ("resume", {"scheduled", "waiting"}),
        ("cancel", {"cancelled"})):  # fmt: skip
        assert tried(act(api, action)) == (2, 2, 0, 0)
        assert {state(api, each) for each in ids} == expected
    assert tried(act(api, "pause")) == (2, 0, 2, 0)


@pytest.mark.parametrize("action", ["pause", "signal"])
def test_batch_action_has_one_audit_entry_for_each_instance(api: Api, action: str) -> None:
    """It says which action, and in which state the instance was."""
    wanted = later(api)
    act(api, action, signal_type="paid")
    (entry,) = entries(api, wanted)
    assert (entry["event_type"], entry["from_state"]) == ("batch_action", "scheduled")
    assert entry["details"]["action"] == action


def test_batch_action_signals_by_name(api: Api) -> None:
    """The name is always one of your own, whatever it is; an instance that ended is skipped."""
    waiting, gone = api.started(WAITING)["id"], later(api)
    assert api.send("PATCH", f"/instances/{gone}/state", {"state": "cancelled"}).status_code == 200
    answer = act(api, "signal", signal_type="cancel", payload={"n": 1})
    assert tried(answer) == (2, 1, 1, 0)
    (signal,) = api.get(f"/instances/{waiting}/signals")
    assert (signal["name"], signal["payload"]) == ("cancel", {"n": 1})
    assert state(api, waiting) != "cancelled"
    body = {"filter": MINE, "action": "signal"}
    assert "signal_type" in api.refused(400, "POST", "/instances/batch-action", body)["error"]


def test_batch_action_retries_what_failed(desk: Desk) -> None:
    """And nothing else."""
    desk.house.handler("flaky", _refuse_once())
    flaky = {"id": "flaky", "blocks": [{"type": "step", "handler": "flaky"}]}
    failed = desk.run(flaky)
    assert failed["state"] == "failed"
    other = later(desk.api)
    assert tried(act(desk.api, "retry")) == (2, 1, 1, 0)
    desk.house.work()
    assert desk.read(failed)["state"] == "completed"
    assert state(desk.api, other) == "scheduled"


def test_batch_action_is_only_counted_in_a_dry_run(api: Api) -> None:
    """Nothing is done, and nothing said in the audit log."""
    wanted = later(api)
    answer = act(api, "cancel", dry_run=True)
    assert (answer["matched"], answer["applied"], answer["dry_run"]) == (1, 0, True)
    assert entries(api, wanted) == []


def test_batch_action_takes_the_oldest_first(api: Api) -> None:
    """Up to the limit, which is at least one; the answer says whether there are more."""
    ids = [later(api) for _ in range(3)]
    answer = act(api, "pause", limit=0)
    assert (answer["matched"], answer["has_more"]) == (1, True)
    assert [state(api, each) for each in ids] == ["paused", "scheduled", "scheduled"]
    assert act(api, "pause", limit=99_999)["matched"] == 3


def _refuse_once() -> Any:
    calls: list[None] = []

    def run(*_: Any) -> dict[str, Any]:
        calls.append(None)
        if len(calls) == 1:
            raise Refused("not yet")
        return {}

    return run


def test_null_in_a_filter_is_no_filter(api: Api) -> None:
    """A member that is null narrows nothing, as one that is left out."""
    started = api.started(NOOP)
    body = {"filter": {"tenant_id": "default", "states": None}, "state": "paused"}
    answer = api.send("PATCH", "/instances/bulk/state", body)
    assert (answer.status_code, answer.json["count"]) == (200, 1)
    assert api.get(f"/instances/{started['id']}")["state"] == "paused"
