"""Publishing, listing, finding and deprecating sequences over REST."""

from __future__ import annotations

import importlib.resources
import json
from typing import Any
from uuid import uuid4

import pytest

from tests.support.api import NOOP, Api

EXAMPLES = importlib.resources.files("orch8") / "examples"


def contract(**members: Any) -> dict[str, Any]:
    """A definition in the contract's form."""
    return {
        "id": str(uuid4()),
        "tenant_id": "acme",
        "namespace": "billing",
        "name": "dunning",
        "version": 1,
        "created_at": "2026-01-01T00:00:00Z",
        "blocks": [{"type": "step", "id": "a", "handler": "noop", "params": {"x": 1}}],
        **members,
    }


@pytest.mark.parametrize("name", ["payment_dunning", "invoice_retry"])
def test_sequence_of_the_seed_page_is_published_as_it_stands(api: Api, name: str) -> None:
    """The documents of the seed's page become version 1; sent again they are the same version."""
    body = json.loads((EXAMPLES / f"{name}.json").read_text())
    first = api.post("/sequences", body)
    assert (first["name"], first["version"]) == (name, 1)
    again = api.post("/sequences", body, status=200)
    assert (again["id"], again["version"]) == (first["id"], 1)


def test_sequence_with_another_body_is_the_next_version(api: Api) -> None:
    """A changed definition never replaces a published one."""
    first = api.post("/sequences", NOOP)
    second = api.post("/sequences", {**NOOP, "timezone": "Europe/Vienna"})
    assert (first["version"], second["version"]) == (1, 2)
    assert api.get(f"/sequences/{first['id']}")["blocks"] == NOOP["blocks"]
    assert api.get("/sequences/noop_once")["version"] == 2


def test_sequence_in_the_contracts_form_round_trips(api: Api) -> None:
    """What a client of the contract sent comes back, with the members that are always there."""
    body = contract()
    assert api.post("/sequences", body)["id"] == body["id"]
    found = api.get(f"/sequences/{body['id']}")
    assert {name: found[name] for name in body} == body
    assert (found["deprecated"], found["status"]) == (False, "production")


def test_sequence_id_that_stands_for_another_body_is_a_conflict(api: Api) -> None:
    """An id or a version number is published once."""
    body = contract()
    api.post("/sequences", body)
    answer = api.refused(409, "POST", "/sequences", contract(name="other", id=body["id"]))
    assert answer["error"].startswith("already exists: ")
    answer = api.refused(409, "POST", "/sequences", contract(timezone="Europe/Vienna"))
    assert answer["code"] == "already_exists"


@pytest.mark.parametrize(
    ("missing", "status"), [("blocks", 422), ("created_at", 422), ("id", 422), ("version", 422)]
)
def test_sequence_in_the_contracts_form_needs_its_members(
    api: Api, missing: str, status: int
) -> None:
    """A missing member is a wrong shape, and the answer points at it."""
    body = contract()
    del body[missing]
    answer = api.refused(status, "POST", "/sequences", body)
    assert f"/{missing}" in [each["pointer"] for each in answer["errors"]]


def test_sequence_with_an_unknown_block_type_is_told_what_was_meant(api: Api) -> None:
    """Every problem is listed with its place and a hint."""
    blocks = [{"type": "stepp", "handler": "noop"}, {"type": "step"}]
    answer = api.refused(422, "POST", "/sequences", {"id": "wrong", "blocks": blocks})
    pointers = {each["pointer"]: each for each in answer["errors"]}
    assert "step" in pointers["/blocks/0/type"]["hint"]
    assert "/blocks/1/handler" in pointers
    assert answer["error"].startswith("unprocessable entity: ")


def test_sequence_with_an_unknown_member_is_refused_unless_lenient(api: Api) -> None:
    """In the seed's form a slip of the pen is an error, or with ?lenient=true a warning."""
    body = {"id": "slip", "blocks": [{"type": "step", "handler": "noop", "retrys": 3}]}
    answer = api.refused(400, "POST", "/sequences", body)
    assert answer["errors"][0]["pointer"] == "/blocks/0/retrys"
    assert "retry" in answer["errors"][0]["hint"]
    published = api.post("/sequences?lenient=true", body)
    assert "/blocks/0/retrys" in published["warnings"][0]


