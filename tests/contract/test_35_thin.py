"""CONTRACT 35: what is declared is kept and shown, what there is none of is told apart."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.support.api import NOOP, Api, serving
from tests.support.servers import Database

ACME, OTHER = {"X-Tenant-Id": "acme"}, {"X-Tenant-Id": "other"}
PLUGIN = {"name": "tax", "plugin_type": "wasm", "source": "plugins/tax.wasm"}
POLICY = {"sequence_name": "dunning", "error_rate_threshold": 0.2, "time_window_secs": 60}


# -- plugins -------------------------------------------------------------------------------------
def test_plugin_is_declared_and_shown(api: Api) -> None:
    """Enabled, of the tenant default, without a description that nobody gave."""
    made = api.post("/plugins", PLUGIN)
    assert {**made, "created_at": 0, "updated_at": 0} == {
        **PLUGIN, "tenant_id": "default", "enabled": True, "config": {}, "created_at": 0,
        "updated_at": 0,
    }  # fmt: skip
    full = {**PLUGIN, "name": "fx", "plugin_type": "grpc", "config": {"a": [1]}, "description": "d"}
    made = api.post("/plugins", {**full, "tenant_id": "acme"})
    assert made.items() >= {**full, "tenant_id": "acme"}.items()
    assert api.get("/plugins/fx") == made


@pytest.mark.parametrize("name", ["name", "source"])
def test_plugin_needs_name_and_source(api: Api, name: str) -> None:
    """422 for one that is missing, 400 for one that is blank or too long."""
    api.refused(422, "POST", "/plugins", {n: v for n, v in PLUGIN.items() if n != name})
    longest = 255 if name == "name" else 2048
    for text in (" ", "x" * (longest + 1)):
        api.refused(400, "POST", "/plugins", {**PLUGIN, name: text})
    api.post("/plugins", {**PLUGIN, name: "x" * longest})


def test_plugin_of_an_unknown_type_is_422(api: Api) -> None:
    """And one that names none."""
    api.refused(422, "POST", "/plugins", {**PLUGIN, "plugin_type": "jar"})
    api.refused(422, "POST", "/plugins", {"name": "tax", "source": "x"})


def test_names_of_plugins_are_unique(api: Api) -> None:
    """409 for a second one of the tenant."""
    api.post("/plugins", PLUGIN)
    api.refused(409, "POST", "/plugins", PLUGIN)


def test_plugins_are_listed(api: Api) -> None:
    """A tenant's, by name; the header wins over the query."""
    for name, tenant in (("b", "acme"), ("a", "acme"), ("c", "other")):
        api.post("/plugins", {**PLUGIN, "name": name, "tenant_id": tenant})
    assert [each["name"] for each in api.get("/plugins")] == ["a", "b", "c"]
    assert [each["name"] for each in api.get("/plugins?tenant_id=other")] == ["c"]
    found = api.get("/plugins?tenant_id=other&limit=1", headers=ACME)
    assert [each["name"] for each in found] == ["a"]


def test_plugin_is_changed(api: Api) -> None:
    """200 with the whole of it; what is left out stays."""
    made = api.post("/plugins", {**PLUGIN, "description": "d"})
    body = {"enabled": False, "source": "new", "config": {"k": 1}}
    answer = api.send("PATCH", "/plugins/tax", body)
    assert answer.status_code == 200
    assert answer.json == {**made, **body, "updated_at": answer.json["updated_at"]}
    assert answer.json["updated_at"] > made["updated_at"]
    assert api.get("/plugins/tax") == answer.json
    api.refused(400, "PATCH", "/plugins/tax", {"source": " "})


def test_plugin_is_deleted(api: Api) -> None:
    """204, and then 404; each change is in the audit log."""
    api.post("/plugins", PLUGIN)
    api.send("PATCH", "/plugins/tax", {"enabled": False})
    assert api.send("DELETE", "/plugins/tax").status_code == 204
    api.refused(404, "DELETE", "/plugins/tax")
    actions = api.rows("SELECT action FROM audit_log WHERE action LIKE 'plugin.%%' ORDER BY id")
    assert [action for (action,) in actions] == [
        "plugin.created", "plugin.changed", "plugin.deleted",
    ]  # fmt: skip


@pytest.mark.parametrize("path", ["/plugins/tax", "/rollback-policies/dunning"])
def test_unknown_and_foreign_declarations_are_404(api: Api, path: str) -> None:
    """Whatever is done to them; without X-Tenant-Id they are found all the same."""
    api.refused(404, "GET", path)
    api.refused(404, "DELETE", path)
    api.post("/plugins", {**PLUGIN, "tenant_id": "acme"})
    api.post("/rollback-policies", {**POLICY, "tenant_id": "acme"})
    api.refused(404, "GET", path, headers=OTHER)
    api.refused(404, "DELETE", path, headers=OTHER)
    api.refused(404, "PATCH", "/plugins/tax", {"enabled": False}, headers=OTHER)
    assert api.get(path) == api.get(path, headers=ACME)


