"""Who may ask, and about which tenant."""

from __future__ import annotations

from dataclasses import replace

import pytest

from api import create_app
from orch8.config import Settings
from orch8.errors import ConfigurationError
from tests.support.api import NOOP, Api, serving
from tests.support.servers import Database

KEY = {"x-api-key": "a root key"}
TENANT = {"X-Tenant-Id": "acme"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (Settings(), "ORCH8_API_KEY"),
        (Settings(api_key="k", require_tenant_header=False), "ORCH8_ALLOW_NO_TENANT_ISOLATION"),
    ],
)
def test_api_refuses_to_stand_open_by_accident(api: Api, settings: Settings, said: str) -> None:
    """Without a key, or with one key for every tenant, somebody must have said so."""
    with pytest.raises(ConfigurationError, match=said):
        create_app(settings, api.office, api.announced.append)
    create_app(replace(settings, insecure=True, allow_no_tenant_isolation=True), api.office, print)


def test_key_opens_everything_and_its_absence_nothing(postgres: Database) -> None:
    """401 says ``unauthorized`` and no more; health and info are for everybody."""
    with serving(postgres, api_key="a root key") as api:
        for path in ("/sequences", "/instances/x", "/metrics", "/api-docs/openapi.json", "/nope"):
            for headers in ({}, {"x-api-key": "A root key"}, {"x-api-key": ""}, TENANT):
                answer = api.client.get(path, headers=headers)
                assert (answer.status_code, answer.json["error"]) == (401, "unauthorized")
        for path in ("/health/live", "/health/ready", "/info", "/swagger-ui"):
            assert api.client.get(path).status_code == 200
        for path in ("/metrics", "/api-docs/openapi.json"):
            assert api.client.get(path, headers=KEY).status_code == 200
        api.post("/sequences", NOOP, headers=KEY | TENANT)
        assert api.get("/sequences", headers=KEY | TENANT)["items"][0]["tenant_id"] == "acme"


def test_key_needs_a_tenant_unless_told_otherwise(postgres: Database) -> None:
    """400 names the header; without isolation the key sees every tenant."""
    with serving(postgres, api_key="a root key") as api:
        answer = api.client.get("/sequences", headers=KEY)
        assert answer.status_code == 400
        assert "X-Tenant-Id" in answer.json["error"]
        assert api.client.get("/sequences", headers=KEY | {"X-Tenant-Id": " "}).status_code == 400
        long = {"X-Tenant-Id": "x" * 129}
        assert api.client.get("/sequences", headers=KEY | long).status_code == 400
    options = {"require_tenant_header": False, "allow_no_tenant_isolation": True}
    with serving(postgres, api_key="a root key", **options) as api:
        api.post("/sequences", NOOP, headers=KEY | TENANT)
        assert len(api.get("/sequences", headers=KEY)["items"]) == 1


def test_insecure_api_uses_the_default_tenant(api: Api) -> None:
    """The seed's curl works as it stands."""
    assert api.started()["tenant_id"] == "default"


def test_tenants_do_not_see_each_others_keys(api: Api) -> None:
    """The same name and the same key are two instances for two tenants."""
    ids = set()
    for tenant in ("acme", "other"):
        headers = {"X-Tenant-Id": tenant}
        api.post("/sequences", NOOP, headers=headers)
        ids.add(
            api.post("/sequences/noop_once/instances", {"idempotency_key": "k"}, headers=headers)[
                "id"
            ]
        )
        assert len(api.get("/instances", headers=headers)["items"]) == 1
    assert len(ids) == 2
