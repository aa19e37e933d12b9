"""CONTRACT 3: who may ask, about which tenant, and the keys of tenants."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from api import create_app
from orch8.config import Settings
from orch8.errors import ConfigurationError
from tests.support.api import CHARGE, NOOP, Api, serving
from tests.support.house import until
from tests.support.servers import Database

ROOT = {"x-api-key": "a root key"}
OPEN = {"require_tenant_header": False, "allow_no_tenant_isolation": True}
ACME, OTHER = {"X-Tenant-Id": "acme"}, {"X-Tenant-Id": "other"}
PAST, FUTURE = "2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z"


@pytest.fixture
def keyed(postgres: Database) -> Iterator[Api]:
    """The app with a root key, which needs no tenant."""
    with serving(postgres, api_key="a root key", **OPEN) as found:
        yield found


def issue(api: Api, **members: Any) -> Any:
    """A new key of acme's."""
    return api.post("/api-keys", {"tenant_id": "acme", **members}, headers=ROOT)


def by(issued: Any) -> dict[str, str]:
    """The header of a request with this key."""
    return {"x-api-key": issued["secret"]}


def status(api: Api, method: str, path: str, headers: dict[str, str], json: Any = None) -> int:
    """What a request is answered."""
    return api.send(method, path, json, headers=headers).status_code


# -- 3.1 modes -----------------------------------------------------------------------------------
def test_everybody_is_admin_without_a_key(api: Api) -> None:
    """Whatever key they send."""
    for headers in ({}, {"x-api-key": "anything"}):
        assert api.send("GET", "/api-keys?tenant_id=t", headers=headers).status_code == 200
    assert api.started()["tenant_id"] == "default"


def test_server_without_a_key_starts_only_when_told_to(api: Api) -> None:
    """And an API key wins over that."""
    with pytest.raises(ConfigurationError, match="ORCH8_API_KEY"):
        create_app(Settings(), api.office, print)
    keyed = replace(api.office.settings, insecure=True, api_key="a root key")
    client = create_app(keyed, api.office, print).test_client()
    assert client.get("/sequences").status_code == 401


def test_key_without_tenants_starts_only_when_told_to(api: Api) -> None:
    """ORCH8_ALLOW_NO_TENANT_ISOLATION says so."""
    with pytest.raises(ConfigurationError, match="ORCH8_ALLOW_NO_TENANT_ISOLATION"):
        create_app(Settings(api_key="k", require_tenant_header=False), api.office, print)
    create_app(Settings(api_key="k", **OPEN), api.office, print)


@pytest.mark.parametrize("path", ["/sequences", "/api/v1/instances", "/metrics", "/nope"])
def test_key_is_required(keyed: Api, path: str) -> None:
    """Without one, or with one that is unknown: 401."""
    unknown = {"x-api-key": "sk_" + "0" * 64}
    for headers in ({}, {"x-api-key": ""}, {"x-api-key": "A root key"}, unknown):
        assert keyed.client.get(path, headers=headers).status_code == 401
    assert keyed.client.get(path, headers=ROOT).status_code != 401


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/info"])
def test_health_and_info_need_no_key(postgres: Database, path: str) -> None:
    """And no tenant."""
    with serving(postgres, api_key="a root key") as api:
        assert api.client.get(path).status_code == 200


def test_key_binds_to_its_tenant(keyed: Api) -> None:
    """What is created with it is the tenant's, and nothing else is listed."""
    keyed.post("/sequences", NOOP, headers=ROOT | OTHER)
    acme = by(issue(keyed))
    created = keyed.post("/sequences", NOOP, headers=acme)
    items = keyed.get("/sequences", headers=acme)["items"]
    assert [each["id"] for each in items] == [created["id"]]
    assert items[0]["tenant_id"] == "acme"


def test_revoked_key_opens_nothing_on_its_next_call(keyed: Api) -> None:
    """In every process: a second app of the same installation refuses it, too."""
    issued = issue(keyed)
    second = create_app(keyed.office.settings, keyed.office, print).test_client()
    assert second.get("/sequences", headers=by(issued)).status_code == 200
    assert status(keyed, "GET", "/sequences", by(issued)) == 200
    assert status(keyed, "DELETE", f"/api-keys/{issued['id']}", ROOT) == 204
    assert status(keyed, "GET", "/sequences", by(issued)) == 401
    assert second.get("/sequences", headers=by(issued)).status_code == 401


