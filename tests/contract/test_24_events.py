"""CONTRACT 24: events that producers tell are kept once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from tests.support.api import Api

ACME, OTHER = {"X-Tenant-Id": "acme"}, {"X-Tenant-Id": "other"}


def event(number: int = 1, **members: Any) -> dict[str, Any]:
    """An event as a producer tells it."""
    return {
        "tenant_id": "acme", "event_name": "invoice.paid", "producer_event_id": f"evt_{number}",
        "correlation_key": "in_1", "payload": {"amount": number},
    } | members  # fmt: skip


def test_event_is_kept_and_can_be_read(api: Api) -> None:
    """201; it is pending, since nothing has consumed it."""
    told = api.post("/events", event())
    assert told["duplicate"] is told["satisfied"] is False
    found = api.get(f"/events/{told['event_id']}")
    assert found.items() >= event().items()
    assert found["status"] == "pending"
    assert found["id"] == told["event_id"]
    assert "consumed_by" not in found


def test_event_told_again_is_the_earlier_one(api: Api) -> None:
    """200, and what it says otherwise is not kept."""
    first = api.post("/events", event())
    again = api.post("/events", event(payload="other", correlation_key="x"), status=200)
    assert (again["event_id"], again["duplicate"]) == (first["event_id"], True)
    assert api.get(f"/events/{first['event_id']}")["payload"] == {"amount": 1}


def test_tenant_name_and_producers_id_make_an_event_one(api: Api) -> None:
    """The same id under another name or of another tenant is another event."""
    api.post("/events", event())
    api.post("/events", event(event_name="invoice.voided"))
    api.post("/events", event(tenant_id="other"))
    api.post("/events", event(2))
    assert len(api.get("/events?tenant_id=acme")) == 3


@pytest.mark.parametrize("name", ["event_name", "producer_event_id", "correlation_key"])
def test_blank_member_is_400_and_a_missing_one_422(api: Api, name: str) -> None:
    """And is named."""
    assert name in api.refused(400, "POST", "/events", event() | {name: " "})["error"]
    left = {key: value for key, value in event().items() if key != name}
    assert name in api.refused(422, "POST", "/events", left)["error"]


def test_blank_tenant_is_the_default_one(api: Api) -> None:
    """Or the caller's."""
    told = api.post("/events", event(tenant_id=""))
    assert api.get(f"/events/{told['event_id']}")["tenant_id"] == "default"
    told = api.post("/events", event(tenant_id=""), headers=ACME)
    assert api.get(f"/events/{told['event_id']}")["tenant_id"] == "acme"


def test_payload_may_be_any_json_or_none(api: Api) -> None:
    """A list, a text, nothing."""
    for number, payload in enumerate(([1], "text", 0, None)):
        told = api.post("/events", event(number, payload=payload))
        assert api.get(f"/events/{told['event_id']}")["payload"] == payload


def test_batch_answers_in_its_order(api: Api) -> None:
    """Also when an event occurs twice in it, or was there before."""
    known = api.post("/events", event(2))
    batch = [event(3), event(2), event(1), event(3)]
    outcomes = api.post("/events/batch", {"events": batch}, status=200)["outcomes"]
    assert [each["duplicate"] for each in outcomes] == [False, True, False, True]
    assert outcomes[1]["event_id"] == known["event_id"]
    assert outcomes[0]["event_id"] == outcomes[3]["event_id"]


def test_batch_has_1_to_100_events(api: Api) -> None:
    """400 for none and for more."""
    api.refused(400, "POST", "/events/batch", {"events": []})
    many = [event(each) for each in range(101)]
    api.refused(400, "POST", "/events/batch", {"events": many})
    told = api.post("/events/batch", {"events": many[:100]}, status=200)
    assert len(told["outcomes"]) == 100


def test_batch_is_checked_before_anything_is_written(api: Api) -> None:
    """The last one is wrong; none is kept."""
    wrong = [event(1), event(2), event(3, event_name="")]
    answer = api.refused(400, "POST", "/events/batch", {"events": wrong})
    assert answer["errors"][0]["pointer"] == "/events/2/event_name"
    assert api.get("/events?tenant_id=acme") == []


def test_foreign_tenant_under_a_scoped_header_is_403(api: Api) -> None:
    """Alone, or in a batch of which nothing is kept then."""
    api.refused(403, "POST", "/events", event(), headers=OTHER)
    mixed = {"events": [event(tenant_id="other"), event()]}
    api.refused(403, "POST", "/events/batch", mixed, headers=OTHER)


def test_two_batches_at_once_keep_each_event_once(api: Api) -> None:
    """Whatever their orders; neither waits for the other in a circle."""
    batch = [event(each) for each in range(50)]
    orders = [batch, batch[::-1]]
    with ThreadPoolExecutor(2) as producers:
        both = list(
            producers.map(
                lambda events: api.app.test_client().post("/events/batch", json={"events": events}),
                orders,
            )
        )
    assert [answer.status_code for answer in both] == [200, 200]
    told = [each["duplicate"] for answer in both for each in answer.get_json()["outcomes"]]
    assert sorted(told) == [False] * 50 + [True] * 50


def test_list_hides_payloads(api: Api) -> None:
    """The newest first, cut at limit, of one status if it is named."""
    for number in range(3):
        api.post("/events", event(number))
    found = api.get("/events?tenant_id=acme&limit=2")
    assert [each["producer_event_id"] for each in found] == ["evt_2", "evt_1"]
    assert {each["payload"] for each in found} == {"[REDACTED]"}
    assert len(api.get("/events?status=pending", headers=ACME)) == 3
    assert api.get("/events?status=consumed", headers=ACME) == []
    api.refused(400, "GET", "/events?tenant_id=acme&status=lost")


def test_event_nobody_wanted_for_30_days_is_expired(api: Api) -> None:
    """It stays in the list."""
    told = api.post("/events", event())
    api.rows("UPDATE events SET received_at = received_at - interval '31 days' RETURNING id")
    assert api.get(f"/events/{told['event_id']}")["status"] == "expired"
    assert len(api.get("/events?tenant_id=acme&status=expired")) == 1


def test_list_needs_a_tenant(api: Api) -> None:
    """400 without one; a header wins over the query."""
    assert "tenant scope is required" in api.refused(400, "GET", "/events")["error"]
    api.post("/events", event())
    assert api.get("/events?tenant_id=acme", headers=OTHER) == []


def test_event_that_is_not_there_is_404(api: Api) -> None:
    """Neither is another tenant's."""
    told = api.post("/events", event())
    api.refused(404, "GET", f"/events/{uuid4()}")
    api.refused(404, "GET", f"/events/{told['event_id']}", headers=OTHER)
    api.refused(400, "GET", "/events/17")
