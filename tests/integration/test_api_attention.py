"""What needs attention over REST: the list, one attempt with its evidence, decisions, fences."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest

from api import create_app
from orch8.engine.outcome import Answer, Verdict
from orch8.handlers.request import StepRequest
from orch8.storage.retention import delete_ended
from tests.support.api import Api
from tests.support.house import House
from tests.support.stub import Stub

NODE = "charge"
CARD = "4242 4242 4242 4242"
ANN, BOB = {"X-Actor": "ann"}, {"X-Actor": "bob"}
BECAUSE = {"reason": "seen in the dashboard"}


@pytest.fixture
def house(houses: Callable[..., House]) -> House:
    """A house that serves without a key, whose provider loses its answers."""
    made = houses(insecure=True)
    made.handler("charge", lose)
    made.handler("find_charge", lambda _: {"found": "cannot_tell"})
    return made


@pytest.fixture
def api(house: House) -> Api:
    """The app over the house's database."""
    announced: list[str] = []
    app = create_app(house.settings, house.office, announced.append)
    return Api(app, app.test_client(), house.office, house.database, announced)


def lose(request: StepRequest) -> Any:
    """The charge is made, and its answer is lost."""
    del request
    error = {"message": "no answer", "details": {"card": {"number": CARD, "cvc": "123"}}}
    return Answer(Verdict.UNKNOWN, error=error, evidence={"authorization": "Bearer abcdefghijkl"})


def charge(**more: Any) -> dict[str, Any]:
    """A step that moves money, and is parked when its outcome is unknown."""
    return {
        "type": "step", "id": NODE, "handler": "charge", "effect": "money",
        "money": {"amount": 9900, "currency": "USD"}, "provider": "stripe_v1",
        "fence": "invoice:{{context.data.invoice}}",
        "params": {"card": CARD, "secret_key": "sk_live_abcdefghijkl", "amount": 9900},
        "on_unknown": {"policy": "park"}, **more,
    }  # fmt: skip


def in_doubt(house: House, invoice: str = "in_1", *, name: str = "t", **more: Any) -> UUID:
    """An instance whose charge was sent, and whose answer was lost."""
    return house.run(charge(**more), data={"invoice": invoice}, name=name)


def path(instance_id: UUID, node: str = NODE) -> str:
    """The address of an attempt."""
    return f"/attention/{instance_id}/{quote(node, safe='')}"


def limit_to(api: Api, thresholds: dict[str, int]) -> Any:
    """The tenant wants two people from these amounts on."""
    body = {"two_person_above": thresholds}
    answer = api.send("PUT", "/tenants/default/policy", body, headers={"X-Actor": "boss"})
    assert answer.status_code == 200, answer.text
    return answer.json


# -- the list ------------------------------------------------------------------------------------
def test_nothing_needs_attention_at_first(api: Api) -> None:
    """The list is empty, open or resolved."""
    empty = {"items": [], "has_more": False, "next_cursor": None}
    assert api.get("/attention") == empty
    assert api.get("/attention?state=resolved") == empty


def test_list_tells_what_is_in_doubt_and_what_happens_to_it(api: Api, house: House) -> None:
    """What waits for a person is marked; the rest says what the engine does and when."""
    first = in_doubt(house)
    asks = {"policy": "reconcile", "handler": "find_charge", "schedule": ["30s"]}
    second = in_doubt(house, "in_2", name="u", on_unknown=asks)
    person, janitor = api.get("/attention")["items"]
    assert (person["instance_id"], person["kind"]) == (str(first), "parked")
    assert person["needs_person"]
    assert person["next"] == {"does": "nothing: a person has to decide", "at": None}
    assert person["step"]["money"] == {"amount": 9900, "currency": "USD"}
    assert person["step"]["dispatches"] == 1
    assert person["provider"] == "stripe_v1"
    assert (janitor["instance_id"], janitor["kind"]) == (str(second), "doubt")
    assert not janitor["needs_person"]
    assert janitor["next"]["does"] == "asks find_charge again"
    assert janitor["next"]["at"] is not None