def test_name_that_several_tenants_use_needs_the_tenant(api: Api) -> None:
    """409 without X-Tenant-Id: nobody deletes another's by mistake."""
    for headers in (ACME, OTHER):
        api.post("/plugins", PLUGIN, headers=headers)
    told = api.refused(409, "DELETE", "/plugins/tax")
    assert "X-Tenant-Id" in told["error"]
    assert api.get("/plugins/tax", headers=OTHER)["tenant_id"] == "other"


@pytest.mark.parametrize(("path", "body"), [("/plugins", PLUGIN), ("/rollback-policies", POLICY)])
def test_nothing_is_declared_for_another_tenant(api: Api, path: str, body: Any) -> None:
    """403 where the header and the body differ; a blank tenant is the default one."""
    api.refused(403, "POST", path, {**body, "tenant_id": "acme"}, headers=OTHER)
    assert api.post(path, {**body, "tenant_id": " "})["tenant_id"] == "default"


# -- rollback policies ---------------------------------------------------------------------------
def test_rollback_policy_is_stated_and_shown(api: Api) -> None:
    """Of a sequence by its name; stating it again replaces it."""
    made = api.post("/rollback-policies", POLICY)
    assert made.items() >= {
        **POLICY, "tenant_id": "default", "cooldown_secs": 0, "confirmation_window_secs": 0
    }.items()  # fmt: skip
    assert "webhook_url" not in made
    full = {
        **POLICY, "cooldown_secs": 86_400, "confirmation_window_secs": 30,
        "error_rate_threshold": 1, "webhook_url": "https://example.com/rollbacks",
    }  # fmt: skip
    again = api.post("/rollback-policies", full)
    assert again.items() >= full.items()
    assert again["created_at"] == made["created_at"]
    assert api.get("/rollback-policies/dunning") == again
    assert api.get("/rollback-policies") == [again]
    assert api.send("DELETE", "/rollback-policies/dunning").status_code == 204
    assert api.get("/rollback-policies") == []


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("error_rate_threshold", -0.1), ("error_rate_threshold", 1.1), ("time_window_secs", 0),
        ("cooldown_secs", 86_401), ("cooldown_secs", -1), ("confirmation_window_secs", 86_401),
        ("sequence_name", " "),
    ],
)  # fmt: skip
def test_rollback_policy_has_bounds(api: Api, member: str, value: Any) -> None:
    """400 outside of them."""
    api.refused(400, "POST", "/rollback-policies", {**POLICY, member: value})


def test_rollback_policy_of_a_wrong_shape_is_422(api: Api) -> None:
    """A member that is missing or of another type."""
    for name in POLICY:
        api.refused(
            422, "POST", "/rollback-policies", {n: v for n, v in POLICY.items() if n != name}
        )
    api.refused(422, "POST", "/rollback-policies", {**POLICY, "error_rate_threshold": "0.2"})
    api.refused(422, "POST", "/rollback-policies", {**POLICY, "error_rate_threshold": True})


# -- releases ------------------------------------------------------------------------------------
def versions(api: Api, name: str = "noop_once", **more: Any) -> list[str]:
    """The ids of two versions of a sequence."""
    found = []
    for n in (1, 2):
        blocks = [{**NOOP["blocks"][0], "id": f"v{n}"}]  # type: ignore[index]
        found.append(api.post("/sequences", {"id": name, "blocks": blocks}, **more)["id"])
    return found


def release(ids: list[str], **members: Any) -> dict[str, Any]:
    """A request for a release between two versions."""
    return {"baseline_sequence_id": ids[0], "candidate_sequence_id": ids[1], **members}


def test_release_is_a_draft(api: Api) -> None:
    """It tells between which versions it leads, and is listed."""
    ids = versions(api)
    made = api.post("/releases", release(ids, gates={"errors": 0.01}, in_flight_policy="migrate"))
    expected = {
        "tenant_id": "default", "namespace": "default", "sequence_name": "noop_once",
        "baseline_sequence_id": ids[0], "baseline_version": 1, "candidate_sequence_id": ids[1],
        "candidate_version": 2, "state": "draft", "canary_percent": 0,
        "in_flight_policy": "migrate", "gates": {"errors": 0.01},
    }  # fmt: skip
    assert made.items() >= expected.items()
    assert set(made) == {*expected, "id", "created_at", "updated_at"}
    assert api.get("/releases") == [made]
    assert api.get(f"/releases/{made['id']}") == made
    assert api.get("/releases", headers=OTHER) == []


