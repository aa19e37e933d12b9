"""CONTRACT 27: sessions keep what callers want to know about a series of instances."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.support.api import CHARGE, Api
from tests.support.desk import Desk

OTHER = {"X-Tenant-Id": "other"}


def opened(api: Api, key: str = "k", **members: Any) -> Any:
    """A new session."""
    return api.post("/sessions", {"tenant_id": "acme", "session_key": key} | members)


def test_session_is_opened_and_read(api: Api) -> None:
    """By its id, or by its key."""
    made = opened(api, "sub/1", data={"plan": "pro"}, expires_at="2027-01-01T00:00:00Z")
    assert made["state"] == "active"
    assert made["data"] == {"plan": "pro"}
    assert made["expires_at"] == "2027-01-01T00:00:00Z"
    assert api.get(f"/sessions/{made['id']}") == made
    assert api.get("/sessions/by-key/acme/sub/1") == made


def test_session_without_more_has_null_data(api: Api) -> None:
    """And no expires_at at all."""
    made = opened(api)
    assert made["data"] is None
    assert "expires_at" not in made


def test_key_is_a_tenants_own(api: Api) -> None:
    """409 for one that it has already; another tenant may have the same."""
    opened(api)
    api.refused(409, "POST", "/sessions", {"tenant_id": "acme", "session_key": "k"})
    opened(api, tenant_id="other")


@pytest.mark.parametrize("key", ["", "k" * 513])
def test_key_has_1_to_512_characters(api: Api, key: str) -> None:
    """400 otherwise."""
    api.refused(400, "POST", "/sessions", {"tenant_id": "acme", "session_key": key})
    opened(api, "k" * 512)


def test_wrong_shape_is_422(api: Api) -> None:
    """A missing key, a tenant that is missing or blank, an unknown state."""
    for body in (
        {"tenant_id": "acme"},
        {"session_key": "k"},
        {"tenant_id": " ", "session_key": "k"},
    ):
        api.refused(422, "POST", "/sessions", body)
    made = opened(api)
    api.refused(422, "PATCH", f"/sessions/{made['id']}/state", {"state": "gone"})
    api.refused(422, "PATCH", f"/sessions/{made['id']}/data", {})


def test_data_is_replaced(api: Api) -> None:
    """Nothing of it stays; 200 without a body."""
    made = opened(api, data={"a": 1})
    answer = api.send("PATCH", f"/sessions/{made['id']}/data", {"data": {"b": 2}})
    assert (answer.status_code, answer.data) == (200, b"")
    found = api.get(f"/sessions/{made['id']}")
    assert found["data"] == {"b": 2}
    assert found["updated_at"] > made["updated_at"]


def test_data_has_a_bound(desk: Desk) -> None:
    """256 KiB, 413 above."""
    made = opened(desk.api)
    for size, status in ((262_142, 200), (262_143, 413)):
        body = {"data": "x" * size}
        answer = desk.api.send("PATCH", f"/sessions/{made['id']}/data", body)
        assert answer.status_code == status, answer.text
    body = {"tenant_id": "acme", "session_key": "big", "data": "x" * 262_143}
    assert desk.api.send("POST", "/sessions", body).status_code == 413


@pytest.mark.parametrize("state", ["paused", "completed", "expired", "active"])
def test_state_is_set(api: Api, state: str) -> None:
    """It has no effect on instances."""
    made = opened(api)
    instance = api.started(CHARGE, session_id=opened(api, "mine", tenant_id="default")["id"])
    answer = api.send("PATCH", f"/sessions/{made['id']}/state", {"state": state})
    assert (answer.status_code, answer.data) == (200, b"")
    assert api.get(f"/sessions/{made['id']}")["state"] == state
    assert api.get(f"/instances/{instance['id']}")["state"] == instance["state"]


def test_instances_of_a_session_are_listed(api: Api) -> None:
    """Those that were created with its id, alone or in a batch."""
    made = opened(api)
    sequence = api.post("/sequences", CHARGE, headers={"X-Tenant-Id": "acme"})
    body = {
        "sequence_id": sequence["id"], "tenant_id": "acme", "namespace": "default",
        "session_id": made["id"],
    }  # fmt: skip
    first = api.post("/instances", body)
    assert first["session_id"] == made["id"]
    api.post("/instances/batch", {"instances": [body]})
    other = api.post("/instances", body | {"session_id": None})
    assert "session_id" not in other
    found = api.get(f"/sessions/{made['id']}/instances")
    assert len(found) == 2
    assert {each["session_id"] for each in found} == {made["id"]}
    assert api.get(f"/sessions/{opened(api, 'empty')['id']}/instances") == []


def test_instance_needs_a_session_of_its_tenant(api: Api) -> None:
    """404 for one that is not there, or another tenant's."""
    foreign = opened(api, tenant_id="other")["id"]
    api.post("/sequences", CHARGE)
    for session in (foreign, str(uuid4())):
        body = {"session_id": session}
        api.refused(404, "POST", "/sequences/charge_once/instances", body)


def test_children_belong_to_the_session(desk: Desk) -> None:
    """As their parent does."""
    made = opened(desk.api, tenant_id="default")
    desk.api.post("/sequences", {"id": "child", "blocks": [{"type": "step", "handler": "noop"}]})
    parent = {"id": "parent", "blocks": [{"type": "sub_sequence", "sequence": "child"}]}
    desk.run(parent, session_id=made["id"])
    found = desk.api.get(f"/sessions/{made['id']}/instances")
    assert {each["sequence"]["name"] for each in found} == {"parent", "child"}


def test_unknown_and_foreign_sessions_are_404(api: Api) -> None:
    """On every route."""
    made = opened(api)["id"]
    for session, headers in ((str(uuid4()), {}), (made, OTHER)):
        path = f"/sessions/{session}"
        api.refused(404, "GET", path, headers=headers)
        api.refused(404, "GET", f"{path}/instances", headers=headers)
        api.refused(404, "PATCH", f"{path}/data", {"data": 1}, headers=headers)
        api.refused(404, "PATCH", f"{path}/state", {"state": "paused"}, headers=headers)
    api.refused(404, "GET", "/sessions/by-key/acme/nope")
    api.refused(404, "GET", "/sessions/by-key/acme/k", headers=OTHER)
    api.refused(403, "POST", "/sessions", {"tenant_id": "acme", "session_key": "x"}, headers=OTHER)
    api.refused(400, "GET", "/sessions/17")