def test_expired_key_opens_nothing(keyed: Api) -> None:
    """One with time left does."""
    assert status(keyed, "GET", "/sequences", by(issue(keyed, expires_at=PAST))) == 401
    assert status(keyed, "GET", "/sequences", by(issue(keyed, expires_at=FUTURE))) == 200


# -- 3.2 tenants ---------------------------------------------------------------------------------
def test_key_of_a_tenant_needs_no_header_and_stands_no_other(postgres: Database) -> None:
    """Its own tenant may be named; another is 403."""
    with serving(postgres, api_key="a root key") as api:
        headers = by(issue(api))
        assert status(api, "GET", "/sequences", headers) == 200
        assert status(api, "GET", "/sequences", headers | ACME) == 200
        assert status(api, "GET", "/sequences", headers | OTHER) == 403


def test_key_of_a_tenant_wins_over_the_query(keyed: Api) -> None:
    """A listing shows the key's tenant, whichever is asked for."""
    keyed.post("/sequences", NOOP, headers=ROOT | OTHER)
    keyed.post("/sequences/noop_once/instances", {}, headers=ROOT | OTHER)
    headers = by(issue(keyed))
    assert keyed.get("/instances?tenant_id=other", headers=headers)["items"] == []


def test_create_for_another_tenant_than_the_callers_is_403(api: Api) -> None:
    """The body's tenant is checked; without one the caller's is taken."""
    sequence = api.post("/sequences", NOOP, headers=ACME)
    body = {"sequence_id": sequence["id"], "namespace": "n"}
    api.refused(403, "POST", "/instances", body | {"tenant_id": "other"}, headers=ACME)
    assert api.post("/instances", body | {"tenant_id": "acme"}, headers=ACME)["tenant_id"] == "acme"


def test_create_without_a_header_takes_the_bodys_tenant(api: Api) -> None:
    """Whoever may see every tenant may create for each."""
    issued = api.post("/api-keys", {"tenant_id": "acme"})
    assert issued["tenant_id"] == "acme"


def test_root_key_needs_a_tenant_unless_told_otherwise(postgres: Database) -> None:
    """400 for none or a blank one; at most 128 characters."""
    with serving(postgres, api_key="a root key") as api:
        for tenant in ({}, {"X-Tenant-Id": " "}, {"X-Tenant-Id": "x" * 129}):
            assert status(api, "GET", "/sequences", ROOT | tenant) == 400
        for tenant in (ACME, {"X-Tenant-Id": "x" * 128}):
            assert status(api, "GET", "/sequences", ROOT | tenant) == 200
    with serving(postgres, api_key="a root key", **OPEN) as api:
        assert status(api, "GET", "/sequences", ROOT) == 200


def test_what_is_another_tenants_is_404(api: Api) -> None:
    """Never 403: that would say that it exists."""
    api.post("/sequences", NOOP, headers=OTHER)
    instance = api.post("/sequences/noop_once/instances", {}, headers=OTHER)
    for path in ("", "/outputs", "/tree", "/audit"):
        api.refused(404, "GET", f"/instances/{instance['id']}{path}", headers=ACME)
    signal = {"signal_type": "cancel"}
    path = f"/instances/{instance['id']}/signals"
    api.refused(404, "POST", path, signal, headers=ACME)


def test_reading_by_id_without_a_tenant_sees_every_tenant(api: Api) -> None:
    """As does listing."""
    api.post("/sequences", NOOP, headers=OTHER)
    instance = api.post("/sequences/noop_once/instances", {}, headers=OTHER)
    assert api.get(f"/instances/{instance['id']}")["tenant_id"] == "other"
    assert len(api.get("/instances")["items"]) == 1


