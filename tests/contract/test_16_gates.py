"""CONTRACT 16: a step waits for a person's answer before its handler is called."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg2
import pytest

from orch8.engine.outcome import Answer, Verdict
from tests.support.api import NOOP, Api, serving
from tests.support.desk import Desk, seated
from tests.support.house import House
from tests.support.servers import Database

DEFAULT_CHOICES = [{"label": "Yes", "value": "yes"}, {"label": "No", "value": "no"}]
COLOURS = [{"label": "Red", "value": "red"}, {"label": "Blue", "value": "blue"}]
BRANCHES = {"type": "parallel", "id": "p"}


def gate(block_id: str = "ok", handler: str = "noop", **asked: Any) -> dict[str, Any]:
    """A step that waits for an answer."""
    return {"type": "step", "id": block_id, "handler": handler, "wait_for_input": asked}


def sequence(*blocks: Any, name: str = "gated") -> dict[str, Any]:
    """A sequence of these blocks."""
    return {"id": name, "blocks": list(blocks)}


def say(api: Api, instance: Any, payload: Any, block_id: str = "ok", **more: Any) -> None:
    """Somebody answers."""
    body = {"signal_type": {"custom": f"human_input:{block_id}"}, "payload": payload}
    api.post(f"/instances/{instance['id']}/signals", body, **more)


def outputs(api: Api, instance: Any, block_id: str = "ok") -> list[Any]:
    """What a block has put out, the oldest first."""
    found = api.get(f"/instances/{instance['id']}/outputs")
    return [each["output"] for each in found if each["block_id"] == block_id]


def approvals(api: Api, query: str = "", **more: Any) -> list[Any]:
    """Who waits for an answer."""
    found = api.get(f"/approvals{query}", **more)
    assert found["total"] == len(found["items"])
    return list(found["items"])


def entries(api: Api, instance: Any, action: str) -> list[Any]:
    """What the audit log tells of one kind, the newest first."""
    found = api.get(f"/instances/{instance['id']}/audit")
    return [each for each in found if each["action"] == action]


def answered(value: str) -> dict[str, Any]:
    """The row that shows an answer."""
    return {"value": value, "_orch8_human_gate": True}


# -- the answer ------------------------------------------------------------------------------------
def test_gated_step_waits_before_its_handler(desk: Desk) -> None:
    """The instance and the node wait, nothing is put out, the handler is not called."""
    instance = desk.run(sequence(gate("ok", "charge")))
    assert instance["state"] == "waiting"
    (node,) = desk.api.get(f"/instances/{instance['id']}/tree?flat=true")
    assert node["state"] == "waiting"
    assert outputs(desk.api, instance) == []
    assert desk.house.keys() == []


def test_accepted_answer_lets_the_handler_run(desk: Desk) -> None:
    """The answer has a row of its own before the handler's; the context has it, too."""
    instance = desk.run(sequence(gate("ok", "log"), {"type": "step", "handler": "noop"}))
    say(desk.api, instance, {"value": "yes"})
    desk.house.work()
    found = desk.read(instance)
    assert found["state"] == "completed"
    assert outputs(desk.api, instance) == [answered("yes"), {"message": "no message"}]
    assert found["context"]["data"] == {"ok": "yes"}


def test_handler_sees_the_answer(desk: Desk) -> None:
    """In the context, under store_as if that is given."""
    step = gate("ok", "transform", store_as="verdict")
    step["params"] = {"was": "{{context.data.verdict}}"}
    instance = desk.run(sequence(step))
    say(desk.api, instance, {"value": "no"})
    desk.house.work()
    assert outputs(desk.api, instance)[1] == {"was": "no"}
    assert desk.read(instance)["context"]["data"] == {"verdict": "no"}


