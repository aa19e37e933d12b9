"""CONTRACT 14.5: pools of resources are kept, and used by nobody."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.support.api import Api

OTHER = {"X-Tenant-Id": "other"}


def opened(api: Api, **members: Any) -> Any:
    """A new pool."""
    return api.post("/pools", {"tenant_id": "acme", "name": "senders"} | members)


def added(api: Api, pool: Any, **members: Any) -> Any:
    """A new resource of a pool."""
    body = {"resource_key": "sender-1", "name": "Sender one"} | members
    return api.post(f"/pools/{pool['id']}/resources", body)


def test_pool_is_opened_and_read(api: Api) -> None:
    """With the strategy round_robin, if none is named."""
    made = opened(api)
    members = {
        "id", "tenant_id", "name", "strategy", "round_robin_index", "created_at", "updated_at",
    }  # fmt: skip
    assert set(made) == members
    found = made["tenant_id"], made["name"], made["strategy"], made["round_robin_index"]
    assert found == ("acme", "senders", "round_robin", 0)
    assert api.get(f"/pools/{made['id']}") == made


@pytest.mark.parametrize("strategy", ["round_robin", "weighted", "random"])
def test_strategy_is_one_of_three(api: Api, strategy: str) -> None:
    """An unknown one is 422."""
    assert opened(api, strategy=strategy)["strategy"] == strategy
    body = {"tenant_id": "acme", "name": "x", "strategy": "best"}
    api.refused(422, "POST", "/pools", body)
    api.refused(422, "POST", "/pools", {"tenant_id": "acme"})


def test_blank_tenant_is_default(api: Api) -> None:
    """A pool is never without a tenant."""
    assert opened(api, tenant_id=" ")["tenant_id"] == "default"
    assert opened(api, tenant_id=None)["tenant_id"] == "default"


def test_unknown_members_are_ignored(api: Api) -> None:
    """Such as max_size."""
    assert "max_size" not in opened(api, max_size=7)


def test_pools_are_a_tenants(api: Api) -> None:
    """Without a tenant the list is empty."""
    made = opened(api)
    opened(api, tenant_id="other")
    assert api.get("/pools?tenant_id=acme") == [made]
    assert api.get("/pools", headers={"X-Tenant-Id": "acme"}) == [made]
    assert api.get("/pools") == []


def test_resource_is_added_with_its_defaults(api: Api) -> None:
    """Weight 1, no caps, no warm-up, enabled."""
    pool = opened(api)
    made = added(api, pool)
    assert {k: v for k, v in made.items() if k not in {"id", "created_at"}} == {
        "pool_id": pool["id"], "resource_key": "sender-1", "name": "Sender one", "weight": 1,
        "enabled": True, "daily_cap": 0, "daily_usage": 0, "daily_usage_date": None,
        "warmup_start": None, "warmup_days": 0, "warmup_start_cap": 0,
    }  # fmt: skip
    assert api.get(f"/pools/{pool['id']}/resources") == [made]


def test_resource_takes_every_member(api: Api) -> None:
    """As they were sent."""
    given = {
        "weight": 3, "daily_cap": 100, "warmup_start": "2026-01-01", "warmup_days": 14,
        "warmup_start_cap": 10,
    }  # fmt: skip
    made = added(api, opened(api), **given)
    assert {name: made[name] for name in given} == given


@pytest.mark.parametrize("member", ["resource_key", "name"])
@pytest.mark.parametrize("text", ["", "x" * 256])
def test_key_and_name_have_1_to_255_characters(api: Api, member: str, text: str) -> None:
    """400 otherwise."""
    pool = opened(api)
    body = {"resource_key": "k", "name": "n"} | {member: text}
    api.refused(400, "POST", f"/pools/{pool['id']}/resources", body)
    added(api, pool, **{member: "x" * 255})


def test_weight_is_at_least_one(api: Api) -> None:
    """0 is 400, when it is added and when it is changed."""
    pool = opened(api)
    path = f"/pools/{pool['id']}/resources"
    api.refused(400, "POST", path, {"resource_key": "k", "name": "n", "weight": 0})
    made = added(api, pool)
    api.refused(400, "PUT", f"{path}/{made['id']}", {"weight": 0})


def test_key_may_be_there_twice(api: Api) -> None:
    """Nobody looks for them by key."""
    pool = opened(api)
    assert added(api, pool)["id"] != added(api, pool)["id"]


def test_resource_is_changed_in_part(api: Api) -> None:
    """What is not named stays; 404 for one that is not there, or in another pool."""
    pool, second = opened(api), opened(api)
    made = added(api, pool, weight=3)
    path = f"/pools/{pool['id']}/resources/{made['id']}"
    answer = api.send("PUT", path, {"enabled": False, "daily_cap": 9})
    assert answer.status_code == 200
    assert answer.json == made | {"enabled": False, "daily_cap": 9}
    assert api.send("PUT", path, {}).json == answer.json
    api.refused(404, "PUT", f"/pools/{pool['id']}/resources/{uuid4()}", {"weight": 2})
    api.refused(404, "PUT", f"/pools/{second['id']}/resources/{made['id']}", {"weight": 2})


def test_resource_is_deleted(api: Api) -> None:
    """204, also for one that is not there."""
    pool = opened(api)
    made = added(api, pool)
    for which in (made["id"], made["id"], str(uuid4())):
        assert api.send("DELETE", f"/pools/{pool['id']}/resources/{which}").status_code == 204
    assert api.get(f"/pools/{pool['id']}/resources") == []


def test_pool_is_deleted_with_its_resources(api: Api) -> None:
    """204; 404 the second time."""
    pool = opened(api)
    added(api, pool)
    assert api.send("DELETE", f"/pools/{pool['id']}").status_code == 204
    api.refused(404, "DELETE", f"/pools/{pool['id']}")
    assert api.rows("SELECT count(*) FROM pool_resources") == [(0,)]


def test_unknown_and_foreign_pools_are_404(api: Api) -> None:
    """On every route."""
    made = opened(api)["id"]
    for pool, headers in ((str(uuid4()), {}), (made, OTHER)):
        path, resource = f"/pools/{pool}", f"/pools/{pool}/resources/{uuid4()}"
        body = {"resource_key": "k", "name": "n"}
        api.refused(404, "GET", path, headers=headers)
        api.refused(404, "DELETE", path, headers=headers)
        api.refused(404, "GET", f"{path}/resources", headers=headers)
        api.refused(404, "POST", f"{path}/resources", body, headers=headers)
        api.refused(404, "PUT", resource, {"weight": 2}, headers=headers)
        api.refused(404, "DELETE", resource, headers=headers)
    api.refused(400, "GET", "/pools/17")
    api.refused(403, "POST", "/pools", {"tenant_id": "acme", "name": "x"}, headers=OTHER)


def test_changes_of_pools_are_in_the_audit_log(api: Api) -> None:
    """With who made them."""
    pool = api.post("/pools", {"name": "p"}, headers={"X-Actor": "ana"})
    added(api, pool)
    api.send("DELETE", f"/pools/{pool['id']}")
    rows = api.rows("SELECT action, actor FROM audit_log ORDER BY id")
    assert [action for action, _ in rows] == ["pool.created", "pool.resource_added", "pool.deleted"]
    assert rows[0][1] == "ana"