def test_tenant_of_the_header_wins_over_the_query(api: Api) -> None:
    """An empty parameter counts as none."""
    api.post("/sequences", NOOP, headers=OTHER)
    api.post("/sequences/noop_once/instances", {}, headers=OTHER)
    assert api.get("/instances?tenant_id=other", headers=ACME)["items"] == []
    assert len(api.get("/instances?tenant_id=other")["items"]) == 1
    assert len(api.get("/instances?tenant_id=")["items"]) == 1


# -- 3.3 capabilities ----------------------------------------------------------------------------
BOGUS = UUID("9435da30-5f45-4872-8bae-dfc82930d0d1")
COMPLETE = {"worker_id": "w", "claim_epoch": 1, "output": {}}
PAUSE = {"signal_type": "pause"}
POLL = {"handler_name": "charge", "worker_id": "w"}


@pytest.mark.parametrize(
    ("capability", "method", "path", "body", "expected"),
    [
        ("operator", "POST", "/sequences", NOOP, 201),
        ("operator", "GET", "/instances", None, 200),
        ("worker", "POST", "/workers/tasks/poll", POLL, 200),
        ("worker", "GET", "/api/v1/workers", None, 200),
        ("worker", "GET", "/handlers", None, 200),
        ("worker", "POST", f"/workers/tasks/{BOGUS}/complete", COMPLETE, 404),
        ("worker", "GET", "/instances", None, 403),
        ("worker", "PUT", "/handlers/charge", {"url": "https://evil.example"}, 403),
        ("worker", "GET", "/workersandmore", None, 403),
        ("device", "GET", "/sequences", None, 403),
        ("publisher", "POST", "/sequences", NOOP, 201),
        ("publisher", "GET", "/api/v1/sequences", None, 200),
        ("publisher", "POST", "/sequences/noop_once/instances", {}, 403),
        ("publisher", "POST", "/instances", {}, 403),
        ("approver", "POST", f"/instances/{BOGUS}/signals", PAUSE, 404),
        ("approver", "POST", f"/api/v1/instances/{BOGUS}/signals", PAUSE, 404),
        ("approver", "GET", f"/instances/{BOGUS}", None, 403),
        ("approver", "POST", f"/instances/{BOGUS}/retry", None, 403),
        ("auditor", "GET", "/instances", None, 200),
        ("auditor", "GET", f"/instances/{BOGUS}/audit", None, 404),
        ("auditor", "HEAD", "/sequences", None, 200),
        ("auditor", "POST", "/sequences", NOOP, 403),
        ("auditor", "POST", f"/instances/{BOGUS}/signals", PAUSE, 403),
    ],
)
def test_key_may_do_what_it_is_for(
    keyed: Api, capability: str, method: str, path: str, body: Any, expected: int
) -> None:
    """Everything else is 403, before it is looked whether the thing exists."""
    headers = by(issue(keyed, capabilities=[capability]))
    assert status(keyed, method, path, headers, body) == expected


def test_several_capabilities_add_up(keyed: Api) -> None:
    """A key that is for two things may do both, and no third."""
    headers = by(issue(keyed, capabilities=["worker", "auditor"]))
    assert status(keyed, "POST", "/workers/tasks/poll", headers, POLL) == 200
    assert status(keyed, "GET", "/instances", headers) == 200
    assert status(keyed, "POST", "/sequences", headers, NOOP) == 403


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/workers/commands"),
        ("GET", "/workers/w-1/commands"),
        ("DELETE", f"/workers/commands/{BOGUS}"),
        ("GET", "/workers/version-pins"),
        ("GET", "/webhooks/outbox"),
        ("POST", f"/webhooks/outbox/{BOGUS}/redeliver"),
        ("GET", "/webhooks/deliveries"),
        ("POST", f"/cluster/nodes/{BOGUS}/drain"),
    ],
)
def test_what_is_about_everybody_needs_the_root_key(keyed: Api, method: str, path: str) -> None:
    """No key of a tenant opens it, whatever it is for."""
    headers = by(issue(keyed, capabilities=["operator", "worker", "auditor"]))
    for address in (path, f"/api/v1{path}"):
        answer = keyed.client.open(address, method=method, headers=headers, json={})
        assert answer.status_code == 403
        assert answer.json["error"] == "forbidden: this requires the root API key"