def test_remark_about_money_is_an_error_for_a_strict_publisher(api: Api) -> None:
    """What may cost money is published with warnings, and with ?strict=true refused with 422."""
    body = {"id": "risky", "blocks": [{"type": "step", "handler": "charge"}]}
    answer = api.refused(422, "POST", "/sequences?strict=true", body)
    assert [each["code"] for each in answer["errors"]] == ["money.effect"]
    assert answer["errors"][0]["hint"] == '"effect": "money"'
    assert api.post("/sequences", body)["warning_details"] == answer["errors"]


def test_key_without_a_limit_is_an_error_for_a_strict_publisher(api: Api) -> None:
    """It is published with a warning; ?strict=true refuses it until somebody states a limit."""
    step = {"type": "step", "handler": "noop", "rate_limit_key": "nobody:knows"}
    body = {"id": "wild", "blocks": [step]}
    answer = api.refused(422, "POST", "/sequences?strict=true", body)
    assert [(e["code"], e["pointer"]) for e in answer["errors"]] == [
        ("unlimited", "/blocks/0/rate_limit_key")
    ]
    assert [each["code"] for each in api.post("/sequences", body)["warning_details"]] == [
        "unlimited"
    ]
    template = {**step, "rate_limit_key": "nobody:{{context.data.who}}"}
    api.send("PUT", "/rate-limits/nobody:knows:payouts", {"max": 5, "window_seconds": 1})
    for one in (step, template):
        api.refused(422, "POST", "/sequences?strict=true", {"id": "wild", "blocks": [one]})
    api.send("PUT", "/rate-limits/nobody:knows", {"max": 5, "window_seconds": 1})
    for name, one in (("tame", step), ("template", template)):
        body = {"id": name, "blocks": [one]}
        assert "warnings" not in api.post("/sequences?strict=true", body)
    answer = api.send("POST", "/sequences?strict=true", body, headers={"X-Tenant-Id": "other"})
    assert answer.status_code == 422  # it is another tenant's limit


def test_sequence_of_another_tenant_is_not_found(api: Api) -> None:
    """A tenant sees its own; a body for another one is forbidden."""
    api.post("/sequences", contract())
    acme, other = {"X-Tenant-Id": "acme"}, {"X-Tenant-Id": "other"}
    assert api.get("/sequences", headers=other)["items"] == []
    (found,) = api.get("/sequences", headers=acme)["items"]
    api.refused(404, "GET", f"/sequences/{found['id']}", headers=other)
    api.refused(404, "POST", f"/sequences/{found['id']}/deprecate", headers=other)
    api.refused(403, "POST", "/sequences", contract(), headers=other)


def test_sequences_are_listed_by_the_page(api: Api) -> None:
    """Newest version first; has_more says whether there are more."""
    for zone in ("UTC", "Europe/Vienna", "Asia/Tokyo"):
        api.post("/sequences", {**NOOP, "timezone": zone})
    page = api.get("/sequences?limit=2")
    assert [each["version"] for each in page["items"]] == [3, 2]
    assert page["has_more"]
    page = api.get("/api/v1/sequences?limit=2&offset=2&name=noop_once&tenant_id=")
    assert ([each["version"] for each in page["items"]], page["has_more"]) == ([1], False)


def test_sequence_that_is_deprecated_is_not_found_by_name(api: Api) -> None:
    """The next older version is, or none. Doing it twice changes nothing."""
    first = api.post("/sequences", NOOP)
    second = api.post("/sequences", {**NOOP, "timezone": "Asia/Tokyo"})
    for _ in range(2):
        answer = api.send(
            "POST", f"/sequences/{second['id']}/deprecate", headers={"X-Actor": "ann"}
        )
        assert (answer.status_code, answer.data) == (204, b"")
    assert api.get("/sequences/by-name?name=noop_once")["id"] == first["id"]
    assert api.get("/sequences/by-name?name=noop_once&version=2")["deprecated"]
    assert [each["version"] for each in api.get("/sequences/versions?name=noop_once")] == [1]
    api.send("POST", f"/sequences/{first['id']}/deprecate")
    api.refused(404, "GET", "/sequences/by-name?name=noop_once")
    assert api.get("/sequences/versions?name=noop_once") == []
    assert ("ann", "sequence.deprecated") in api.rows("SELECT actor, action FROM audit_log")


def test_sequence_by_name_needs_a_name(api: Api) -> None:
    """A missing parameter is named."""
    assert "missing field `name`" in api.refused(400, "GET", "/sequences/by-name")["error"]
    assert "version" in api.refused(400, "GET", "/sequences/by-name?name=a&version=x")["error"]
    assert (
        "version"
        in api.refused(400, "GET", "/sequences/by-name?name=a&version=99999999999")["error"]
    )
