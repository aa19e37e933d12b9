"""What the API answers to requests that cannot be carried out."""

from __future__ import annotations

import io
from typing import Any

import pytest

from orch8.errors import Unavailable
from tests.support.api import NOOP, Api

MEMBERS = {
    "error", "type", "title", "status", "detail", "instance", "code", "errors", "retryable",
    "request_id",
}  # fmt: skip
JSON = {"content_type": "application/json"}


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "not valid JSON"),
        (b"{", "line 1, column 2"),
        (b'{"a": 1,}', "not valid JSON"),
        (b"{'a': 1}", "not valid JSON"),
        (b"\xff\xfe", "not UTF-8 at byte 0"),
        (b'{"context": {"data": {"a": 1, "a": 2}}}', "twice here at /context/data"),
        (b'{"a": {"b": 1}, "a": 2}', "twice"),
        (b'{"context": {"data": NaN}}', "not finite at /context/data"),
        (b'{"context": [1, -Infinity]}', "not finite at /context/1"),
        (b'{"context": {"data": {"x/y": "a\\u0000b"}}}', "NUL character at /context/data/x~1y"),
        (b'{"context": {"a\\u0000": 1}}', "stored at /context"),
        (b'{"context": {"data": "\\ud800"}}', "surrogate pair at /context/data"),
        (b'{"context": 123456789012345678901234567890}', "64 bits at /context"),
        (b'{"context": 1e999}', "not finite"),
        (b"[" * 260 + b"]" * 260, "nested"),
        (b"[" * 90_000, "nested too deep"),
        (b'{"context": ' + b"9" * 5000 + b"}", "not valid JSON"),
    ],
)
def test_body_that_no_two_readers_agree_about_is_refused(api: Api, raw: bytes, said: str) -> None:
    """400, and the place of what is wrong."""
    api.post("/sequences", NOOP)
    for path in ("/sequences", "/sequences/noop_once/instances", "/instances"):
        answer = api.refused(400, "POST", path, data=raw, **JSON)
        assert answer["code"] == "malformed_body"
        assert said in answer["error"]


def test_body_at_the_edge_of_depth_is_shown_again(api: Api) -> None:
    """Whatever is accepted can be read back, inside lists, too."""
    deep: Any = 1
    for _ in range(235):
        deep = [deep]
    shown = api.started(context={"data": deep}, metadata=deep)
    assert shown["context"]["data"] == deep
    assert api.get("/instances")["items"][0]["metadata"] == deep
    deep = [[[[[[[[[[[[[[[deep]]]]]]]]]]]]]]]
    api.refused(400, "POST", "/sequences/noop_once/instances", {"context": {"data": deep}})


def test_definition_that_is_too_deep_or_too_large_is_refused(api: Api) -> None:
    """The limits of the language are problems with a place, not crashes."""
    block: Any = {"type": "step", "handler": "noop"}
    for _ in range(70):
        block = {"type": "parallel", "branches": [[block]]}
    answer = api.refused(400, "POST", "/sequences", {"id": "deep", "blocks": [block]})
    assert "deep" in answer["error"]
    many = [{"type": "step", "handler": "noop"}] * 5001
    answer = api.refused(400, "POST", "/sequences", {"id": "many", "blocks": many})
    assert "5000" in answer["error"]


@pytest.mark.parametrize(
    ("content_type", "status"),
    [("text/plain", 415), (None, 415), ("application/x-www-form-urlencoded", 415)],
)
def test_body_of_another_type_is_refused(api: Api, content_type: str | None, status: int) -> None:
    """A JSON body says that it is one."""
    answer = api.refused(status, "POST", "/sequences", data=b"{}", content_type=content_type)
    assert "application/json" in answer["error"]