# -- 3.4 API keys --------------------------------------------------------------------------------
def test_issued_key_shows_its_secret_once(keyed: Api) -> None:
    """201 with an id, a secret, and what was asked for."""
    asked = {"name": "billing", "capabilities": ["worker"], "expires_at": FUTURE}
    issued = issue(keyed, **asked)
    assert re.fullmatch("ak_[0-9a-f]{32}", issued["id"])
    assert re.fullmatch("sk_[0-9a-f]{64}", issued["secret"])
    assert {name: issued[name] for name in asked} == asked
    (listed,) = keyed.get("/api-keys?tenant_id=acme", headers=ROOT)
    assert "secret" not in listed
    assert issued["secret"] not in str(listed)


def test_key_is_an_operators_unless_told_otherwise(keyed: Api) -> None:
    """It has no name and no end then."""
    issued = issue(keyed)
    assert issued["capabilities"] == ["operator"]
    assert (issued["name"], issued["expires_at"]) == ("", None)


def test_secret_is_kept_as_its_hash_only(keyed: Api) -> None:
    """Who reads the database cannot use what is there."""
    issued = issue(keyed)
    ((digest,),) = keyed.rows("SELECT secret_sha256 FROM api_keys")
    assert bytes(digest) == hashlib.sha256(issued["secret"].encode()).digest()
    rows = keyed.rows("SELECT k::text FROM api_keys k UNION ALL SELECT a::text FROM audit_log a")
    assert all(issued["secret"] not in text for (text,) in rows)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"tenant_id": ""}, 400),
        ({"tenant_id": " "}, 400),
        ({"tenant_id": "t", "capabilities": []}, 400),
        ({"tenant_id": "t", "capabilities": ["everything"]}, 422),
        ({"tenant_id": "t", "expires_at": "soon"}, 422),
        ({}, 422),
    ],
)
def test_key_that_makes_no_sense_is_refused(api: Api, body: Any, expected: int) -> None:
    """A blank tenant is 400, what is not of the right shape 422."""
    api.refused(expected, "POST", "/api-keys", body)


def test_list_shows_a_tenants_keys(keyed: Api) -> None:
    """With when each was last used, and whether it was revoked."""
    used, revoked = issue(keyed, name="used"), issue(keyed, name="revoked")
    keyed.post("/api-keys", {"tenant_id": "other"}, headers=ROOT)
    status(keyed, "GET", "/sequences", by(used))
    status(keyed, "DELETE", f"/api-keys/{revoked['id']}", ROOT)
    first, second = keyed.get("/api-keys?tenant_id=acme", headers=ROOT)
    assert set(first) == {
        "id", "tenant_id", "name", "capabilities", "created_at", "last_used_at", "expires_at",
        "revoked",
    }  # fmt: skip
    assert (first["name"], first["revoked"]) == ("used", False)
    assert first["last_used_at"] >= first["created_at"]
    assert (second["name"], second["revoked"], second["last_used_at"]) == ("revoked", True, None)


def test_use_is_noted_once_a_minute(keyed: Api) -> None:
    """A busy key does not cost a write for each request."""
    headers = by(issue(keyed))
    status(keyed, "GET", "/sequences", headers)
    first = keyed.get("/api-keys?tenant_id=acme", headers=ROOT)[0]["last_used_at"]
    status(keyed, "GET", "/sequences", headers)
    assert keyed.get("/api-keys?tenant_id=acme", headers=ROOT)[0]["last_used_at"] == first
    keyed.rows("UPDATE api_keys SET last_used_at = now() - interval '61 s' RETURNING 1")
    status(keyed, "GET", "/sequences", headers)
    assert keyed.get("/api-keys?tenant_id=acme", headers=ROOT)[0]["last_used_at"] > first


def test_unknown_key_cannot_be_revoked(keyed: Api) -> None:
    """404, also for one of another tenant than the header's."""
    issued = issue(keyed)
    assert status(keyed, "DELETE", "/api-keys/ak_none", ROOT) == 404
    assert status(keyed, "DELETE", f"/api-keys/{issued['id']}", ROOT | OTHER) == 404
    assert status(keyed, "DELETE", f"/api-keys/{issued['id']}", ROOT | ACME) == 204