@pytest.mark.parametrize(
    "payload", [None, {}, {"approved": True}, {"value": "maybe"}, {"value": 1}, "yes", ["yes"]]
)
def test_anything_else_is_consumed_and_ignored(desk: Desk, payload: Any) -> None:
    """The instance stays waiting; a later answer counts."""
    instance = desk.run(sequence(gate()))
    say(desk.api, instance, payload)
    desk.house.work()
    assert desk.read(instance)["state"] == "waiting"
    (signal,) = desk.api.get(f"/instances/{instance['id']}/signals")
    assert signal["consumed_by"] == "ok"
    say(desk.api, instance, {"value": "yes"})
    desk.house.work()
    assert desk.read(instance)["state"] == "completed"


def test_choices_of_its_own_are_the_only_answers(desk: Desk) -> None:
    """The defaults count no more."""
    instance = desk.run(sequence(gate(choices=COLOURS)))
    say(desk.api, instance, {"value": "yes"})
    desk.house.work()
    assert desk.read(instance)["state"] == "waiting"
    say(desk.api, instance, {"value": "blue"})
    desk.house.work()
    assert outputs(desk.api, instance)[0] == answered("blue")


def test_answer_before_the_gate_is_reached_waits_for_it(desk: Desk) -> None:
    """Sent right after the start, while a step before it has not run."""
    instance = desk.api.started(sequence({"type": "step", "handler": "noop"}, gate()))
    say(desk.api, instance, {"value": "yes"})
    assert desk.read(instance)["state"] == "scheduled"
    desk.house.work()
    assert desk.read(instance)["state"] == "completed"
    assert outputs(desk.api, instance) == [answered("yes"), {}]


def test_answer_for_another_gate_stays_pending(desk: Desk) -> None:
    """Until that one consumes it."""
    instance = desk.run(sequence(gate("one"), gate("two")))
    say(desk.api, instance, {"value": "no"}, "two")
    desk.house.work()
    assert desk.read(instance)["state"] == "waiting"
    assert outputs(desk.api, instance, "two") == []
    say(desk.api, instance, {"value": "yes"}, "one")
    desk.house.work()
    assert desk.read(instance)["state"] == "completed"
    assert outputs(desk.api, instance, "two") == [answered("no"), {}]


def test_gates_of_parallel_branches_are_answered_in_any_order(desk: Desk) -> None:
    """Each by its own block id."""
    both = {**BRANCHES, "branches": [[gate("left")], [gate("right")]]}
    instance = desk.run(sequence(both))
    assert {each["block_id"] for each in approvals(desk.api)} == {"left", "right"}
    say(desk.api, instance, {"value": "yes"}, "right")
    desk.house.work()
    assert [each["block_id"] for each in approvals(desk.api)] == ["left"]
    say(desk.api, instance, {"value": "yes"}, "left")
    desk.house.work()
    assert desk.read(instance)["state"] == "completed"


def test_gate_in_a_loop_asks_each_time(desk: Desk) -> None:
    """Answers that were sent together are used one after the other."""
    body = {"type": "loop", "id": "l", "condition": "true", "max_iterations": 2, "body": [gate()]}
    instance = desk.run(sequence(body))
    say(desk.api, instance, {"value": "yes"})
    say(desk.api, instance, {"value": "no"})
    desk.house.work()
    assert desk.read(instance)["state"] == "completed"
    rows = outputs(desk.api, instance)
    assert [row["value"] for row in rows if row] == ["yes", "no"]


@pytest.mark.parametrize("handler", ["http_request", "charge", "sleep", "set_state"])
def test_any_kind_of_handler_can_be_gated(desk: Desk, handler: str) -> None:
    """It is called once, after the answer."""
    calls: list[str] = []

    def charge(request: Any) -> Answer:
        calls.append(request.step)
        return Answer(Verdict.SUCCEEDED, {"charged": True})

    desk.house.handler("charge", charge)
    step = gate("ok", handler)
    step["params"] = {
        "sleep": {"duration_ms": 1}, "set_state": {"key": "k", "value": 1},
        "http_request": {"url": f"{desk.house.provider.url}/nowhere"},
    }.get(handler)  # fmt: skip
    instance = desk.run(sequence(step))
    assert desk.read(instance)["state"] == "waiting"
    say(desk.api, instance, {"value": "yes"})
    desk.house.work()
    assert outputs(desk.api, instance)[0] == answered("yes")
    assert calls == (["ok"] if handler == "charge" else [])
    assert desk.read(instance)["state"] in ("completed", "failed", "running")


