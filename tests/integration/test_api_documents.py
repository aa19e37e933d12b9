"""The OpenAPI document, the page to try the API, health, info and metrics."""

from __future__ import annotations

import base64
import hashlib
import re

from orch8.config import Settings
from orch8.runtime.office import Office
from orch8.storage.revision import needed
from tests.support.api import NOOP, WAITING, Api, serving, superuser
from tests.support.servers import Database


def test_openapi_describes_every_route(api: Api) -> None:
    """Each rule of the app with each of its methods is in the document, and nothing else is."""
    document = api.get("/api-docs/openapi.json")
    assert document["openapi"] == "3.1.0"
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in api.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    told = {(path, method) for path, item in document["paths"].items() for method in item}
    assert told == routes
    assert ("/api/v1/instances/{instance_id}/signals", "post") in told


def test_openapi_operations_are_told_apart_and_explained(api: Api) -> None:
    """Every operation has a name of its own, a summary, a description, and names its parameters."""
    document = api.get("/api-docs/openapi.json")
    found = [each for item in document["paths"].values() for each in item.values()]
    names = [each["operationId"] for each in found]
    assert len(set(names)) == len(names)
    for path, item in document["paths"].items():
        for each in item.values():
            assert each["summary"]
            assert each["description"]
            named = {p["name"] for p in each["parameters"] if p["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path))


def test_openapi_refers_only_to_what_it_has(api: Api) -> None:
    """Every reference can be followed."""
    text = api.client.get("/api-docs/openapi.json").text
    document = api.get("/api-docs/openapi.json")
    for kind, name in set(re.findall(r'"#/components/(\w+)/(\w+)"', text)):
        assert name in document["components"][kind]


def test_every_route_is_there_bare_and_under_v1(api: Api) -> None:
    """Except those about the process, which stand at the root only."""
    paths = set(api.get("/api-docs/openapi.json")["paths"])
    bare = {path for path in paths if not path.startswith("/api/v1")}
    root = {
        "/health/live",
        "/health/ready",
        "/info",
        "/metrics",
        "/swagger-ui",
        "/api-docs/openapi.json",
    }
    assert {path.removeprefix("/api/v1") for path in paths - bare} == bare - root


def test_page_runs_nothing_but_its_own_script(api: Api) -> None:
    """The policy names its script and style by their digests; nothing comes from elsewhere."""
    answer = api.client.get("/swagger-ui")
    policy = answer.headers["Content-Security-Policy"]
    for tag in ("script", "style"):
        (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not re.findall(r"https?://|style=|onclick=", answer.text)


def test_process_is_live_without_anything_else() -> None:
    """Liveness asks nobody; readiness of a process without a database is 503 with the reason."""
    from api import create_app  # noqa: PLC0415 - next to the one use of its own

    settings = Settings(
        insecure=True, database_url="postgresql://nobody@127.0.0.1:1/none", key_secret="s"
    )
    office = Office(settings)
    client = create_app(settings, office, print).test_client()
    assert client.get("/health/live").status_code == 200
    answer = client.get("/health/ready")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "the database is away" in answer.json["error"]
    metrics = client.get("/metrics")
    assert "orch8_database_up 0.0" in metrics.text
    office.close()


def test_process_is_ready_when_the_schema_is_the_newest(postgres: Database) -> None:
    """A database at another migration is told, with what to do."""
    with serving(postgres) as api:
        assert api.get("/health/ready") == {"status": "ok"}
        with superuser(postgres) as cursor:
            cursor.execute("UPDATE alembic_version SET version_num = '0000' RETURNING version_num")
        try:
            answer = api.send("GET", "/health/ready")
        finally:
            with superuser(postgres) as cursor:
                cursor.execute("UPDATE alembic_version SET version_num = %s", (needed(),))
        assert (answer.status_code, answer.json["reasons"]) == (503, ["migrations"])
        assert "orch8 migrate" in answer.json["error"]


def test_info_tells_versions_and_label(postgres: Database) -> None:
    """What an operator called the installation comes with its versions."""
    with serving(postgres, env_label="staging", env_color="teal") as api:
        info = api.get("/info")
    assert (info["env_label"], info["env_color"]) == ("staging", "teal")
    assert info["storage_schema_version"] >= "0001"


def test_metrics_count_requests_and_show_the_backlog(api: Api) -> None:
    """Counters of the process and gauges of the installation, in Prometheus' text format."""
    for _ in range(3):
        api.started(NOOP)
    api.post("/sequences/noop_once/instances", {"idempotency_key": "k"})
    api.post("/sequences/noop_once/instances", {"idempotency_key": "k"}, status=200)
    api.started(WAITING)
    answer = api.client.get("/metrics")
    assert answer.content_type.startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    assert "# TYPE orch8_http_requests_total counter" in lines
    labels = 'method="POST",route="/sequences/<sequence>/instances",status="201"'
    assert f"orch8_http_requests_total{{{labels}}} 5.0" in lines
    assert 'orch8_instances_created_total{deduplicated="true"} 1.0' in lines
    assert 'orch8_due_steps{lane="renewal"} 5.0' in lines
    assert "orch8_live_workers 0.0" in lines
    assert any(line.startswith('orch8_oldest_due_seconds{lane="renewal"} ') for line in lines)
    api.client.get("/instances/42")
    assert "42" not in re.findall(r'route="([^"]*)"', api.client.get("/metrics").text)


def test_metrics_show_who_waits_for_a_rate_limit(api: Api) -> None:
    """One gauge per tenant and key."""
    api.started(NOOP)
    api.rows("UPDATE steps SET limit_key = 'stripe:charges', queued_at = now() RETURNING 1")
    text = api.client.get("/metrics").text
    assert 'orch8_rate_limit_waiting{key="stripe:charges",tenant="default"} 1.0' in text