def test_list_is_narrowed_as_asked(api: Api, house: House) -> None:
    """By kind, provider, handler and age."""
    for n in range(2):
        in_doubt(house, f"in_{n}", name=f"s{n}")
    for query, found in (
        ("kind=parked", 2), ("kind=doubt", 0), ("kind=doubt,parked", 2), ("kind=incident", 0),
        ("provider=stripe_v1", 2), ("provider=adyen", 0), ("handler=charge", 2),
        ("handler=refund", 0), ("older_than=1h", 0), ("older_than=0s", 2), ("limit=1", 1),
    ):  # fmt: skip
        assert len(api.get(f"/attention?{query}")["items"]) == found, query
    for wrong in ("state=half", "kind=any", "older_than=soon", "limit=0"):
        api.refused(400, "GET", f"/attention?{wrong}")


def test_list_is_turned_page_by_page(api: Api, house: House) -> None:
    """Every matter is on one page, the oldest on the first; a made-up cursor is refused."""
    made = [str(in_doubt(house, f"in_{n}", name=f"s{n}")) for n in range(3)]
    seen, cursor = [], ""
    for _ in range(3):
        page = api.get(f"/attention?limit=1{cursor}")
        seen += [each["instance_id"] for each in page["items"]]
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == made
    assert (page["has_more"], page["next_cursor"]) == (False, None)
    assert "cursor" in api.refused(400, "GET", "/attention?cursor=AAAA")["error"]


def test_step_that_was_never_sent_is_listed_too(api: Api, house: House) -> None:
    """It could not be claimed, for instance: there is no doubt, but a person is needed."""
    instance_id = in_doubt(house)
    house.sql("DELETE FROM doubts")
    (found,) = api.get("/attention")["items"]
    assert (found["kind"], found["instance_id"]) == ("parked", str(instance_id))


def test_list_shows_a_tenant_its_own(api: Api, house: House) -> None:
    """Others' attempts are neither listed, nor read, nor decided."""
    instance_id = in_doubt(house)
    other = {"X-Tenant-Id": "other"}
    assert api.get("/attention", headers=other)["items"] == []
    api.refused(404, "GET", path(instance_id), headers=other)
    body = {"decision": "fail", **BECAUSE}
    api.refused(404, "POST", f"{path(instance_id)}/decide", body, headers=other | ANN)
    api.refused(403, "GET", "/tenants/default/policy", headers=other)


# -- one attempt ---------------------------------------------------------------------------------
def test_attempt_is_shown_side_by_side_with_its_evidence(api: Api, house: House) -> None:
    """Policy, request, evidence, words, fence, and which decisions are possible."""
    instance_id = in_doubt(house, on_unknown={"policy": "park", "signals": {"paid": "succeeded"}})
    house.signal(instance_id, name="note", payload={"card": CARD})
    behind = in_doubt(house, name="u")
    found = api.get(path(instance_id))
    assert found["policy"]["on_unknown"]["policy"] == "park"
    assert found["policy"]["key_ttl_seconds"] == 24 * 3600
    assert found["epoch"] == house.step(instance_id).epoch
    assert [each["verdict"] for each in found["evidence"]] == ["unknown"]
    assert [each["name"] for each in found["signals"]] == ["note"]
    assert [each["reason"] for each in found["doubts"]] == ["outcome_unknown"]
    assert "step.parked" in [each["action"] for each in found["history"]]
    assert found["fence"]["fence"] == "invoice:in_1"
    assert found["fence"]["holder"]["instance_id"] == str(instance_id)
    assert [each["instance_id"] for each in found["fence"]["waiting"]] == [str(behind)]
    assert set(found["decide"].values()) == {None}
    refused = api.get(path(behind))["decide"]
    assert "not in doubt" in refused["happened"]


def test_attempt_shows_no_secret_and_no_card_number(api: Api, house: House) -> None:
    """Neither of the request, nor of the evidence, nor of a signal."""
    instance_id = in_doubt(house)
    house.signal(instance_id, name="note", payload={"text": f"the card is {CARD}"})
    answer = api.send("GET", path(instance_id))
    for secret in (CARD, "4242424242424242", "sk_live_abcdefghijkl", "abcdefghijkl", '"123"'):
        assert secret not in answer.text
    request = answer.json["request"]
    shown = {"card": "424242…4242", "secret_key": "[redacted]", "amount": 9900}
    assert request["params"] == shown
    assert len(request["sha256"]) == 64


def test_attempt_that_is_not_there_is_not_found(api: Api, house: House) -> None:
    """Neither a node nor an instance is guessed."""
    instance_id = in_doubt(house)
    api.refused(404, "GET", path(instance_id, "nope"))
    api.refused(404, "GET", path(UUID(int=1)))
    api.refused(400, "GET", "/attention/1/charge")