def test_release_routes_nobody(api: Api) -> None:
    """Instances start by the newest version, and say nothing of a release."""
    ids = versions(api)
    api.post("/releases", release(ids, canary_percent=100))
    started = api.post("/sequences/noop_once/instances", {})
    assert started["sequence_id"] == ids[1]
    assert not started["metadata"]


def test_release_needs_two_versions_of_one_sequence(api: Api) -> None:
    """404 for one that the tenant has not, 400 for others."""
    ids, others = versions(api), versions(api, "another")
    foreign = versions(api, headers=OTHER)
    api.refused(404, "POST", "/releases", release([ids[0], str(uuid4())]))
    api.refused(404, "POST", "/releases", release([foreign[0], ids[1]]))
    api.refused(400, "POST", "/releases", release([ids[0], others[1]]))
    api.refused(400, "POST", "/releases", release([ids[0], ids[0]]))
    api.refused(400, "POST", "/releases", release(ids, canary_percent=101))
    api.refused(422, "POST", "/releases", {"baseline_sequence_id": ids[0]})


def test_release_is_deleted(api: Api) -> None:
    """204, and then 404."""
    made = api.post("/releases", release(versions(api)))
    path = f"/releases/{made['id']}"
    api.refused(404, "DELETE", path, headers=OTHER)
    assert api.send("DELETE", path).status_code == 204
    api.refused(404, "GET", path)
    api.refused(400, "GET", "/releases/17")


def test_publisher_publishes_releases_and_plugins(postgres: Database) -> None:
    """A key with this capability alone; it states no rollback policies, and reads no usage."""
    with serving(postgres, api_key="root") as api:
        root = {"x-api-key": "root", "X-Tenant-Id": "acme"}
        body = {"tenant_id": "acme", "capabilities": ["publisher"]}
        key = {"x-api-key": api.post("/api-keys", body, headers=root)["secret"]}
        ids = versions(api, headers=key)
        made = api.post("/releases", release(ids), headers=key)
        assert api.get("/releases", headers=key) == [made]
        assert api.post("/plugins", PLUGIN, headers=key)["tenant_id"] == "acme"
        assert api.send("DELETE", "/plugins/tax", headers=key).status_code == 204
        for method, path in (("POST", "/rollback-policies"), ("GET", "/usage")):
            assert api.send(method, path, POLICY, headers=key).status_code == 403


# -- usage and artifacts -------------------------------------------------------------------------
def test_usage_tells_that_nothing_is_counted(api: Api) -> None:
    """Of the last 30 days, or of the time that is asked for."""
    told = api.get("/usage?tenant=acme&start=2026-01-01T00:00:00Z&end=2026-02-01T00:00:00Z")
    assert told["tenant_id"] == "acme"
    assert (told["start"], told["end"]) == ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z")
    assert {told[name] for name in ("input_tokens", "output_tokens", "cost_microunits")} == {0}
    assert told["items"] == []
    assert "no tokens" in told["note"]
    month = api.get("/usage?end=2026-01-31T00:00:00Z")
    assert (month["start"], month["tenant_id"]) == ("2026-01-01T00:00:00Z", None)
    assert api.get("/usage?tenant=acme", headers=OTHER)["tenant_id"] == "other"
    api.refused(400, "GET", "/usage?start=2026-02-01T00:00:00Z&end=2026-01-01T00:00:00Z")
    api.refused(400, "GET", "/usage?end=0001-01-01T00:00:00Z")


def test_instance_has_no_artifacts(api: Api) -> None:
    """An empty list; 404 for an instance that the caller has not."""
    started = api.started(NOOP)
    path = f"/instances/{started['id']}/artifacts"
    assert api.get(path) == {"items": []}
    api.refused(404, "GET", path, headers=OTHER)
    api.refused(404, "GET", f"/instances/{uuid4()}/artifacts")


@pytest.mark.parametrize("key", ["tax", "runs/1/tax.pdf"])
def test_there_is_no_artifact(api: Api, key: str) -> None:
    """404, and why."""
    assert "keeps no artifacts" in api.refused(404, "GET", f"/artifacts/{key}")["error"]


@pytest.mark.parametrize("path", ["/mobile/devices", "/llm/models", "/tools", "/telemetry"])
def test_what_is_out_of_scope_is_not_found(api: Api, path: str) -> None:
    """404 rather than an answer that pretends."""
    assert api.client.get(path).status_code == 404
    assert api.client.post(path, json={}).status_code == 404
