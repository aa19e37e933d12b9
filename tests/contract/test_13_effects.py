"""CONTRACT 13.6: a receipt of each call that may have changed the world."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from orch8.handlers.python import Declined, Refused, TryAgain
from orch8.runtime.effects import State, kind_of, receipts
from orch8.storage.rows import StepRow
from tests.support.api import NOOP, Api
from tests.support.desk import Desk
from tests.support.house import House

PAY = {"type": "step", "id": "pay", "handler": "pay", "effect": "money",
       "params": {"amount": 9900, "currency": "EUR"}}  # fmt: skip


def paid(desk: Desk, *ends: Any, **members: Any) -> Any:
    """An instance of one payment, whose calls end like this one after the other."""
    left = list(ends)

    def pay(_: Any) -> Any:
        end = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(end, Exception):
            raise end
        return end

    desk.house.handler("pay", pay)
    return desk.run({"id": f"s{uuid4().hex}", "blocks": [{**PAY, **members}]})


def effects(desk: Desk, instance: Any) -> list[Any]:
    """The receipts of an instance."""
    return list(desk.api.get(f"/instances/{instance['id']}/effects"))


def in_doubt(desk: Desk, **members: Any) -> tuple[Any, Any]:
    """An instance whose payment is in doubt and needs a person, and its receipt."""
    instance = paid(desk, RuntimeError("broke"), on_unknown={"policy": "park"}, **members)
    (receipt,) = effects(desk, instance)
    assert receipt["state"] == "unknown"
    return instance, receipt


def resolve(api: Api, receipt: Any, state: str, *, status: int = 200, **more: Any) -> Any:
    """The answer to setting an effect to a state."""
    body = {"tenant_id": "default", "state": state, **more}
    answer = api.send("POST", f"/continuity/effects/{receipt['id']}/resolve", body)
    assert answer.status_code == status, answer.text
    return answer.json


def test_call_has_a_receipt(desk: Desk) -> None:
    """With the key it was sent under, what was sent, and the provider's own id."""
    instance = paid(desk, {"provider_receipt_id": "ch_1"})
    (receipt,) = effects(desk, instance)
    row = desk.house.step(instance["id"], "pay")
    assert receipt.items() >= {
        "tenant_id": "default", "instance_id": instance["id"], "continuity_id": instance["id"],
        "block_id": "pay", "kind": "worker", "state": "committed", "attempt": 0, "epoch": 1,
        "idempotency_key": row.idempotency_key, "request_sha256": row.fingerprint,
        "provider_receipt_id": "ch_1",
    }.items()  # fmt: skip
    assert len(receipt["destination_fingerprint"]) == 64
    assert receipt["created_at"] <= receipt["updated_at"]


def test_receipts_are_the_same_each_time(desk: Desk) -> None:
    """Also their ids, which nobody stores."""
    instance = paid(desk, {})
    assert effects(desk, instance) == effects(desk, instance)


def test_what_calls_nobody_has_none(desk: Desk) -> None:
    """Neither has a step that was not sent yet."""
    assert effects(desk, desk.run(NOOP)) == []
    waiting = desk.run({"id": "later", "blocks": [{**PAY, "delay": {"days": 1}}]})
    assert effects(desk, waiting) == []


def test_effects_are_the_tenants(desk: Desk) -> None:
    """404 for another one, by header or query, and for what is not there."""
    path = f"/instances/{paid(desk, {})['id']}/effects"
    assert desk.api.get(f"{path}?tenant_id=default")
    desk.api.refused(404, "GET", f"{path}?tenant_id=other")
    desk.api.refused(404, "GET", path, headers={"X-Tenant-Id": "other"})
    desk.api.refused(404, "GET", f"/instances/{uuid4()}/effects")


@pytest.mark.parametrize(
    ("end", "state"),
    [
        ({}, "committed"), (Declined({}), "committed"), (Refused("no"), "abandoned"),
        (RuntimeError("broke"), "unknown"),
    ],
)  # fmt: skip
def test_state_tells_what_became_of_it(desk: Desk, end: Any, state: str) -> None:
    """A decline is an answer; a refusal had no effect; without an answer nobody knows."""
    instance = paid(desk, end, on_unknown={"policy": "park"})
    assert [each["state"] for each in effects(desk, instance)] == [state]


def test_dispatches_of_one_attempt_are_one_effect(desk: Desk) -> None:
    """Sent again under the same key it is prepared, then committed."""
    retry = {"max_attempts": 3, "backoff": "1h"}
    instance = paid(desk, TryAgain("busy"), {}, retry=retry)
    assert [each["state"] for each in effects(desk, instance)] == ["prepared"]
    desk.house.advance(timedelta(hours=2))
    desk.house.work()
    assert [(each["state"], each["attempt"]) for each in effects(desk, instance)] == [
        ("committed", 0)
    ]