def test_gated_task_is_not_offered_before_the_answer(houses: Callable[..., House]) -> None:
    """A pull worker that polls gets nothing."""
    with seated(houses(handler_url="")) as desk:
        instance = desk.run(sequence(gate("ok", "pulled")))
        poll = {"handler_name": "pulled", "worker_id": "w"}
        assert desk.api.post("/workers/tasks/poll", poll, status=200) == []
        say(desk.api, instance, {"value": "yes"})
        (task,) = desk.api.post("/workers/tasks/poll", poll, status=200)
        assert task["instance_id"] == instance["id"]


def test_guard_that_does_not_hold_asks_nobody(desk: Desk) -> None:
    """The step is skipped before its gate."""
    step = {**gate(), "when": "false"}
    assert desk.run(sequence(step))["state"] == "completed"
    assert approvals(desk.api) == []


def test_delay_comes_before_the_gate(desk: Desk) -> None:
    """Nobody is asked before it is over; an answer that came meanwhile counts then."""
    step = {**gate(), "delay": {"duration": 86_400_000}}
    instance = desk.run(sequence(step))
    say(desk.api, instance, {"value": "yes"})
    desk.house.work()
    assert desk.read(instance)["state"] == "scheduled"
    assert approvals(desk.api) == []
    desk.house.advance(timedelta(days=1))
    desk.house.work()
    assert desk.read(instance)["state"] == "completed"


# -- time-out --------------------------------------------------------------------------------------
def test_timeout_without_escalation_fails_the_step(desk: Desk) -> None:
    """Measured from when it was asked."""
    instance = desk.run(sequence(gate("ok", "charge", timeout=3_600_000)))
    desk.house.advance(timedelta(hours=1))
    desk.house.work()
    found = desk.read(instance)
    assert (found["state"], found["error"]["code"]) == ("failed", "timeout")
    assert desk.house.keys() == []


def test_float_timeout_is_seconds(desk: Desk) -> None:
    """0.2 is 200 ms."""
    instance = desk.run(sequence(gate(timeout=0.2)))
    desk.house.work()
    assert desk.read(instance)["state"] == "failed"


def test_timeout_with_escalation_counts_as_done(desk: Desk) -> None:
    """One row; the step's own handler is not called, what comes behind it runs."""
    step = gate("ok", "charge", timeout=0.2, escalation_handler="log")
    instance = desk.run(sequence(step, {"type": "step", "id": "next", "handler": "noop"}))
    desk.house.work()
    assert desk.read(instance)["state"] == "completed"
    said = {"_escalated": True, "_escalation_handler": "log", "_timeout_seconds": 0}
    assert outputs(desk.api, instance) == [said]
    assert outputs(desk.api, instance, "next") == [{}]
    assert desk.house.keys() == []
    (entry,) = entries(desk.api, instance, "step.escalated")
    assert entry["outcome"] == "succeeded"


def test_escalation_handler_that_is_no_builtin_is_not_called(desk: Desk) -> None:
    """And the audit log says so."""
    step = gate(timeout=60.0, escalation_handler="page_somebody")
    instance = desk.run(sequence(step))
    desk.house.advance(timedelta(minutes=1))
    desk.house.work()
    assert outputs(desk.api, instance)[0]["_timeout_seconds"] == 60
    (entry,) = entries(desk.api, instance, "step.escalated")
    assert "not called" in entry["outcome"]


