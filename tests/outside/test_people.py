"""From outside: gates, approvals, signals, events, and what the doctor says of them."""

from __future__ import annotations

import pytest

from tests.outside.caller import Caller, ids, sleeper, step

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("stack")]


def gate(block_id: str = "review", **more: object) -> dict[str, object]:
    """A step that waits for a person."""
    return step(block_id, "human_review", wait_for_input={"prompt": "ok?", **more})


def test_gate_waits_is_listed_and_opens_by_its_answer(caller: Caller) -> None:
    """Nonsense leaves it shut; yes leaves a row, the data and the handler's own row."""
    instance = caller.run(gate(), step("after"))
    caller.ended(instance, "waiting")
    (item,) = caller.get(f"/approvals?tenant_id={caller.tenant}")["items"]
    assert (item["instance_id"], item["block_id"], item["prompt"]) == (instance, "review", "ok?")
    assert [c["value"] for c in item["choices"]] == ["yes", "no"]
    caller.signal(instance, {"custom": "human_input:review"}, {"approved": True})
    caller.signal(instance, {"custom": "human_input:review"}, {"value": "maybe"})
    assert caller.instance(instance)["state"] == "waiting"
    caller.signal(instance, {"custom": "human_input:review"}, {"value": "yes"})
    shown = caller.ended(instance)
    assert shown["state"] == "completed"
    assert shown["context"]["data"]["review"] == "yes"
    accepted, reviewed = caller.outputs(instance, "review")
    assert (accepted["value"], accepted["_orch8_human_gate"]) == ("yes", True)
    assert reviewed["type"] == "human_review"
    assert caller.get(f"/approvals?tenant_id={caller.tenant}")["items"] == []


def test_answer_may_come_before_the_gate(caller: Caller) -> None:
    """It waits for the gate."""
    instance = caller.run(sleeper("nap", 500), gate())
    caller.signal(instance, {"custom": "human_input:review"}, {"value": "no"})
    assert caller.ended(instance)["state"] == "completed"
    assert caller.instance(instance)["context"]["data"]["review"] == "no"


def test_unanswered_gate_fails_or_escalates(caller: Caller) -> None:
    """Without an escalation handler it fails; with one the step counts as done."""
    failing = caller.run(gate(timeout=0.2))
    escalating = caller.run(gate(timeout=0.2, escalation_handler="log"))
    assert caller.ended(failing)["state"] == "failed"
    assert caller.ended(escalating)["state"] == "completed"
    (row,) = caller.outputs(escalating, "review")
    assert (row["_escalated"], row["_escalation_handler"]) == (True, "log")


def test_doctor_names_what_is_waited_for(caller: Caller) -> None:
    """A gate by its block; a missing worker; a pause with its remedy; a failure with its own."""
    waiting = caller.run(gate())
    caller.ended(waiting, "waiting")
    found = caller.get(f"/instances/{waiting}/diagnosis")["diagnoses"]
    (approval,) = (d for d in found if d["code"] == "PENDING_APPROVAL")
    assert "'review'" in approval["summary"]

    unserved = caller.run(step("work", f"nobody-{caller.tenant}"))
    caller.ended(unserved, "waiting")
    found = caller.get(f"/instances/{unserved}/diagnosis")["diagnoses"]
    (missing,) = (d for d in found if d["code"] == "NO_COMPATIBLE_WORKER")
    assert "no live worker" in missing["summary"]
    assert "WAITING_EXTERNAL_EVENT" not in {d["code"] for d in found}

    paused = caller.run(sleeper("nap", 60_000))
    caller.ended(paused, "running")
    caller.signal(paused, "pause")
    caller.ended(paused, "paused")
    (preview,) = caller.get(f"/instances/{paused}/remediations")
    assert preview["preview_id"] == f"{paused}:paused:PAUSED:0:0"
    path = f"/instances/{paused}/remediations/apply"
    applied = caller.post(path, {"preview_id": preview["preview_id"]})
    assert applied["before_state"] == "paused"
    stale = caller.send("POST", path, {"preview_id": preview["preview_id"]})
    assert stale.status == 400
    caller.signal(paused, "cancel")

    failed = caller.run(step("bad", "fail"))
    caller.ended(failed, "failed")
    (found,) = caller.get(f"/instances/{failed}/diagnosis")["diagnoses"]
    assert (found["code"], found["severity"]) == ("TERMINAL_STATE", "info")
    (preview,) = caller.get(f"/instances/{failed}/remediations")
    path = f"/instances/{failed}/remediations/apply"
    refused = caller.send("POST", path, {"preview_id": preview["preview_id"]})
    assert refused.status == 400
    assert "acknowledge_side_effect_risk" in refused.body["error"]


