"""CONTRACT 2: what requests that cannot be carried out are answered."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from orch8 import errors
from tests.support.api import NOOP, WAITING, Api, serving
from tests.support.servers import Database

LISTING = "instances.list_some"
SEQUENCE = {
    "id": str(uuid4()), "tenant_id": "t", "namespace": "n", "name": "s", "version": 1,
    "created_at": "2026-01-01T00:00:00Z",
    "blocks": [{"type": "step", "id": "a", "handler": "noop", "params": {}}],
}  # fmt: skip


def _without(name: str) -> dict[str, Any]:
    return {key: value for key, value in SEQUENCE.items() if key != name}


def _with_block(block: dict[str, Any]) -> dict[str, Any]:
    return SEQUENCE | {"blocks": [block]}


# -- 2.1 the body of an error --------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "status", "said"),
    [
        (errors.NotFound, 404, "not found: why"),
        (errors.InvalidArgument, 400, "invalid argument: why"),
        (errors.AlreadyExists, 409, "already exists: why"),
        (errors.Conflict, 409, "conflict: why"),
        (errors.Unauthorized, 401, "unauthorized"),
        (errors.Forbidden, 403, "forbidden: why"),
        (errors.PayloadTooLarge, 413, "payload too large: why"),
        (errors.Unprocessable, 422, "unprocessable entity: why"),
        (errors.RateLimited, 429, "rate limit exceeded: why"),
        (errors.BadGateway, 502, "bad gateway: why"),
        (errors.Unavailable, 503, "unavailable: why"),
        (errors.Orch8Error, 500, "internal server error"),
        (RuntimeError, 500, "internal server error"),
    ],
)
def test_error_has_a_status_and_one_line(
    api: Api, kind: type[Exception], status: int, said: str
) -> None:
    """``error`` is the kind and the message; of what is internal the log alone has the details."""

    def refuse() -> None:
        raise kind("why")

    api.app.view_functions[LISTING] = refuse
    answer = api.client.get("/instances")
    assert answer.mimetype == "application/json"
    assert (answer.status_code, answer.json["error"]) == (status, said)
    assert ("why" in answer.text) == (status != 500)


# -- 2.3 refusals before a view is asked ---------------------------------------------------------
def test_refusals_of_auth_and_tenant_are_json_with_their_status(postgres: Database) -> None:
    """401 without a key, 400 without a tenant, 403 for another tenant than the key's."""
    root = {"x-api-key": "a root key"}
    with serving(postgres, api_key="a root key") as api:
        assert api.send("GET", "/sequences").status_code == 401
        assert api.send("GET", "/sequences", headers=root).status_code == 400
        issued = api.post("/api-keys", {"tenant_id": "acme"}, headers=root)
        other = {"x-api-key": issued["secret"], "X-Tenant-Id": "other"}
        answer = api.send("GET", "/sequences", headers=other)
        assert answer.status_code == 403
        assert answer.json["error"].startswith("forbidden: ")


# -- 2.4 what cannot be read ---------------------------------------------------------------------
@pytest.mark.parametrize("path", ["/sequences", "/instances", "/api-keys"])
def test_body_that_is_no_json_is_400(api: Api, path: str) -> None:
    """Whatever else it may be."""
    api.refused(400, "POST", path, data=b"{not json", content_type="application/json")


@pytest.mark.parametrize("kind", ["text/plain", ""])
def test_body_that_is_not_sent_as_json_is_415(api: Api, kind: str) -> None:
    """Also when no type is stated."""
    api.refused(415, "POST", "/instances", data=b"{}", content_type=kind)


@pytest.mark.parametrize("path", ["/instances/x", "/instances/x/outputs", "/instances/x/tree"])
def test_id_in_the_path_that_is_no_uuid_is_400(api: Api, path: str) -> None:
    """The message says which part it is."""
    assert "must be a UUID" in api.refused(400, "GET", path)["error"]


@pytest.mark.parametrize("query", ["limit=x", "limit=1.5", "offset=-1", "sequence_id=x"])
def test_parameter_of_the_wrong_type_is_400(api: Api, query: str) -> None:
    """Its name is in the message."""
    assert query.partition("=")[0] in api.refused(400, "GET", f"/instances?{query}")["error"]


def test_parameter_that_is_missing_is_400_and_named(api: Api) -> None:
    """In the words that existing clients look for."""
    assert "missing field `tenant_id`" in api.refused(400, "GET", "/api-keys")["error"]
    said = api.refused(400, "GET", "/api-keys?tenant_id=%20")["error"]
    assert "tenant_id query parameter is required" in said


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/instances", {"tenant_id": "t", "namespace": "n"}),
        ("/instances", {"sequence_id": "x", "tenant_id": "t", "namespace": "n"}),
        ("/sequences", _without("blocks")),
        ("/sequences", _without("created_at")),
        ("/sequences", _with_block({"type": "teleport", "id": "a"})),
        ("/sequences", _with_block({"type": "step", "id": "a", "params": {}})),
        ("/sequences", SEQUENCE | {"blocks": "none"}),
        ("/sequences", []),
        ("/api-keys", {"name": "no tenant"}),
        ("/api-keys", {"tenant_id": "t", "capabilities": ["everything"]}),
        ("/api-keys", {"tenant_id": 7}),
    ],
)
def test_json_of_the_wrong_shape_is_422(api: Api, path: str, body: Any) -> None:
    """A member is missing, of a wrong type, or a word that is not known."""
    answer = api.refused(422, "POST", path, body)
    assert answer["error"].startswith("unprocessable entity: ")


@pytest.mark.parametrize("body", [{}, {"signal_type": "dance"}, {"signal_type": 5}])
def test_signal_without_a_known_type_is_422(api: Api, body: dict[str, Any]) -> None:
    """Nothing is sent to the instance."""
    instance = api.started(WAITING)
    api.refused(422, "POST", f"/instances/{instance['id']}/signals", body)


def test_members_that_are_not_known_are_ignored(api: Api) -> None:
    """Clients of the contract may send more than is read."""
    api.post("/sequences", SEQUENCE | {"colour": "blue"})
    body = {"sequence_id": SEQUENCE["id"], "tenant_id": "t", "namespace": "n", "mood": "good"}
    api.post("/instances", body)
    api.post("/api-keys", {"tenant_id": "t", "colour": "blue"})


def test_refusal_changes_nothing(api: Api) -> None:
    """The database is as it was: ``refused`` compares every table."""
    api.post("/sequences", NOOP)
    api.refused(404, "POST", f"/instances/{uuid4()}/signals", {"signal_type": "pause"})