def test_deadline_runs_during_the_wait(desk: Desk) -> None:
    """With its escalation; the instance fails."""
    step = {
        **gate(), "deadline": 60_000,
        "on_deadline_breach": {"handler": "log", "params": {"message": "late"}},
    }  # fmt: skip
    instance = desk.run(sequence(step))
    desk.house.advance(timedelta(minutes=1))
    desk.house.work()
    assert desk.read(instance)["state"] == "failed"
    assert outputs(desk.api, instance)[0]["_error"] == "sla_deadline_breached"
    assert approvals(desk.api) == []


# -- pause, cancel, retry, crash -------------------------------------------------------------------
def test_cancelled_instance_asks_nobody(desk: Desk) -> None:
    """The gate is gone; an answer comes too late."""
    instance = desk.run(sequence(gate("ok", "charge")))
    desk.api.post(f"/instances/{instance['id']}/signals", {"signal_type": "cancel"})
    assert desk.read(instance)["state"] == "cancelled"
    assert approvals(desk.api) == []
    body = {"signal_type": {"custom": "human_input:ok"}, "payload": {"value": "yes"}}
    desk.api.refused(400, "POST", f"/instances/{instance['id']}/signals", body)


def test_gate_that_no_cancel_reaches_stays(desk: Desk) -> None:
    """The instance is cancelled once it was answered and its handler has run."""
    instance = desk.run(sequence({**gate(), "cancellable": False}, gate("later")))
    desk.api.post(f"/instances/{instance['id']}/signals", {"signal_type": "cancel"})
    assert desk.read(instance)["state"] == "waiting"
    say(desk.api, instance, {"value": "yes"})
    desk.house.work()
    assert desk.read(instance)["state"] == "cancelled"
    assert outputs(desk.api, instance) == [answered("yes"), {}]


def test_answer_during_a_pause_counts_when_it_is_over(desk: Desk) -> None:
    """The handler is not called before."""
    instance = desk.run(sequence(gate("ok", "charge")))
    path = f"/instances/{instance['id']}/signals"
    desk.api.post(path, {"signal_type": "pause"})
    assert approvals(desk.api) == []
    say(desk.api, instance, {"value": "yes"})
    desk.house.work()
    assert desk.read(instance)["state"] == "paused"
    assert desk.house.keys() == []
    desk.api.post(path, {"signal_type": "resume"})
    desk.house.work()
    assert desk.read(instance)["state"] == "completed"
    assert len(desk.house.keys()) == 1


def retried(desk: Desk, **context: Any) -> Any:
    """An instance whose handler failed after its answer, and that goes on."""
    answers = iter([Answer(Verdict.FAILED, error={"message": "no"}), Answer(Verdict.SUCCEEDED, {})])
    desk.house.handler("charge", lambda _: next(answers))
    instance = desk.run(sequence(gate("ok", "charge")))
    say(desk.api, instance, {"value": "yes"})
    desk.house.work()
    assert desk.read(instance)["state"] == "failed"
    if context:
        path = f"/instances/{instance['id']}/context"
        answer = desk.api.send("PATCH", path, {"context": {"data": context}})
        assert answer.status_code == 200
    desk.api.post(f"/instances/{instance['id']}/retry", status=200)
    desk.house.work()
    return desk.read(instance)


def test_retry_does_not_ask_again(desk: Desk) -> None:
    """What was approved is what is tried."""
    assert retried(desk)["state"] == "completed"


def test_retry_asks_again_when_the_context_has_changed(desk: Desk) -> None:
    """What was approved may be something else now."""
    instance = retried(desk, amount=9900)
    assert instance["state"] == "waiting"
    say(desk.api, instance, {"value": "yes"})
    desk.house.work()
    assert desk.read(instance)["state"] == "completed"