def test_command_line_understands_what_the_api_answers(api: Api, house: House, stub: Stub) -> None:
    """Every member that it tells of is there."""
    limit_to(api, {"USD": 0})
    instance_id = in_doubt(house)
    in_doubt(house, name="u")
    body = {"decision": "fail", **BECAUSE}
    made = api.post(f"{path(instance_id)}/decide", body, status=202, headers=ANN)
    stub.says("/attention?state=open&limit=100", api.get("/attention"))
    listed = stub.run("attention")
    assert (listed.exit_code, f"ann: fail ({made['id']})" in listed.output) == (0, True)
    stub.says(path(instance_id), api.get(path(instance_id)))
    shown = stub.run("attention", "show", str(instance_id), NODE)
    assert (shown.exit_code, "amount: 9900 USD" in shown.output) == (0, True)
    stub.says("/fences?limit=500", api.get("/fences"))
    assert "invoice:in_1" in stub.run("fences").output


# -- decisions -----------------------------------------------------------------------------------
def test_person_decides_and_the_instance_goes_on(api: Api, house: House) -> None:
    """The lane is announced, and the matter is listed as resolved by a person."""
    instance_id = in_doubt(house)
    body = {
        "decision": "happened", "provider_ref": "ch_1", "output": {"charge_id": "ch_1"},
        "epoch": house.step(instance_id).epoch, **BECAUSE,
    }  # fmt: skip
    done = api.post(f"{path(instance_id)}/decide", body, status=200, headers=ANN)
    assert (done["id"], done["state"]) == (str(instance_id), "completed")
    assert api.announced == ["renewal"]
    assert api.get("/attention")["items"] == []
    (resolved,) = api.get("/attention?state=resolved")["items"]
    assert (resolved["closed_by"], resolved["details"]["verdict"]) == ("person", "succeeded")
    assert api.get(path(instance_id))["step"]["provider_ref"] == "ch_1"


def test_decision_needs_a_name_and_a_reason(api: Api, house: House) -> None:
    """The header is asked for by its name; the body alone does not do."""
    instance_id = in_doubt(house)
    decide = f"{path(instance_id)}/decide"
    refusal = api.refused(400, "POST", decide, {"decision": "fail", **BECAUSE})
    assert "X-Actor" in refusal["error"]
    api.refused(422, "POST", decide, {"decision": "fail"}, headers=ANN)
    api.refused(422, "POST", decide, {"decision": "maybe", **BECAUSE}, headers=ANN)


def test_large_amount_is_decided_by_two(api: Api, house: House) -> None:
    """202 and a decision to confirm, by somebody else, on either of the two routes."""
    assert limit_to(api, {"USD": 9900})["two_person_above"] == {"USD": 9900}
    instance_id = in_doubt(house)
    body = {"decision": "fail", **BECAUSE}
    made = api.post(f"{path(instance_id)}/decide", body, status=202, headers=ANN)
    assert (made["state"], made["proposed_by"]) == ("open", "ann")
    shorter = {"step": NODE, "actor": "carl", **body}
    assert api.refused(409, "POST", f"/instances/{instance_id}/resolve", shorter)["decision_id"]
    (listed,) = api.get("/attention?kind=decision")["items"]
    assert (listed["id"], listed["details"]["proposed_by"]) == (made["id"], "ann")
    confirm = f"/attention/decisions/{made['id']}/confirm"
    assert api.send("POST", confirm, BECAUSE, headers=ANN).status_code == 403
    done = api.post(confirm, BECAUSE, status=200, headers=BOB)
    assert done["state"] == "failed"
    api.refused(409, "POST", confirm, BECAUSE, headers=BOB)


def test_short_route_does_not_go_round_the_second_person(api: Api, house: House) -> None:
    """POST /instances/<id>/resolve asks for one as well, and for a name to tell them apart."""
    limit_to(api, {"USD": 0})
    instance_id = in_doubt(house)
    body = {"step": NODE, "decision": "retry", **BECAUSE}
    resolve = f"/instances/{instance_id}/resolve"
    assert "who are you" in api.refused(400, "POST", resolve, body)["error"]
    made = api.post(resolve, body | {"actor": "ann"}, status=202)
    withdraw = f"/attention/decisions/{made['id']}/withdraw"
    assert api.post(withdraw, BECAUSE, status=200, headers=ANN)["state"] == "withdrawn"


