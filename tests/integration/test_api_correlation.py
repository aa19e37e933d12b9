"""Signals that find their instances by what they are about."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.api import Api

DUNNING = {
    "id": "dunning",
    "correlation": {
        "invoice_id": "{{context.data.invoice_id}}",
        "subscription_id": "{{context.data.subscription_id}}",
        "attempt": "{{context.data.attempt}}",
    },
    "blocks": [{"type": "wait_signal", "signal": "invoice.paid"}],
}


def dunning(api: Api, **data: Any) -> str:
    """A new instance with this data."""
    found: str = api.started(DUNNING, context={"data": data})["id"]
    return found


def paid(api: Api, status: int = 200, /, **body: Any) -> Any:
    """What a message about a paid invoice comes to."""
    return api.post("/signals", {"signal": "invoice.paid", **body}, status=status)


def inbox(api: Api, instance_id: str) -> list[str]:
    """The names of an instance's signals."""
    return [each["name"] for each in api.get(f"/instances/{instance_id}/signals")]


def test_signal_reaches_every_open_instance_that_matches(api: Api) -> None:
    """All names must match; the answer lists who has the signal, the newest first."""
    first = dunning(api, invoice_id="in_1", subscription_id="sub_1")
    second = dunning(api, invoice_id="in_2", subscription_id="sub_1")
    dunning(api, invoice_id="in_3")
    api.announced.clear()
    sent = paid(api, correlate={"subscription_id": "sub_1"}, payload={"n": 1})
    assert sent["matched"] == 2
    assert [each["instance_id"] for each in sent["signals"]] == [second, first]
    one = paid(api, correlate={"subscription_id": "sub_1", "invoice_id": "in_1"})
    assert (one["matched"], one["signals"][0]["instance_id"]) == (1, first)
    assert [len(inbox(api, each)) for each in (first, second)] == [2, 1]
    assert api.get(f"/instances/{first}/signals")[0]["payload"] == {"n": 1}
    assert api.announced == ["renewal", "renewal"]


def test_signal_is_matched_by_text(api: Api) -> None:
    """A number matches the number and its text; null, "" and objects match nothing."""
    first = dunning(api, invoice_id="in_1", attempt=3)
    for value in (3, "3"):
        assert paid(api, correlate={"attempt": value})["matched"] == 1
    dunning(api, invoice_id=None, attempt="", subscription_id={"a": 1})
    rows = api.rows("SELECT name, value, instance_id::text FROM correlations ORDER BY name")
    assert rows == [("attempt", "3", first), ("invoice_id", "in_1", first)]


def test_signal_without_a_match_is_dropped_or_told(api: Api) -> None:
    """By default nobody minds; with if_none error the sender is told."""
    assert paid(api, correlate={"invoice_id": "in_9"}) == {"matched": 0, "signals": []}
    refused = paid(api, 404, correlate={"invoice_id": "in_9"}, if_none="error")
    assert "invoice_id = 'in_9'" in refused["detail"]


def test_signal_with_several_matches_goes_where_it_should(api: Api) -> None:
    """All, the newest, or none and an error that names some of them."""
    first = dunning(api, invoice_id="in_1")
    second = dunning(api, invoice_id="in_1")
    body = {"correlate": {"invoice_id": "in_1"}}
    newest = paid(api, **body, if_many="newest")
    assert newest["matched"] == 2
    assert [each["instance_id"] for each in newest["signals"]] == [second]
    refused = paid(api, 409, **body, if_many="error")
    assert first in refused["detail"]
    assert (inbox(api, first), len(inbox(api, second))) == ([], 1)
    assert len(paid(api, **body, if_many="all")["signals"]) == 2


def test_signal_reaches_nobody_who_has_ended(api: Api) -> None:
    """The correlations of an instance end with it; one that ends at that moment is passed over."""
    first = dunning(api, invoice_id="in_1")
    api.post(f"/instances/{first}/signals", {"signal": "cancel"})
    assert paid(api, correlate={"invoice_id": "in_1"})["matched"] == 0
    assert api.rows("SELECT 1 FROM correlations") == []
    api.rows(
        "INSERT INTO correlations (tenant_id, name, value, instance_id)"
        " VALUES ('default', 'invoice_id', 'in_1', %s) RETURNING 1",
        first,
    )
    body = {"correlate": {"invoice_id": "in_1"}}
    assert paid(api, **body) == {"matched": 1, "signals": []}
    paid(api, 404, **body, if_none="error")
    assert inbox(api, first) == ["cancel"]


def test_signal_is_taken_once_per_key_by_each_instance(api: Api) -> None:
    """The same message again does nothing to those that have it, and reaches who is new."""
    first = dunning(api, invoice_id="in_1")
    body = {"correlate": {"invoice_id": "in_1"}, "dedupe_key": "evt_1"}
    before = paid(api, **body)
    second = dunning(api, invoice_id="in_1")
    again = paid(api, **body)
    assert before["signals"][0] in again["signals"]
    assert [len(inbox(api, each)) for each in (first, second)] == [1, 1]
    headers = {"Idempotency-Key": "evt_1"}
    sent = {"signal": "invoice.paid", "correlate": {"invoice_id": "in_1"}}
    assert api.post("/signals", sent, status=200, headers=headers) == again