def test_set_to_waiting_is_explained_as_an_external_event(caller: Caller) -> None:
    """An instance that an operator set to waiting in its sleep."""
    instance = caller.run(sleeper("nap", 60_000))
    caller.ended(instance, "running")
    body = {"state": "waiting"}
    assert caller.send("PATCH", f"/instances/{instance}/state", body).status == 200
    found = caller.get(f"/instances/{instance}/diagnosis")["diagnoses"]
    (external,) = (d for d in found if d["code"] == "WAITING_EXTERNAL_EVENT")
    assert (external["category"], external["confidence"]) == ("probable_cause", "medium")
    caller.signal(instance, "cancel")


def test_signals_leave_their_trace_with_interceptors(caller: Caller) -> None:
    """before, step, after, in this order; on_signal and on_complete are there."""
    hooks = {
        name: {"handler": "audit", "params": {"at": name, "raw": "{{foo.bar}}"}}
        for name in ("before_step", "after_step", "on_signal", "on_complete", "on_failure")
    }
    sequence = caller.publish(sleeper("nap", 500), interceptors=hooks)
    instance = caller.start(sequence)
    caller.signal(instance, {"custom": "hello"}, {"x": 1})
    assert caller.ended(instance)["state"] == "completed"
    assert caller.get(f"/sequences/{sequence}")["interceptors"] == hooks
    rows = caller.outputs(instance)
    at = {row["block_id"]: row["created_at"] for row in rows}
    assert at["_interceptor:before:nap"] <= at["nap"] <= at["_interceptor:after:nap"]
    assert {"_interceptor:on_signal", "_interceptor:on_complete"} <= set(ids(rows))


def test_event_wait_takes_the_event_that_came_before(caller: Caller) -> None:
    """The wait is satisfied by an event of its correlation key, which is then consumed."""
    event = {
        "tenant_id": caller.tenant, "event_name": "paid", "producer_event_id": "p1",
        "correlation_key": "order-1", "payload": {"amount": 5},
    }  # fmt: skip
    first = caller.send("POST", "/events", event)
    assert (first.status, first.body["duplicate"]) == (201, False)
    assert caller.send("POST", "/events", event).status == 200
    wait = step(
        "wait", "wait_for_event", params={"events": "paid", "correlation_key": "order-1"},
        wait_for_input={},
    )  # fmt: skip
    instance = caller.run(wait)
    assert caller.ended(instance)["state"] == "completed"
    output = caller.outputs(instance, "wait")[-1]
    assert output["satisfied"] is True
    assert output["events"]["paid"]["payload"] == {"amount": 5}
    events = caller.get(f"/events?tenant_id={caller.tenant}&status=consumed")
    assert [e["producer_event_id"] for e in events] == ["p1"]


def test_query_and_signal_reach_another_instance(caller: Caller) -> None:
    """One asks after the other, and wakes it."""
    other = caller.run({"type": "wait_signal", "id": "w", "signal": "go"}, step("gone"))
    caller.ended(other, "waiting")
    instance = caller.run(
        step("ask", "query_instance", params={"instance_id": other}),
        step(
            "tell", "send_signal",
            params={"instance_id": other, "signal_type": {"custom": "go"}, "payload": {}},
        ),
    )  # fmt: skip
    assert caller.ended(instance)["state"] == "completed"
    (asked,) = caller.outputs(instance, "ask")
    assert (asked["found"], asked["state"]) == (True, "waiting")
    assert caller.outputs(instance, "tell")[0]["signal_id"]
    assert caller.ended(other)["state"] == "completed"


def test_emitted_event_starts_one_flow_and_has_one_receipt(caller: Caller) -> None:
    """Twice with the same key is one child; the step's effect is committed."""
    target = caller.definition(step("a"))
    caller.post("/sequences", target)
    slug = f"slug-{caller.tenant}"
    body = {
        "slug": slug, "sequence_name": target["name"], "tenant_id": caller.tenant,
        "trigger_type": "event",
    }  # fmt: skip
    assert caller.send("POST", "/triggers", body).status == 201
    emit = {"trigger_slug": slug, "data": {"x": 1}, "dedupe_key": "d", "dedupe_scope": "tenant"}
    instances = [caller.run(step("emit", "emit_event", params=emit)) for _ in range(2)]
    outputs = []
    for instance in instances:
        assert caller.ended(instance)["state"] == "completed"
        outputs += caller.outputs(instance, "emit")
        (receipt,) = caller.get(f"/instances/{instance}/effects?tenant_id={caller.tenant}")
        assert (receipt["kind"], receipt["state"]) == ("message", "committed")
    assert len({each["instance_id"] for each in outputs}) == 1
    assert sorted(each["deduped"] for each in outputs) == [False, True]
