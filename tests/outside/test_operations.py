"""From outside: time, schedules, triggers, limits, and what operators do to instances."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import orjson
import pytest

from tests.outside.caller import Caller, block, ids, sleeper, step

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("stack")]


def test_delay_is_shown_and_not_recomputed_by_a_wake_up(caller: Caller) -> None:
    """The instance is scheduled for later, and a pause does not postpone it."""
    instance = caller.run(step("later", delay={"duration": 3_600_000}))
    due = caller.until(lambda: caller.instance(instance)["next_fire_at"], "it is due later")
    assert datetime.fromisoformat(due) > datetime.now(UTC) + timedelta(minutes=50)
    caller.signal(instance, "pause")
    caller.ended(instance, "paused")
    caller.signal(instance, "resume")
    caller.ended(instance, "scheduled")
    assert caller.instance(instance)["next_fire_at"] == due
    body = {"state": "cancelled"}
    assert caller.send("PATCH", f"/instances/{instance}/state", body).status == 200


def test_one_at_a_time_by_key(caller: Caller) -> None:
    """Of three with the same key never two are running, and all end."""
    sequence = caller.publish(sleeper("nap", 400))
    more = {"concurrency_key": f"k-{caller.tenant}", "max_concurrency": 1}
    instances = [caller.start(sequence, **more) for _ in range(3)]
    seen = 0

    def all_ended() -> bool:
        nonlocal seen
        states = [caller.instance(each)["state"] for each in instances]
        seen = max(seen, states.count("running"))
        return states == ["completed"] * 3

    caller.until(all_ended, "all three have ended")
    assert seen == 1


def test_deadline_is_a_row_and_a_failure(caller: Caller) -> None:
    """A step that nobody serves breaches its deadline; the escalation changes nothing about it."""
    late = step(
        "work", f"nobody-{caller.tenant}", deadline=300,
        on_deadline_breach={"handler": "log", "params": {"message": "late"}},
    )  # fmt: skip
    instance = caller.run(late)
    assert caller.ended(instance)["state"] == "failed"
    (row,) = caller.outputs(instance, "work")
    assert row["_error"] == "sla_deadline_breached"
    assert row["_deadline_ms"] == 300
    assert row["_elapsed_ms"] >= 300


def test_schedule_of_every_second_fires(caller: Caller) -> None:
    """And one that is disabled does not."""
    sequence = caller.publish(step("a"))
    body = {
        "tenant_id": caller.tenant, "namespace": "default", "sequence_id": sequence,
        "cron_expr": "* * * * * *",
    }  # fmt: skip
    made = caller.post("/cron", body)
    caller.post("/cron", {**body, "enabled": False})
    found = caller.until(
        lambda: caller.get(f"/instances?tenant_id={caller.tenant}")["items"], "it fired"
    )
    assert {f["metadata"]["cron_schedule_id"] for f in found} == {made["id"]}
    assert caller.send("DELETE", f"/cron/{made['id']}").status == 204


def test_signed_webhook_starts_an_instance_once(caller: Caller) -> None:
    """A replayed nonce, a wrong secret and an old timestamp are all 401."""
    definition = caller.definition(step("a"))
    caller.post("/sequences", definition)
    slug, secret = f"hook-{caller.tenant}", "s3cret-of-this-test"
    caller.post(
        "/triggers",
        {
            "slug": slug, "sequence_name": definition["name"], "tenant_id": caller.tenant,
            "secret": secret,
        },
    )  # fmt: skip
    body, nonce, now = {"x": 1}, uuid4().hex, int(time.time())

    def hook(stamp: int, nonce: str, secret: str) -> int:
        signed = f"{stamp}.{nonce}.".encode() + orjson.dumps(body)
        digest = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
        signature = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        return caller.send(
            "POST", f"/webhooks/{slug}", body, x_trigger_timestamp=str(stamp),
            x_trigger_nonce=nonce, x_orch8_signature=f"v1={signature}",
        ).status  # fmt: skip

    assert hook(now, nonce, secret) == 202
    assert hook(now, nonce, secret) == 401
    assert hook(now, uuid4().hex, "wrong") == 401
    assert hook(now - 3600, uuid4().hex, secret) == 401


def test_ten_thousand_at_once_are_one_request(caller: Caller) -> None:
    """And one more is too many."""
    sequence = caller.publish(step("a"))
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    one = {
        "sequence_id": sequence, "tenant_id": caller.tenant, "namespace": "default",
        "next_fire_at": later,
    }  # fmt: skip
    refused = caller.send("POST", "/instances/batch", {"instances": [one] * 10_001})
    assert refused.status == 400
    assert "batch size must not exceed 10,000" in refused.body["error"]
    made = caller.send("POST", "/instances/batch", {"instances": [one] * 200})
    assert (made.status, made.body["count"]) == (201, 200)
    wanted = {"filter": {"tenant_id": caller.tenant}, "state": "cancelled"}
    changed = caller.send("PATCH", "/instances/bulk/state", wanted)
    assert (changed.status, changed.body["count"]) == (200, 200)


def test_injected_blocks_run_behind_the_sequences_own(caller: Caller) -> None:
    """Also such as a step injects itself."""
    more = step("more", "self_modify", params={"blocks": [step("own")]})
    instance = caller.run(sleeper("nap", 700), more)
    body = {"blocks": [step("injected")]}
    found = caller.post(f"/instances/{instance}/inject-blocks", body)
    assert found["injected_block_ids"] == ["injected"]
    assert caller.ended(instance)["state"] == "completed"
    assert set(ids(caller.outputs(instance))) == {"nap", "more", "injected", "own"}


def test_fork_and_resume_go_on_from_a_block(caller: Caller) -> None:
    """A fork copies what was before it; a resume does what is behind it anew."""
    instance = caller.run(step("a"), step("b"))
    caller.ended(instance, "completed")
    fork = caller.send("POST", f"/instances/{instance}/fork", {"from_block_id": "b"})
    assert (fork.status, fork.body["dry_run"]) == (201, True)
    assert caller.ended(fork.body["id"])["state"] == "completed"
    assert ids(caller.outputs(fork.body["id"])) == ["a", "b"]
    again = caller.post(f"/instances/{instance}/resume-from/b", {})
    assert (again["state"], again["resumed_from"]) == ("scheduled", "b")
    assert caller.ended(instance)["state"] == "completed"
    assert ids(caller.outputs(instance)) == ["a", "b"]


def test_dry_run_calls_nobody(caller: Caller) -> None:
    """What would be called is said."""
    call = step("call", "tool_call", params={"url": "http://127.0.0.1:9/x", "tool_name": "t"})
    instance = caller.start(caller.publish(call), dry_run=True)
    assert caller.ended(instance)["state"] == "completed"
    (row,) = caller.outputs(instance, "call")
    assert (row["dry_run"], row["handler"], row["tool_name"]) == (True, "tool_call", "t")
    assert row["would"] == {"url": "http://127.0.0.1:9/x", "method": "POST"}


def test_stream_tells_state_output_and_end(caller: Caller) -> None:
    """A short run's events, each once, and then it closes."""
    instance = caller.run(sleeper("nap", 600), step("b"))
    told = caller.send("GET", f"/instances/{instance}/stream?poll_ms=100").body
    assert told.count("event: done") == 1
    assert told.count("event: output") == 2
    assert "event: state" in told