def test_key_is_revoked_once(keyed: Api) -> None:
    """Asking again is answered 204 and changes nothing."""
    issued = issue(keyed)
    assert status(keyed, "DELETE", f"/api-keys/{issued['id']}", ROOT) == 204
    before = keyed.contents()
    assert status(keyed, "DELETE", f"/api-keys/{issued['id']}", ROOT) == 204
    assert keyed.contents() == before


def test_rotated_key_is_replaced_by_one_for_the_same(keyed: Api) -> None:
    """The old one ends at once unless an overlap is asked for."""
    old = issue(keyed, name="billing", capabilities=["worker"])
    new = keyed.post(f"/api-keys/{old['id']}/rotate", headers=ROOT)
    assert (new["name"], new["capabilities"], new["tenant_id"]) == ("billing", ["worker"], "acme")
    assert new["secret"] != old["secret"]
    assert status(keyed, "GET", "/workers", by(old)) == 401
    assert status(keyed, "GET", "/workers", by(new)) == 200


def test_rotated_key_may_overlap_with_the_new_one(keyed: Api) -> None:
    """Both open until the overlap is over; an earlier end of the old one stands."""
    old = issue(keyed, expires_at=FUTURE)
    new = keyed.post(f"/api-keys/{old['id']}/rotate", {"overlap_secs": 1}, headers=ROOT)
    assert status(keyed, "GET", "/workers", by(new)) == 200
    until(lambda: status(keyed, "GET", "/workers", by(old)) == 401)
    assert status(keyed, "GET", "/workers", by(new)) == 200
    assert new["expires_at"] == old["expires_at"]


def test_revoked_key_cannot_be_rotated(keyed: Api) -> None:
    """409; one that is unknown is 404."""
    issued = issue(keyed)
    status(keyed, "DELETE", f"/api-keys/{issued['id']}", ROOT)
    assert status(keyed, "POST", f"/api-keys/{issued['id']}/rotate", ROOT) == 409
    assert status(keyed, "POST", "/api-keys/ak_none/rotate", ROOT) == 404


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_keys_are_managed_with_the_root_key(keyed: Api, method: str) -> None:
    """The most powerful key of a tenant cannot make another one."""
    headers = by(issue(keyed, capabilities=["operator", "auditor"]))
    path = "/api-keys/ak_none" if method == "DELETE" else "/api-keys"
    answer = keyed.send(method, path, headers=headers)
    assert answer.status_code == 403
    said = "forbidden: API key management requires the root API key"
    assert answer.json["error"] == said


def test_every_change_of_a_key_is_audited(keyed: Api) -> None:
    """With who did it, why, and to which key."""
    ann = ROOT | {"X-Actor": "Ann"}
    body = {"tenant_id": "acme", "reason": "a new service"}
    first = keyed.post("/api-keys", body, headers=ann)["id"]
    path, why = f"/api-keys/{first}/rotate", {"reason": "yearly"}
    second = keyed.post(path, why, headers=ann)["id"]
    status(keyed, "DELETE", f"/api-keys/{second}?reason=leaked", ann)
    found = keyed.rows(
        "SELECT action, actor, reason, body ->> 'key' FROM audit_log WHERE tenant_id = 'acme'"
        " ORDER BY id"
    )
    assert found == [
        ("api_key.created", "Ann", "a new service", first),
        ("api_key.rotated", "Ann", "yearly", first),
        ("api_key.created", "Ann", "yearly", second),
        ("api_key.revoked", "Ann", "leaked", second),
    ]


def test_audit_log_names_the_key_where_nobody_is_named(keyed: Api) -> None:
    """What was done with a tenant's key can be told from what the root key did."""
    issued = issue(keyed)
    keyed.post("/sequences", CHARGE, headers=by(issued))
    ((actor,),) = keyed.rows("SELECT actor FROM audit_log WHERE action = 'sequence.published'")
    assert actor == issued["id"]
