"""CONTRACT 33: the doctor says why an instance is where it is, and what to do about it."""

from __future__ import annotations

import shlex
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.support.api import CHARGE, NOOP, WAITING, Api
from tests.support.desk import Desk

FAILING = {"id": "failing", "blocks": [{"type": "step", "handler": "fail"}]}
FUTURE = "2099-01-01T00:00:00Z"


def diagnosed(api: Api, instance: Any) -> list[Any]:
    """What is found out about an instance."""
    found = api.get(f"/instances/{instance['id']}/diagnosis")
    assert found["instance_id"] == instance["id"]
    return list(found["diagnoses"])


def previews(api: Api, instance: Any) -> list[Any]:
    """What can be done about it; the same each time."""
    path = f"/instances/{instance['id']}/remediations"
    found = api.get(path)
    assert api.get(path) == found
    return list(found)


def apply(api: Api, instance: Any, preview_id: str, *, status: int = 200, **more: Any) -> Any:
    """The answer to a remediation."""
    path = f"/instances/{instance['id']}/remediations/apply"
    answer = api.send("POST", path, {"preview_id": preview_id, **more})
    assert answer.status_code == status, answer.text
    return answer.json


def test_failed_instance_has_one_diagnosis(desk: Desk) -> None:
    """Retrying it is offered, with its risk."""
    instance = desk.run(FAILING)
    (found,) = diagnosed(desk.api, instance)
    assert (found["code"], found["category"], found["confidence"], found["health"]) == (
        "TERMINAL_STATE", "direct_evidence", "certain", "expected",
    )  # fmt: skip
    assert found["severity"] == "info"
    assert "failed" in found["summary"]
    (preview,) = previews(desk.api, instance)
    assert preview.items() >= {
        "preview_id": f"{instance['id']}:failed:TERMINAL_STATE:0:0", "remediation_index": 0,
        "finding_code": "TERMINAL_STATE", "expected_state": "failed", "side_effect_risk": True,
        "action": "retry_instance", "command": f"orch8 instance retry {instance['id']}",
    }.items()  # fmt: skip


def test_risk_has_to_be_acknowledged(desk: Desk) -> None:
    """400 otherwise; then it is retried, and the preview is used up."""
    instance = desk.run(FAILING)
    (preview,) = previews(desk.api, instance)
    refused = apply(desk.api, instance, preview["preview_id"], status=400)
    assert "acknowledge_side_effect_risk=true is required" in refused["error"]
    risk = {"acknowledge_side_effect_risk": True}
    done = apply(desk.api, instance, preview["preview_id"], **risk)
    assert (done["action"], done["before_state"]) == ("retry_instance", "failed")
    assert done["after_state"] == "scheduled"
    assert desk.read(instance)["round"] == 2
    refused = apply(desk.api, instance, preview["preview_id"], status=400, **risk)
    assert "stale or does not belong" in refused["error"]


def test_instance_that_was_set_to_waiting_says_so(desk: Desk) -> None:
    """It waits for whoever set it; the command is one to be completed by hand."""
    sleeper = {"type": "step", "handler": "sleep", "params": {"duration_ms": 600_000}}
    instance = desk.run({"id": "sleeper", "blocks": [sleeper]})
    answer = desk.api.send("PATCH", f"/instances/{instance['id']}/state", {"state": "waiting"})
    assert answer.status_code == 200
    (found,) = diagnosed(desk.api, instance)
    assert (found["code"], found["category"], found["confidence"], found["health"]) == (
        "WAITING_EXTERNAL_EVENT", "probable_cause", "medium", "expected",
    )  # fmt: skip
    (remedy,) = found["remediation"]
    assert remedy["command"].startswith(f"orch8 signal {instance['id']} custom:<name>")
    (preview,) = previews(desk.api, instance)
    refused = apply(desk.api, instance, preview["preview_id"], status=400)
    assert "must be completed manually" in refused["error"]


def test_completed_instance_needs_nothing(desk: Desk) -> None:
    """One diagnosis, no previews."""
    instance = desk.run(NOOP)
    (found,) = diagnosed(desk.api, instance)
    assert found["code"] == "TERMINAL_STATE"
    assert "remediation" not in found
    assert previews(desk.api, instance) == []


def test_paused_instance_can_be_resumed(api: Api) -> None:
    """Without risk; acknowledging one is fine."""
    instance = api.started(NOOP)
    api.post(f"/instances/{instance['id']}/signals", {"signal_type": "pause"})
    found = diagnosed(api, instance)[0]
    assert (found["code"], found["confidence"]) == ("PAUSED", "certain")
    (preview,) = previews(api, instance)
    assert preview["preview_id"] == f"{instance['id']}:paused:PAUSED:0:0"
    assert (preview["action"], preview["side_effect_risk"]) == ("resume_instance", False)
    assert preview["command"] == f"orch8 signal {instance['id']} resume"
    done = apply(api, instance, preview["preview_id"], acknowledge_side_effect_risk=True)
    assert (done["before_state"], done["after_state"]) == ("paused", "scheduled")
    apply(api, instance, preview["preview_id"], status=400)