def test_control_reaches_every_match(api: Api) -> None:
    """A void invoice stops whatever chases it."""
    first = dunning(api, invoice_id="in_1")
    body = {"signal": "cancel", "correlate": {"invoice_id": "in_1"}, "reason": "void"}
    api.post("/signals", body, status=200, headers={"X-Actor": "ann"})
    assert api.get(f"/instances/{first}")["state"] == "cancelled"
    entries = api.get(f"/instances/{first}/audit")
    entry = next(each for each in entries if each["action"] == "instance.cancelling")
    assert (entry["actor"], entry["reason"]) == ("ann", "void")


def test_correlation_follows_the_context(api: Api) -> None:
    """An instance is found by what its context says now, not by what it said."""
    first = dunning(api, invoice_id="in_1", subscription_id="sub_1")
    data = {"data": {"invoice_id": "in_2"}}
    api.post(f"/instances/{first}/signals", {"signal": "update_context", "payload": data})
    found = [paid(api, correlate=each)["matched"] for each in (
        {"invoice_id": "in_1"}, {"invoice_id": "in_2"}, {"subscription_id": "sub_1"},
    )]  # fmt: skip
    assert found == [0, 1, 1]


def test_signal_stays_within_the_tenant(api: Api) -> None:
    """Nobody reaches another tenant's instances."""
    dunning(api, invoice_id="in_1")
    headers = {"X-Tenant-Id": "acme"}
    body = {"signal": "invoice.paid", "correlate": {"invoice_id": "in_1"}}
    assert api.post("/signals", body, status=200, headers=headers)["matched"] == 0
    answer = api.send("POST", "/signals", {**body, "tenant_id": "other"}, headers=headers)
    assert answer.status_code == 403
    assert paid(api, correlate={"invoice_id": "in_1"}, tenant_id="acme")["matched"] == 0


def test_signal_to_more_than_a_thousand_is_refused(api: Api) -> None:
    """A name that is no name of anything reaches nobody; the newest alone can still be meant."""
    first = dunning(api, invoice_id="in_1")
    api.rows(
        "INSERT INTO correlations (tenant_id, name, value, instance_id)"
        " SELECT 'default', 'kind', 'dunning',"
        " ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid"
        " FROM generate_series(1, 1000) n UNION ALL SELECT 'default', 'kind', 'dunning', %s::uuid"
        " RETURNING 1",
        first,
    )
    refused = paid(api, 400, correlate={"kind": "dunning"})
    assert "more than 1000" in refused["detail"]
    assert inbox(api, first) == []
    sent = paid(api, correlate={"kind": "dunning"}, if_many="newest")
    assert [each["instance_id"] for each in sent["signals"]] == [first]


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({}, 422, "/signal"),
    ({"signal": "paid"}, 422, "/correlate"),
    ({"signal": "paid", "correlate": {}}, 400, "/correlate"),
    ({"signal": "paid", "correlate": {str(n): "x" for n in range(17)}}, 400, "/correlate"),
    ({"signal": "paid", "correlate": ["a"]}, 422, "/correlate"),
    ({"signal": "paid", "correlate": {"a": None}}, 422, "/correlate/a"),
    ({"signal": "paid", "correlate": {"a/b": ""}}, 422, "/correlate/a~1b"),
    ({"signal": "paid", "correlate": {"a": "x" * 256}}, 422, "/correlate/a"),
    ({"signal": "paid", "correlate": {"a": "x"}, "if_many": "first"}, 422, "/if_many"),
    ({"signal": "paid", "correlate": {"a": "x"}, "if_none": "store"}, 422, "/if_none"),
    ({"signal": "paid", "corelate": {"a": "x"}}, 400, "/corelate"),
]


@pytest.mark.parametrize(("body", "status", "pointer"), REFUSED)
def test_signal_that_cannot_be_understood_is_refused(
    api: Api, body: dict[str, Any], status: int, pointer: str
) -> None:
    """What is wrong is named with its place, and nobody has the signal."""
    refused = api.refused(status, "POST", "/signals", body)
    assert pointer in [each["pointer"] for each in refused["errors"]]


KEYED = {
    "id": "keyed",
    "unique": {"key": "dunning:{{context.data.invoice_id}}"},
    "blocks": [{"type": "wait_signal", "signal": "paid"}],
}
RETURNING = {
    **KEYED,
    "id": "returning",
    "unique": {"key": "dunning:{{data.invoice_id}}", "on_conflict": "return_existing"},
}
CONTEXT = {"context": {"data": {"invoice_id": "in_1"}}}


def test_business_key_conflict_is_told_or_answered(api: Api) -> None:
    """409 with the instance that has the key; 200 with that instance if the sequence says so."""
    first = api.started(KEYED, **CONTEXT)
    refused = api.refused(409, "POST", "/sequences/keyed/instances", CONTEXT)
    assert (refused["code"], refused["instance_id"]) == ("business_key_taken", first["id"])
    api.post("/sequences", RETURNING)
    given = api.post("/sequences/returning/instances", CONTEXT, status=200)
    assert (given["id"], given["deduplicated"]) == (first["id"], True)
    refused = api.refused(400, "POST", "/sequences/keyed/instances", {})
    assert "needs context.data.invoice_id" in refused["detail"]