def test_audit_feed_ends_with_the_end(caller: Caller) -> None:
    """The tenant's changes end with the transition to completed."""
    caller.ended(caller.run(step("a")), "completed")
    found = caller.until(
        lambda: caller.get(f"/changes?tenant_id={caller.tenant}")["changes"], "there are changes"
    )
    assert (found[-1]["event_type"], found[-1]["to_state"]) == ("state_transition", "completed")
    assert found == sorted(found, key=lambda e: (e["created_at"], e["id"]))


def test_sessions_checkpoints_pools_and_credentials_are_kept(caller: Caller) -> None:
    """Each is made, read and never shows a secret."""
    session = caller.post("/sessions", {"tenant_id": caller.tenant, "session_key": "s"})
    assert caller.get(f"/sessions/by-key/{caller.tenant}/s")["id"] == session["id"]
    instance = caller.run(step("a"))
    caller.post(f"/instances/{instance}/checkpoints", {"checkpoint_data": {"n": 1}})
    assert caller.get(f"/instances/{instance}/checkpoints/latest")["checkpoint_data"] == {"n": 1}
    pool = caller.post("/pools", {"tenant_id": caller.tenant, "name": "p", "strategy": "weighted"})
    resource = {"resource_key": "k", "name": "r", "weight": 2}
    made = caller.post(f"/pools/{pool['id']}/resources", resource)
    assert (made["weight"], made["enabled"]) == (2, True)
    key = f"cred-{caller.tenant}"
    body = {
        "id": key, "name": "n", "kind": "api_key", "value": "sk-hidden", "tenant_id": caller.tenant,
    }  # fmt: skip
    assert "sk-hidden" not in str(caller.post("/credentials", body))
    assert "sk-hidden" not in str(caller.get(f"/credentials/{key}"))


def test_other_tenants_see_nothing(caller: Caller) -> None:
    """With the header of another tenant an instance is not there."""
    instance = caller.run(block("router", "r", routes=[], default=[step("a")]))
    caller.ended(instance, "completed")
    path = f"/instances/{instance}"
    assert caller.send("GET", path, X_Tenant_Id="somebody-else").status == 404
    assert caller.send("GET", path, X_Tenant_Id=caller.tenant).status == 200