def test_instance_that_is_not_due_waits_until_then(api: Api) -> None:
    """The time is the evidence."""
    instance = api.started(NOOP, next_fire_at=FUTURE)
    (found,) = diagnosed(api, instance)
    assert (found["code"], found["confidence"]) == ("WAITING_UNTIL", "certain")
    assert found["evidence"] == [{"label": "next_fire_at", "summary": FUTURE}]


def test_due_step_without_a_worker_process_is_found(api: Api) -> None:
    """Somebody has to start one."""
    (found,) = diagnosed(api, api.started(NOOP))
    assert (found["code"], found["severity"]) == ("NO_WORKER_PROCESS", "critical")


def test_task_that_nobody_polls_for_is_found(api: Api) -> None:
    """No command helps; a worker that polls does."""
    instance = api.started(CHARGE)
    (found,) = diagnosed(api, instance)
    assert (found["code"], found["confidence"], found["health"], found["severity"]) == (
        "NO_COMPATIBLE_WORKER", "high", "degraded", "error",
    )  # fmt: skip
    assert "no live worker" in found["summary"]
    (preview,) = previews(api, instance)
    assert "command" not in preview
    refused = apply(api, instance, preview["preview_id"], status=400)
    assert "must be completed manually" in refused["error"]
    poll = {"handler_name": "charge", "worker_id": "w"}
    api.post("/workers/tasks/poll", poll, status=200)
    (found,) = diagnosed(api, instance)
    assert found["code"] == "WORKER_TASK_PENDING"
    api.rows("UPDATE pull_workers SET last_seen_at = '2020-01-01' RETURNING worker_id")
    assert diagnosed(api, instance)[0]["code"] == "STALE_WORKER_CLAIM"


def test_task_that_waits_for_its_worker_is_found(api: Api) -> None:
    """Quite normal at first, odd after two minutes."""
    poll = {"handler_name": "charge", "worker_id": "w"}
    api.post("/workers/tasks/poll", poll, status=200)
    instance = api.started(CHARGE)
    assert diagnosed(api, instance)[0]["code"] == "WAITING_WORKER_PICKUP"
    api.rows("UPDATE steps SET due_at = due_at - interval '3 minutes' RETURNING id")
    assert diagnosed(api, instance)[0]["code"] == "WORKER_NOT_CLAIMING"


def test_wait_for_a_signal_is_found(desk: Desk) -> None:
    """Sending it is a person's decision."""
    instance = desk.run(WAITING)
    (found,) = diagnosed(desk.api, instance)
    assert (found["code"], found["category"], found["confidence"], found["health"]) == (
        "WAITING_EXTERNAL_EVENT", "probable_cause", "medium", "expected",
    )  # fmt: skip
    (remedy,) = found["remediation"]
    assert remedy["command"] == f"orch8 signal {instance['id']} custom:paid"
    assert remedy["action"] == "manual"


def test_signals_that_nobody_wants_are_a_warning(desk: Desk) -> None:
    """After what is known for certain."""
    instance = desk.run(WAITING)
    path = f"/instances/{instance['id']}/signals"
    desk.api.post(path, {"signal_type": {"custom": "nobody"}})
    desk.house.advance(timedelta(minutes=2))
    found = diagnosed(desk.api, instance)
    assert [each["code"] for each in found] == ["WAITING_EXTERNAL_EVENT", "SIGNALS_NOT_CONSUMED"]
    assert found[1]["category"] == "health_warning"


def test_wait_for_a_child_is_found(desk: Desk) -> None:
    """With the child's id and state."""
    desk.api.post("/sequences", WAITING)
    block = {"type": "sub_sequence", "id": "sub", "sequence": "wait_for_it"}
    parent = desk.run({"id": "parent", "blocks": [block]})
    (found,) = diagnosed(desk.api, parent)
    (child,) = desk.api.get(f"/instances/{parent['id']}/children")
    assert found["code"] == "WAITING_CHILD"
    assert found["evidence"] == [
        {"label": "child", "summary": child["id"], "data": {"state": "waiting"}}
    ]


PARKED = "state = 'parked', due_at = NULL, attention = '{\"reason\": \"poison\"}'"
QUEUED = "state = 'scheduled', due_at = NULL, limit_key = 'stripe', queued_at = now(), pull = false"
FENCED = "state = 'scheduled', pull = false, waits_for = 'fence', fence = 'f'"
LOST = "state = 'running', due_at = NULL, pull = false, claimed_by = id"
PENDING = "state = 'waiting', due_at = NULL, pull = false, waits_for = 'pending', effect = 'none'"
DOUBT = "state = 'scheduled', pull = false, outcome = 'unknown', effect = 'money'"