def test_policy_is_empty_until_it_is_stated(api: Api) -> None:
    """A threshold is a whole number of minor units by currency."""
    found = api.get("/tenants/default/policy")
    assert (found["two_person_above"], found["updated_by"]) == ({}, None)
    wrong = {"two_person_above": {"usd": 1.5}}
    refusal = api.refused(400, "PUT", "/tenants/default/policy", wrong, headers=ANN)
    assert refusal["errors"][0]["pointer"] == "/two_person_above/usd"
    api.refused(422, "PUT", "/tenants/default/policy", {}, headers=ANN)
    api.refused(400, "PUT", "/tenants/default/policy", {"two_person_above": {}})
    limit_to(api, {"USD": 1})
    assert api.get("/tenants/default/policy")["updated_by"] == "boss"


# -- incidents and fences ------------------------------------------------------------------------
def test_incident_stays_open_until_somebody_closes_it(api: Api, house: House) -> None:
    """A word that contradicts what a person decided is one."""
    instance_id = in_doubt(house)
    key = house.step(instance_id).idempotency_key
    body = {"decision": "fail", **BECAUSE}
    api.post(f"{path(instance_id)}/decide", body, status=200, headers=ANN)
    word = {"idempotency_key": key, "outcome": "succeeded", "provider_ref": "ch_1"}
    heard = api.post("/attempts/evidence", word, status=200)
    assert heard["state"] == "contrary"
    (incident,) = api.get("/attention?kind=incident")["items"]
    assert incident["needs_person"]
    assert incident["reason"] == "contrary_evidence"
    assert incident["details"]["observed"]["said"] == "succeeded"
    with house.office.begin() as tx:
        assert delete_ended(tx, timedelta(), 10) == 0
    close = f"/attention/incidents/{incident['id']}/close"
    api.refused(400, "POST", close, BECAUSE)
    closed = api.post(close, {"reason": "refunded by hand"}, status=200, headers=BOB)
    assert (closed["closed_by"], closed["reason"]) == ("bob", "refunded by hand")
    api.refused(409, "POST", close, BECAUSE, headers=BOB)
    assert api.get("/attention")["items"] == []
    assert house.actions(instance_id)[-1] == "incident.closed"
    api.refused(404, "POST", f"/attention/incidents/{UUID(int=1)}/close", BECAUSE, headers=BOB)
    with house.office.begin() as tx:
        assert delete_ended(tx, timedelta(), 10) == 1
    assert len(api.get("/attention?state=resolved")["items"]) == 2  # its record outlives it


def test_fence_is_taken_off_by_a_person(api: Api, house: House) -> None:
    """Who waits is told in the log, and may go on."""
    holder = in_doubt(house)
    house.handler("charge", lambda _: {"charge_id": "ch_2"})
    behind = in_doubt(house, name="u")
    (held,) = api.get("/fences")["items"]
    assert (held["fence"], held["waiting"], held["settled"]) == ("invoice:in_1", 1, False)
    fence = f"/fences/{quote('invoice:in_1', safe='')}"
    assert api.get(fence)["holder"]["instance_id"] == str(holder)
    api.refused(400, "POST", f"{fence}/override", BECAUSE)
    api.refused(404, "POST", "/fences/nobody/override", BECAUSE, headers=ANN)
    before = api.post(f"{fence}/override", BECAUSE, status=200, headers=ANN)
    assert [each["instance_id"] for each in before["waiting"]] == [str(behind)]
    assert house.actions(holder)[-1] == "fence.overridden"
    house.work()
    assert house.state(behind) == "completed"
    assert api.get(fence)["holder"] is None


# -- metrics -------------------------------------------------------------------------------------
def test_metrics_tell_of_doubts_incidents_and_parked_steps(api: Api, house: House) -> None:
    """By provider, and by what resolved them."""
    first = in_doubt(house)
    text = api.client.get("/metrics").text
    assert 'orch8_unknown_effects{provider="stripe_v1"} 1.0' in text
    assert "orch8_parked_steps 1.0" in text
    assert "orch8_incidents_open 0.0" in text
    assert 'orch8_doubts_resolved_total{by="person"} 0.0' in text
    assert "orch8_unknown_effects_oldest_seconds 0.0\n" not in text
    body = {"decision": "fail", **BECAUSE}
    api.post(f"{path(first)}/decide", body, status=200, headers=ANN)
    text = api.client.get("/metrics").text
    assert 'orch8_doubts_resolved_total{by="person"} 1.0' in text
    assert "orch8_parked_steps 0.0" in text
    assert "orch8_unknown_effects_oldest_seconds 0.0\n" in text