def test_timed_out_gate_asks_again_on_retry(desk: Desk) -> None:
    """With all of its time."""
    instance = desk.run(sequence(gate(timeout=60.0)))
    desk.house.advance(timedelta(minutes=1))
    desk.house.work()
    desk.api.post(f"/instances/{instance['id']}/retry", status=200)
    desk.house.work()
    assert desk.read(instance)["state"] == "waiting"
    say(desk.api, instance, {"value": "yes"})
    desk.house.work()
    assert desk.read(instance)["state"] == "completed"


def test_handler_is_retried_without_asking_again(desk: Desk) -> None:
    """Its policy holds for its calls, which come after the answer."""
    answers = iter([Verdict.FAILED_SAFE, Verdict.SUCCEEDED])
    desk.house.handler("charge", lambda _: Answer(next(answers), {}, {"message": "again"}))
    step = gate("ok", "charge")
    step["retry"] = {"max_attempts": 2, "initial_backoff": 1, "max_backoff": 1}
    instance = desk.run(sequence(step))
    say(desk.api, instance, {"value": "yes"})
    desk.house.work()
    assert desk.read(instance)["state"] == "completed"
    assert len(entries(desk.api, instance, "step.answered")) == 1


def test_process_that_is_lost_while_it_looks_loses_nothing(desk: Desk) -> None:
    """Its claim is taken back, and the gate still stands."""
    instance = desk.run(sequence(gate("ok", "charge", timeout=3600.0)))
    pump = desk.house.pump
    desk.house.sql(
        "UPDATE steps SET state = 'running', due_at = NULL, epoch = epoch + 1, claimed_by = %s",
        pump.lease.worker_id,
    )
    desk.house.lose(pump)
    desk.house.tick()
    other = desk.house.another_pump()
    other.work("renewal")
    assert desk.read(instance)["state"] == "waiting"
    say(desk.api, instance, {"value": "yes"})
    other.work("renewal")
    assert desk.read(instance)["state"] == "completed"
    assert len(desk.house.keys()) == 1


# -- dry run ---------------------------------------------------------------------------------------
def automatic(desk: Desk, **runtime: bool) -> Any:
    """An instance of which this was asked when it was created."""
    return desk.run(sequence(gate(choices=COLOURS)), **runtime)


def test_dry_run_may_answer_by_itself(desk: Desk) -> None:
    """The first choice; its row comes before the handler's."""
    instance = automatic(desk, dry_run=True, dry_run_auto_approve=True)
    assert instance["state"] == "completed"
    assert outputs(desk.api, instance) == [answered("red"), {}]


def test_no_other_run_answers_by_itself(desk: Desk) -> None:
    """Neither a real one, whatever it says, nor a dry one that does not say it."""
    assert automatic(desk, dry_run_auto_approve=True)["state"] == "waiting"
    assert automatic(desk, dry_run=True)["state"] == "waiting"


# -- who, when, why --------------------------------------------------------------------------------
def test_audit_log_tells_who_answered_what_and_why(desk: Desk) -> None:
    """And who was ignored."""
    instance = desk.run(sequence(gate(prompt="Refund 900 EUR?", allow_comment=True)))
    say(desk.api, instance, {"value": "perhaps"}, headers={"X-Actor": "bob"})
    payload = {"value": "yes", "comment": "called the customer"}
    say(desk.api, instance, payload, headers={"X-Actor": "ann"})
    (asked,) = entries(desk.api, instance, "step.asked")
    assert asked["reason"] == "Refund 900 EUR?"
    (ignored,) = entries(desk.api, instance, "step.answer_ignored")
    assert (ignored["actor"], ignored["node_key"]) == ("bob", "ok")
    (said,) = entries(desk.api, instance, "step.answered")
    assert (said["actor"], said["reason"]) == ("ann", "called the customer")
    assert said["details"]["value"] == "yes"