def row(handler: str, state: str, **more: Any) -> StepRow:
    """A step's row."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return StepRow(uuid4(), "a", uuid4(), "t", "a", handler, "none", state, "renewal", now, **more)


@pytest.mark.parametrize(
    ("handler", "kind"),
    [
        ("emit_event", "message"), ("send_signal", "message"), ("http_request", "http"),
        ("blob_put", "storage"), ("llm_call", "model"), ("self_modify", "custom"),
        ("charge", "worker"), ("noop", None), ("@memo", None),
    ],
)  # fmt: skip
def test_kind_goes_by_the_handler(handler: str, kind: str | None) -> None:
    """Built-ins that change nothing outside have none."""
    assert kind_of(handler) == kind


def test_message_that_was_sent_has_one_receipt() -> None:
    """Exactly one, committed, with its block; one that was not sent yet has none."""
    sent = row("emit_event", "completed", outcome="succeeded")
    (receipt,) = receipts([sent], [])
    assert (receipt.kind, receipt.state, receipt.block_id) == ("message", State.COMMITTED, "a")
    assert receipts([row("emit_event", "scheduled")], []) == []


# -- resolving what is in doubt ------------------------------------------------------------------
def test_effect_that_happened_completes_its_step(desk: Desk) -> None:
    """With the provider's id; the instance goes on."""
    instance, receipt = in_doubt(desk)
    resolve(desk.api, receipt, "committed", provider_receipt_id="ch_9", output={"paid": True})
    desk.house.work()
    assert desk.read(instance)["state"] == "completed"
    (after,) = effects(desk, instance)
    assert (after["id"], after["state"]) == (receipt["id"], "verified")
    assert after["provider_receipt_id"] == "ch_9"
    assert "step.resolved" in desk.house.actions(instance["id"])


def test_effect_that_did_not_happen_fails_its_step(desk: Desk) -> None:
    """A retry of the instance is a new attempt with a receipt of its own."""
    instance, receipt = in_doubt(desk)
    resolve(desk.api, receipt, "abandoned", reason="not in their dashboard")
    desk.house.work()
    assert desk.read(instance)["state"] == "failed"
    assert [each["state"] for each in effects(desk, instance)] == ["abandoned"]
    desk.house.handler("pay", lambda _: {})
    desk.api.post(f"/instances/{instance['id']}/retry", status=200)
    desk.house.work()
    found = effects(desk, instance)
    assert [each["state"] for each in found] == ["abandoned", "committed"]
    assert found[0]["id"] != found[1]["id"]


@pytest.mark.parametrize("state", ["planned", "prepared", "dispatched", "unknown", "compensated"])
def test_effect_is_not_set_to_anything_else(desk: Desk, state: str) -> None:
    """400 says what can be said of it."""
    _, receipt = in_doubt(desk)
    path = f"/continuity/effects/{receipt['id']}/resolve"
    refused = desk.api.refused(400, "POST", path, {"tenant_id": "default", "state": state})
    assert "abandoned: it surely did not" in refused["error"]


def test_effect_is_resolved_once(desk: Desk) -> None:
    """Then 409; and 404 for one that never was in doubt, or is another tenant's."""
    _, receipt = in_doubt(desk)
    resolve(desk.api, receipt, "committed")
    assert (
        "only an attempt in doubt" in resolve(desk.api, receipt, "committed", status=409)["error"]
    )
    (other,) = effects(desk, paid(desk, {}))
    resolve(desk.api, other, "abandoned", status=404)
    resolve(desk.api, receipt, "abandoned", status=404, tenant_id="other")
    desk.api.refused(422, "POST", f"/continuity/effects/{receipt['id']}/resolve", {"state": "x"})


def test_amount_that_needs_two_people_still_does(desk: Desk) -> None:
    """202 with the proposal; nobody decides alone by this door, nor without a name."""
    policy = {"two_person_above": {"EUR": 1000}}
    desk.api.send("PUT", "/tenants/default/policy", policy, headers={"X-Actor": "boss"})
    money = {"amount": 9900, "currency": "EUR"}
    instance, receipt = in_doubt(desk, money=money)
    resolve(desk.api, receipt, "committed", status=400)
    body = {"tenant_id": "default", "state": "committed"}
    path = f"/continuity/effects/{receipt['id']}/resolve"
    proposal = desk.api.post(path, body, status=202, headers={"X-Actor": "ann"})
    assert proposal["proposed_by"] == "ann"
    assert desk.read(instance)["state"] == "waiting"
    confirm = f"/attention/decisions/{proposal['id']}/confirm"
    desk.api.post(confirm, {"reason": "seen"}, status=200, headers={"X-Actor": "bob"})
    assert [each["state"] for each in effects(desk, instance)] == ["verified"]


def test_newer_attempt_is_none_of_an_old_receipt(house: House, desk: Desk) -> None:
    """409: what was in doubt then was given up for another attempt."""
    instance, receipt = in_doubt(desk)
    house.sql("UPDATE steps SET generation = 2 WHERE instance_id = %s", instance["id"])
    assert "newer attempt" in resolve(desk.api, receipt, "committed", status=409)["error"]
    assert {each["attempt"] for each in effects(desk, instance)} == {0, 1}
