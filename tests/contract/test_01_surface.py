"""CONTRACT 1: where routes stand, and what every request and answer has in common."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from flask import Response

from api import create_app
from api.capacity import WEBHOOK_BODY
from orch8.config import Settings
from orch8.errors import ConfigurationError
from orch8.runtime.office import Office
from tests.support.api import NOOP, SETTINGS, Api, serving
from tests.support.house import until
from tests.support.servers import Database

ROOT = (
    "/health/live", "/health/ready", "/info", "/metrics", "/swagger-ui", "/api-docs/openapi.json"
)  # fmt: skip
PAGE = {"Origin": "https://pay.example.com"}
PREFLIGHT = PAGE | {"Access-Control-Request-Method": "POST"}
SAID = ("Deprecation", "Sunset", "Link")
LISTING = "instances.list_some"
# How a server hands over a body that does not say how long it is.
CHUNKED: dict[str, Any] = {
    "headers": {"Transfer-Encoding": "chunked"},
    "environ_overrides": {"wsgi.input_terminated": True, "CONTENT_LENGTH": ""},
}


# -- 1.1 mounting --------------------------------------------------------------------------------
def test_business_routes_stand_bare_and_under_v1(api: Api) -> None:
    """Both addresses are the same route."""
    created = api.post("/api/v1/sequences", NOOP)
    assert api.get(f"/sequences/{created['id']}") == api.get(f"/api/v1/sequences/{created['id']}")


def test_bare_answer_names_its_successor(api: Api) -> None:
    """Deprecation, Sunset and Link are on bare business answers, refusals among them."""
    answer = api.client.get("/sequences?limit=1&x=%3E%20y")
    assert answer.headers["Deprecation"] == "@1767225600"
    assert answer.headers["Sunset"] == "Sat, 01 Jan 2028 00:00:00 GMT"
    successor = '</api/v1/sequences?limit=1&x=%3E%20y>; rel="successor-version"'
    assert answer.headers["Link"] == successor
    assert api.client.get("/instances/x").headers["Link"].startswith("</api/v1/instances/x>")


@pytest.mark.parametrize("path", ["/api/v1/sequences", "/nope", *ROOT])
def test_other_answers_name_none(api: Api, path: str) -> None:
    """What has no newer address says nothing of one."""
    assert set(SAID).isdisjoint(api.client.get(path).headers.keys())


@pytest.mark.parametrize("path", ROOT)
def test_routes_of_the_process_stand_at_the_root_only(api: Api, path: str) -> None:
    """Health, info, metrics and the documents are not under /api/v1."""
    assert api.client.get(path).status_code == 200
    assert api.client.get(f"/api/v1{path}").status_code == 404


@pytest.mark.parametrize("path", ["/webhooks/a_slug", "/api/v1/webhooks/a_slug"])
def test_event_from_outside_needs_no_key_and_no_tenant(postgres: Database, path: str) -> None:
    """Whoever posts to a slug is asked for neither; other methods are."""
    with serving(postgres, api_key="a root key") as api:
        assert api.client.post(path, json={}).status_code not in {400, 401, 403}
        assert api.client.get(path).status_code == 401


def test_path_with_a_slash_too_many_is_another_path(api: Api) -> None:
    """There is no tolerance for trailing slashes."""
    assert api.client.get("/sequences").status_code == 200
    assert api.client.get("/sequences/").status_code == 404
    assert api.client.get("/api/v1/sequences/").status_code == 404


def test_unknown_route_is_404_and_wrong_method_405(api: Api) -> None:
    """The two are told apart."""
    assert api.client.get("/no/such/route").status_code == 404
    assert api.client.put("/sequences", json={}).status_code == 405


# -- 1.2 facts of every request ------------------------------------------------------------------
@pytest.mark.parametrize(
    ("given", "echoed"),
    [("abc-DEF_9", "abc-DEF_9"), ("a b;c.d", "abcd"), ("x" * 300, "x" * 128)],
)
def test_request_id_is_echoed_sanitised(api: Api, given: str, echoed: str) -> None:
    """Letters, digits, - and _ come back, 128 of them at most."""
    answer = api.client.get("/sequences", headers={"x-request-id": given})
    assert answer.headers["x-request-id"] == echoed


@pytest.mark.parametrize("headers", [{}, {"x-request-id": ""}, {"x-request-id": ";;"}])
def test_request_without_an_id_gets_one(api: Api, headers: dict[str, str]) -> None:
    """A fresh UUIDv4 each time."""
    found = {api.client.get("/info", headers=headers).headers["x-request-id"] for _ in range(2)}
    assert [UUID(each).version for each in found] == [4, 4]


def test_body_may_have_ten_mebibytes() -> None:
    """That is the limit unless the operator sets another."""
    assert Settings().max_body == 10 * 1024 * 1024


def test_larger_body_is_413(api: Api) -> None:
    """It is refused by its stated length, and by its real one when it states none."""
    large = b'{"id": "' + b"x" * SETTINGS.max_body + b'"}'
    for sent in ({"data": large}, {"input_stream": io.BytesIO(large), **CHUNKED}):
        answer = api.refused(413, "POST", "/sequences", content_type="application/json", **sent)
        assert answer["error"].startswith("payload too large: ")


def test_event_from_outside_may_have_one_mebibyte(postgres: Database) -> None:
    """However large other bodies may be."""
    with serving(postgres, max_body=10 * WEBHOOK_BODY) as api:
        assert WEBHOOK_BODY == 1024 * 1024
        for path in ("/webhooks/a_slug", "/api/v1/webhooks/a_slug"):
            answer = api.client.post(path, data=b"x" * (WEBHOOK_BODY + 1))
            assert answer.status_code == 413
            assert answer.json["error"].startswith("payload too large: ")


def test_1024_requests_may_be_in_flight() -> None:
    """Unless the operator sets another number, under either name."""
    assert Settings().max_requests == 1024
    for name in ("ORCH8_MAX_CONCURRENT_REQUESTS", "ORCH8_RATE_LIMIT_RPS"):
        assert Settings.from_env({name: "7"}).max_requests == 7


def test_request_beyond_those_in_flight_is_503(postgres: Database) -> None:
    """It is told when to come again; health is told all the same, and the place becomes free."""
    began, go = threading.Event(), threading.Event()

    def slow() -> Response:
        began.set()
        assert go.wait(10)
        return Response("{}")

    with serving(postgres, max_requests=1) as api:
        api.app.view_functions[LISTING] = slow
        first = threading.Thread(target=api.app.test_client().get, args=("/instances",))
        first.start()
        assert began.wait(10)
        answer = api.client.get("/sequences")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert answer.json["error"].startswith("unavailable: ")
        assert api.client.get("/health/live").status_code == 200
        go.set()
        first.join(10)
        until(lambda: api.client.get("/sequences").status_code == 200)


def test_stream_is_in_flight_until_it_ends(postgres: Database) -> None:
    """It keeps its place after its view has returned, and frees it once."""

    def stream() -> Response:
        def lines() -> Iterator[str]:
            yield "one"
            yield "two"

        return Response(lines())

    with serving(postgres, max_requests=1) as api:
        api.app.view_functions[LISTING] = stream
        answer = api.client.get("/instances")
        assert api.client.get("/sequences").status_code == 503
        answer.close()
        assert api.client.get("/sequences").status_code == 200
        assert api.client.get("/sequences").status_code == 200


def test_failed_request_frees_its_place(postgres: Database) -> None:
    """Whatever the answer is, the next request finds room."""
    with serving(postgres, max_requests=1, api_key="a root key") as api:
        assert [api.client.get("/sequences").status_code for _ in range(3)] == [401] * 3


def test_page_of_a_stated_origin_may_use_the_api(postgres: Database) -> None:
    """Its preflight needs no key; answers name the origin, refusals too."""
    origins = "https://pay.example.com, http://localhost:3000"
    with serving(postgres, api_key="a root key", cors_origins=origins) as api:
        asked = {"Access-Control-Request-Headers": "X-Trigger-Secret, X-Evil"}
        answer = api.client.options("/sequences", headers=PREFLIGHT | asked)
        assert answer.status_code == 204
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE["Origin"]
        allowed = answer.headers["Access-Control-Allow-Headers"].split(", ")
        wanted = {
            "content-type", "authorization", "x-api-key", "x-tenant-id", "x-trigger-secret",
            "x-orch8-signature",
        }  # fmt: skip
        assert wanted <= set(allowed)
        assert "x-evil" not in allowed
        answer = api.client.get("/sequences", headers=PAGE)
        assert answer.status_code == 401
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE["Origin"]
        assert "Origin" in answer.headers["Vary"]


@pytest.mark.parametrize("origins", ["", "https://other.example.com"])
def test_page_of_another_origin_may_not(postgres: Database, origins: str) -> None:
    """Its browser is told nothing that would let it."""
    with serving(postgres, cors_origins=origins) as api:
        for method, headers in (("OPTIONS", PREFLIGHT), ("GET", PAGE)):
            answer = api.client.open("/sequences", method=method, headers=headers)
            assert "Access-Control-Allow-Origin" not in answer.headers


def test_any_origin_is_allowed_only_without_a_key(api: Api) -> None:
    """``*`` beside an API key keeps the process from starting."""
    create_app(Settings(insecure=True, cors_origins="*"), api.office, print)
    with pytest.raises(ConfigurationError, match="ORCH8_CORS_ORIGINS"):
        create_app(Settings(api_key="k", cors_origins="*"), api.office, print)


@pytest.mark.parametrize("origin", ["pay.example.com", "https://a.example/path", "https://*.x"])
def test_what_is_no_origin_keeps_the_process_from_starting(api: Api, origin: str) -> None:
    """A page would be shut out silently otherwise."""
    with pytest.raises(ConfigurationError, match="no origin"):
        create_app(Settings(insecure=True, cors_origins=origin), api.office, print)


def test_timestamps_are_utc_and_ids_sort_by_time(api: Api) -> None:
    """RFC 3339 with a Z; ids that the server makes are UUIDv7."""
    shown = api.started()
    assert shown["created_at"].endswith("Z")
    assert UUID(shown["sequence"]["id"]).version == 7
    assert str(UUID(shown["id"])) == shown["id"]


# -- 1.3 public endpoints ------------------------------------------------------------------------
def _away(**settings: Any) -> Settings:
    return Settings(database_url="postgresql://nobody@127.0.0.1:1/none", key_secret="s", **settings)


def test_live_asks_nobody_and_needs_nothing() -> None:
    """200 and an empty body without a database, a key or a tenant."""
    settings = _away(api_key="a root key")
    office = Office(settings)
    answer = create_app(settings, office, print).test_client().get("/health/live")
    office.close()
    assert (answer.status_code, answer.data) == (200, b"")


def test_ready_needs_the_database(api: Api) -> None:
    """200 when it answers, else 503."""
    assert api.get("/health/ready") == {"status": "ok"}
    settings = _away(insecure=True)
    office = Office(settings)
    answer = create_app(settings, office, print).test_client().get("/health/ready")
    office.close()
    assert answer.status_code == 503


def test_info_tells_versions_and_label(postgres: Database) -> None:
    """The label and the colour are null unless the operator set them."""
    with serving(postgres) as api:
        info = api.get("/info")
    assert set(info) == {
        "version", "storage_schema_version", "contract_schema_version", "env_label", "env_color"
    }  # fmt: skip
    assert (info["env_label"], info["env_color"]) == (None, None)
    with serving(postgres, env_label="live", env_color="red") as api:
        info = api.get("/info")
    assert (info["env_label"], info["env_color"]) == ("live", "red")


def test_metrics_are_prometheus_text(api: Api) -> None:
    """With HELP and TYPE lines, and names that begin with orch8_."""
    answer = api.client.get("/metrics")
    assert answer.content_type.startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    assert any(line.startswith("# HELP orch8_") for line in lines)
    assert any(line.startswith("# TYPE orch8_") for line in lines)