# -- GET /approvals --------------------------------------------------------------------------------
def test_approvals_have_every_member(desk: Desk) -> None:
    """Default choices filled in; null where nothing was said."""
    instance = desk.run(sequence(gate()), metadata={"order": "o-1"})
    (item,) = approvals(desk.api)
    assert item.items() >= {
        "instance_id": instance["id"], "tenant_id": "default", "namespace": "default",
        "sequence_id": instance["sequence_id"], "sequence_name": "gated", "block_id": "ok",
        "prompt": "", "choices": DEFAULT_CHOICES, "store_as": None, "timeout_seconds": None,
        "escalation_handler": None, "deadline": None, "metadata": {"order": "o-1"},
        "allow_comment": False,
    }.items()  # fmt: skip
    assert item["waiting_since"] >= instance["created_at"]


def test_approvals_say_what_the_step_says(desk: Desk) -> None:
    """A deadline is there when there is a timeout."""
    asked = {
        "prompt": "Which?", "choices": COLOURS, "store_as": "colour", "timeout": 90_000,
        "escalation_handler": "log", "allow_comment": True,
    }  # fmt: skip
    desk.run(sequence(gate(**asked)))
    (item,) = approvals(desk.api)
    assert item.items() >= {
        "prompt": "Which?", "choices": COLOURS, "store_as": "colour", "timeout_seconds": 90,
        "escalation_handler": "log", "allow_comment": True,
    }.items()  # fmt: skip
    assert item["deadline"] > item["waiting_since"]


def test_approval_disappears_with_its_answer(desk: Desk) -> None:
    """At once; one that was ignored leaves it there."""
    instance = desk.run(sequence(gate()))
    say(desk.api, instance, {"approved": True})
    assert len(approvals(desk.api)) == 1
    say(desk.api, instance, {"value": "yes"})
    assert approvals(desk.api) == []


def test_approvals_are_those_of_a_tenant_and_namespace(desk: Desk) -> None:
    """A header wins over the query."""
    api = desk.api
    for tenant in ("acme", "other"):
        own = {"X-Tenant-Id": tenant}
        api.post("/sequences", sequence(gate()), headers=own)
        api.post("/sequences/gated/instances", {}, headers=own)
    desk.house.work()
    found = approvals(api, "?tenant_id=acme")
    assert [each["tenant_id"] for each in found] == ["acme"]
    acme = {"X-Tenant-Id": "acme"}
    assert len(approvals(api, "?tenant_id=other", headers=acme)) == 1
    assert approvals(api, "?tenant_id=other", headers=acme)[0]["tenant_id"] == "acme"
    assert len(approvals(api)) == 2
    assert len(approvals(api, "?tenant_id=acme&namespace=default")) == 1
    assert approvals(api, "?tenant_id=acme&namespace=elsewhere") == []


def test_approvals_come_in_pages(desk: Desk) -> None:
    """The longest asked first."""
    ids = [desk.run(sequence(gate()))["id"] for _ in range(3)]
    assert [each["instance_id"] for each in approvals(desk.api, "?limit=2")] == ids[:2]
    assert [each["instance_id"] for each in approvals(desk.api, "?limit=2&offset=2")] == ids[2:]
    (one,) = approvals(desk.api, f"?instance_id={ids[1]}")
    assert one["instance_id"] == ids[1]
    assert approvals(desk.api, f"?instance_id={uuid4()}") == []


def test_approvals_are_found_by_an_index(desk: Desk) -> None:
    """However many steps there are."""
    # Of a handful of rows the planner prefers to read them all.
    reluctant = psycopg2.connect(desk.house.database.owner_url, options="-c enable_seqscan=off")
    with closing(reluctant) as connection, connection.cursor() as cursor:
        cursor.execute(
            "EXPLAIN SELECT s.id FROM steps s WHERE s.waits_for = 'approval' "
            "AND s.state = 'waiting' AND s.tenant_id = 'default' "
            "ORDER BY s.tenant_id, s.id LIMIT 100"
        )
        text = "\n".join(line for (line,) in cursor.fetchall())
    assert "Seq Scan" not in text, text
    assert "_tenant_id_id_idx1" in text, text