def test_body_that_is_too_large_is_refused(api: Api) -> None:
    """413, by the announced length and by what really comes."""
    raw = b'{"id": "' + b"x" * 200_000 + b'"}'
    assert api.refused(413, "POST", "/sequences", data=raw, **JSON)["code"] == "payload_too_large"
    stream = {
        "input_stream": io.BytesIO(raw),
        "headers": {"Transfer-Encoding": "chunked"},
        "environ_overrides": {"wsgi.input_terminated": True, "CONTENT_LENGTH": ""},
    }
    api.refused(413, "POST", "/sequences", **stream, **JSON)


@pytest.mark.parametrize("body", [[], "x", 5, None, True])
@pytest.mark.parametrize("path", ["/sequences", "/sequences/noop_once/instances", "/instances"])
def test_body_that_is_no_object_is_refused(api: Api, path: str, body: Any) -> None:
    """A wrong shape is 422."""
    api.post("/sequences", NOOP)
    raw = api.app.json.dumps(body)
    assert api.refused(422, "POST", path, data=raw, **JSON)["errors"][0]["pointer"] == ""


def test_address_that_is_not_there_is_404(api: Api) -> None:
    """An unknown route says where the known ones are listed; a slash too many is one."""
    for path in ("/nope", "/api/v1/nope", "/sequences/", "/api/v1/health/live", "/static/x"):
        assert api.client.get(path).status_code == 404
    assert "/api-docs/openapi.json" in api.client.get("/nope").json["error"]


def test_method_that_is_not_possible_is_405(api: Api) -> None:
    """The answer says which ones are."""
    answer = api.client.delete("/sequences")
    assert answer.status_code == 405
    assert {"GET", "POST"} <= set(answer.headers["Allow"].split(", "))
    assert answer.json["code"] == "method_not_allowed"


@pytest.mark.parametrize("path", ["/sequences/a%00b", "/instances?state=%00", "/rate-limits/%00"])
def test_address_with_a_nul_is_refused(api: Api, path: str) -> None:
    """What the database cannot hold is told before it is asked."""
    assert "NUL" in api.refused(400, "GET", path)["error"]


def test_error_has_the_members_of_rfc_9457(api: Api) -> None:
    """Beside ``error`` stand type, title, status, detail, instance, and our own four."""
    answer = api.client.get("/instances/x", headers={"x-request-id": "r-1"})
    assert answer.mimetype == "application/json"
    assert set(answer.json) == MEMBERS
    assert answer.json["error"] == "invalid argument: " + answer.json["detail"]
    assert (answer.json["status"], answer.json["instance"]) == (400, "/instances/x")
    assert answer.json["request_id"] == answer.headers["x-request-id"] == "r-1"


@pytest.mark.parametrize(
    ("given", "echoed"),
    [("abc-DEF_9", "abc-DEF_9"), ("a b;c", "abc"), ("x" * 300, "x" * 128), ("é/;", ""), ("", "")],
)
def test_request_id_is_echoed_when_it_is_safe(api: Api, given: str, echoed: str) -> None:
    """Only letters, digits, - and _ come back, at most 128; else there is a new one."""
    got = api.client.get("/health/live", headers={"x-request-id": given}).headers["x-request-id"]
    assert got == echoed or (not echoed and len(got) == 36)


def test_error_that_nobody_expected_tells_nothing(api: Api, capsys: Any) -> None:
    """500 without details; the log has them under the request id."""

    def broken() -> None:
        message = "the password is swordfish"
        raise RuntimeError(message)

    api.app.view_functions["instances.list_some"] = broken
    answer = api.client.get("/instances", headers={"x-request-id": "r-2"})
    assert answer.status_code == 500
    assert answer.json["error"] == "internal server error"
    assert "swordfish" not in answer.text
    logged = capsys.readouterr()
    assert "swordfish" in logged.out + logged.err
    assert "r-2" in logged.out + logged.err


def test_database_that_is_away_is_503_with_retry_after(api: Api) -> None:
    """The caller is told to come again, and when."""

    def away() -> None:
        raise Unavailable("the database is away", retry_after=2.5)

    api.app.view_functions["instances.list_some"] = away
    answer = api.client.get("/instances")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "3")
    assert answer.json["retryable"]
    assert answer.json["error"] == "unavailable: the database is away"