@pytest.mark.parametrize(
    ("change", "code", "severity"),
    [
        (PARKED, "PARKED", "error"),
        (QUEUED, "RATE_LIMITED", "info"),
        (FENCED, "WAITING_FENCE", "info"),
        (LOST, "STALE_RUNNING_STATE", "warning"),
        (PENDING, "WAITING_PROVIDER", "info"),
        (DOUBT, "IN_DOUBT", "warning"),
    ],
)
def test_state_of_the_step_is_told(api: Api, change: str, code: str, severity: str) -> None:
    """From its row, whatever brought it there."""
    instance = api.started(CHARGE)
    api.rows(f"UPDATE steps SET {change} RETURNING id")
    found = diagnosed(api, instance)[0]
    assert (found["code"], found["severity"], found["affected_resource"]) == (
        code, severity, "charge",
    )  # fmt: skip


def test_lost_workers_are_a_warning(api: Api) -> None:
    """Beside what the step waits for now."""
    instance = api.started(CHARGE)
    api.rows("UPDATE steps SET crashes = 2 RETURNING id")
    codes = [each["code"] for each in diagnosed(api, instance)]
    assert codes == ["NO_COMPATIBLE_WORKER", "WORKER_CRASHES"]


def test_preview_of_another_instance_is_refused(desk: Desk) -> None:
    """As is one that was made up, or that is of another state."""
    one, other = desk.run(FAILING), desk.run(FAILING)
    (foreign,) = previews(desk.api, other)
    for wrong in (foreign["preview_id"], "x", f"{one['id']}:paused:PAUSED:0:0"):
        refused = apply(desk.api, one, wrong, status=400, acknowledge_side_effect_risk=True)
        assert "stale or does not belong" in refused["error"]
    assert desk.read(one)["round"] == 1


def test_unknown_and_foreign_instances_are_404(api: Api) -> None:
    """Of all three routes; what is no id is 400."""
    instance = api.started()["id"]
    for wanted, headers in ((str(uuid4()), {}), (instance, {"X-Tenant-Id": "other"})):
        path = f"/instances/{wanted}"
        api.refused(404, "GET", f"{path}/diagnosis", headers=headers)
        api.refused(404, "GET", f"{path}/remediations", headers=headers)
        body = {"preview_id": "x"}
        api.refused(404, "POST", f"{path}/remediations/apply", body, headers=headers)
    api.refused(400, "GET", "/instances/17/diagnosis")
    api.refused(422, "POST", f"/instances/{instance}/remediations/apply", {})


def gated(block_id: str, **asked: Any) -> Any:
    """A sequence with a step that waits for a person's answer."""
    step = {"type": "step", "id": block_id, "handler": "noop", "wait_for_input": asked}
    return {"id": "gated", "blocks": [step]}


def test_pending_approval_is_found(desk: Desk) -> None:
    """The block is named; answering is a person's matter, and the command works as it stands."""
    instance = desk.run(gated("review", timeout="2d"))
    (found,) = diagnosed(desk.api, instance)
    assert (found["code"], found["category"], found["health"], found["confidence"]) == (
        "PENDING_APPROVAL", "direct_evidence", "expected", "certain",
    )  # fmt: skip
    assert "'review'" in found["summary"]
    assert [sign["label"] for sign in found["evidence"]] == ["waiting_since", "deadline"]
    (preview,) = previews(desk.api, instance)
    command = f'orch8 signal {instance["id"]} custom:human_input:review \'{{"value": "yes"}}\''
    assert (preview["action"], preview["command"]) == ("manual", command)
    refused = apply(desk.api, instance, preview["preview_id"], status=400)
    assert "must be completed manually" in refused["error"]


def test_pending_approval_names_a_choice_that_counts(desk: Desk) -> None:
    """The first of its own, quoted for a shell."""
    instance = desk.run(gated("review", choices=[{"label": "Go", "value": "it's fine"}]))
    (found,) = diagnosed(desk.api, instance)
    (remedy,) = found["remediation"]
    assert shlex.split(remedy["command"])[-1] == '{"value": "it\'s fine"}'


def test_delayed_gate_waits_until_it_is_asked(desk: Desk) -> None:
    """It is no approval yet."""
    definition = gated("review")
    definition["blocks"][0]["delay"] = {"days": 1}
    (found,) = diagnosed(desk.api, desk.run(definition))
    assert found["code"] == "WAITING_UNTIL"


def test_wait_for_events_is_found(desk: Desk) -> None:
    """With those that have not come."""
    params = {"events": ["paid", "settled"], "correlation_key": "in_1"}
    step = {"type": "step", "id": "s", "handler": "wait_for_event", "params": params}
    instance = desk.run({"id": "waits", "blocks": [step]})
    told = {"event_name": "paid", "producer_event_id": "1", "correlation_key": "in_1"}
    desk.api.post("/events", told)
    (found,) = diagnosed(desk.api, instance)
    assert (found["code"], found["health"]) == ("WAITING_EVENT", "expected")
    assert "settled about 'in_1'" in found["summary"]
    assert "paid" not in found["summary"]
    assert len(found["evidence"][0]["data"]["matched"]) == 1