# -- who may ---------------------------------------------------------------------------------------
def test_approver_may_see_approvals_and_signal_and_nothing_else(postgres: Database) -> None:
    """403 for the rest, before it is looked whether it exists."""
    with serving(postgres, api_key="root") as api:
        root = {"x-api-key": "root", "X-Tenant-Id": "acme"}
        body = {"tenant_id": "acme", "capabilities": ["approver"]}
        key = api.post("/api-keys", body, headers=root)["secret"]
        own = {"x-api-key": key}
        api.post("/sequences", sequence(gate()), headers=root)
        made = api.post("/sequences/gated/instances", {}, headers=root)
        assert approvals(api, headers=own) == []
        say(api, made, {"value": "yes"}, headers=own)
        api.refused(403, "GET", f"/instances/{made['id']}", headers=own)
        api.refused(403, "GET", "/instances", headers=own)
        api.refused(403, "POST", f"/instances/{made['id']}/retry", headers=own)
        path = f"/instances/{uuid4()}/signals"
        api.refused(404, "POST", path, {"signal_type": {"custom": "x"}}, headers=own)


# -- human_review (CONTRACT 18) --------------------------------------------------------------------
def test_human_review_puts_out_what_there_was_to_review(desk: Desk) -> None:
    """With its defaults."""
    instance = desk.run(sequence(gate("ok", "human_review", choices=COLOURS, allow_comment=True)))
    say(desk.api, instance, {"value": "red"})
    desk.house.work()
    assert outputs(desk.api, instance)[1] == {
        "type": "human_review", "status": "pending", "reviewer": "unassigned", "instructions": "",
        "review_data": None, "instance_id": instance["id"], "block_id": "ok", "choices": COLOURS,
        "allow_comment": True,
    }  # fmt: skip


def test_human_review_shows_what_it_was_given(desk: Desk) -> None:
    """Also without a gate; the choices are the defaults then."""
    step = {
        "type": "step", "id": "ok", "handler": "human_review",
        "params": {"reviewer": "ann", "instructions": "look", "review_data": {"a": 1}},
    }  # fmt: skip
    instance = desk.run(sequence(step))
    (output,) = outputs(desk.api, instance)
    assert output.items() >= {
        "reviewer": "ann", "instructions": "look", "review_data": {"a": 1},
        "choices": DEFAULT_CHOICES, "allow_comment": False,
    }.items()  # fmt: skip


@pytest.mark.parametrize("url", ["ftp://example.com", "http://10.0.0.1/x", "http://localhost/"])
def test_unsafe_notify_url_fails_the_step(houses: Callable[..., House], url: str) -> None:
    """For good."""
    house = houses(allow_internal_urls=False)
    step = {"type": "step", "id": "ok", "handler": "human_review", "params": {"notify_url": url}}
    instance_id = house.run(step)
    assert house.state(instance_id) == "failed"
    assert "notify_url" in house.step(instance_id, "ok").error["message"]


def test_instance_that_was_never_gated_is_not_listed(desk: Desk) -> None:
    """Nor is one that has ended."""
    desk.run(NOOP)
    assert approvals(desk.api) == []


def test_version_that_asks_nobody_lets_a_migrated_instance_go_on(desk: Desk) -> None:
    """Once it is looked at again."""
    instance = desk.run(sequence(gate(timeout=60.0)))
    free = sequence({"type": "step", "id": "ok", "handler": "noop"})
    target = desk.api.post("/sequences", free)["id"]
    body = {"instance_id": instance["id"], "target_sequence_id": target}
    desk.api.post("/sequences/migrate-instance", body, status=200)
    desk.house.advance(timedelta(minutes=1))
    desk.house.work()
    assert desk.read(instance)["state"] == "completed"
    assert outputs(desk.api, instance) == [{}]
