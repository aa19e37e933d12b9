"""CONTRACT 18: the built-in handlers: what they take, put out, and fail with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
import structlog.testing

from tests.support.api import NOOP
from tests.support.desk import Desk, seated
from tests.support.house import House
from tests.support.stub import Stub

RETRY = {"max_attempts": 3, "initial_backoff": 1, "max_backoff": 1}
ABSENT = (
    "llm_call", "mcp_call", "agent", "embed", "memory_store", "memory_search", "memory_delete",
    "blob_put", "blob_get",
)  # fmt: skip


def step(handler: str, params: Any = None, **members: Any) -> dict[str, Any]:
    """A step called ``it``."""
    given = {} if params is None else {"params": params}
    return {"type": "step", "id": "it", "handler": handler, **given, **members}


def of(*blocks: Any, name: str | None = None) -> dict[str, Any]:
    """A definition of these blocks, under a name of its own."""
    return {"id": name or f"s_{uuid4().hex}", "blocks": list(blocks)}


def ran(desk: Desk, *blocks: Any, **members: Any) -> tuple[str, Any]:
    """The state of an instance of these blocks, and what ``it`` put out, or its error."""
    found = desk.run(of(*blocks), **members)
    rows = desk.api.get(f"/instances/{found['id']}/outputs")
    last = next((row for row in reversed(rows) if row["block_id"] == "it"), None)
    return found["state"], desk.house.steps(found["id"])["it"].error or (last or {}).get("output")


def failed(desk: Desk, *blocks: Any, **members: Any) -> Any:
    """The error that an instance of these blocks failed with, after one attempt."""
    state, error = ran(desk, *blocks, **members)
    assert state == "failed", (state, error)
    return error


@pytest.fixture
def outside(houses: Callable[..., House], stub: Stub) -> Any:
    """A desk whose steps may call the stub."""
    house = houses(allow_internal_urls=True, breaker_threshold=0)
    with seated(house) as found:
        yield found


def url(stub: Stub, path: str = "/tool") -> str:
    """The address of something that the stub says."""
    return f"{stub.url}/api/v1{path}"


# -- names ---------------------------------------------------------------------------------------
def test_names_of_the_contract_are_built_in(desk: Desk) -> None:
    """Every one of those that orch8 has."""
    own = {
        "noop", "log", "sleep", "fail", "http_request", "tool_call", "emit_event", "send_signal",
        "query_instance", "set_state", "get_state", "delete_state", "transform", "assert",
        "merge_state",
    }  # fmt: skip
    assert own <= set(desk.api.get("/handlers")["builtin"])


def test_handler_that_orch8_does_not_have_fails_at_once(houses: Any) -> None:
    """Publishing says so, and so does preflight; no pull worker is waited for."""
    with seated(houses(handler_url="")) as desk:
        for name in ABSENT:
            told = desk.api.post("/sequences", of(step(name)))
            assert f"{name!r} is not part of orch8" in told["warnings"][0]
            error = failed(desk, step(name))
            assert error["code"] == "not_part_of_orch8"
            assert name in error["message"]
        report = desk.api.post("/sequences/preflight", of(step("llm_call")), status=200)
        checks = {check["id"]: check for check in report["checks"]}
        assert checks["handlers_have_workers"]["status"] == "warning"


def test_handler_that_orch8_does_not_have_can_be_ones_own(houses: Any, stub: Stub) -> None:
    """A registered address answers to its name."""
    house = houses(handler_url="", allow_internal_urls=True)
    stub.says("/embed", {"vector": [1]})
    with seated(house) as desk:
        desk.api.send("PUT", "/handlers/embed", {"url": f"{stub.url}/api/v1"})
        assert ran(desk, step("embed")) == ("completed", {"vector": [1]})


def test_any_other_name_is_external(houses: Any) -> None:
    """Its step waits for a worker that polls for it."""
    with seated(houses(handler_url="")) as desk:
        found = desk.run(of(step("wait_for_it")))
        assert found["state"] == "waiting"
        body = {"handler_name": "wait_for_it", "worker_id": "w"}
        (task,) = desk.api.post("/workers/tasks/poll", body, status=200)
        assert task["instance_id"] == found["id"]


# -- computed in place ---------------------------------------------------------------------------
def test_noop_puts_out_an_empty_object(desk: Desk) -> None:
    """Whatever it is given."""
    assert ran(desk, step("noop", {"x": 1})) == ("completed", {})


def test_log_puts_out_its_message_as_it_was_given(desk: Desk) -> None:
    """Any JSON."""
    for message in ("paid", 7, None, {"a": [1]}, True):
        assert ran(desk, step("log", {"message": message})) == ("completed", {"message": message})


def test_log_without_a_message_says_so(desk: Desk) -> None:
    """In two words; each level is taken."""
    with structlog.testing.capture_logs() as logs:
        assert ran(desk, step("log")) == ("completed", {"message": "no message"})
        for level in ("info", "warn", "debug"):
            ran(desk, step("log", {"message": level, "level": level}))
    told = {each["message"]: each["log_level"] for each in logs if each["event"] == "step_log"}
    assert told == {"no message": "info", "info": "info", "warn": "warning", "debug": "debug"}


def test_sleep_puts_out_how_long_it_slept(desk: Desk) -> None:
    """A hundred milliseconds, if nothing is said."""
    assert ran(desk, step("sleep", {"duration_ms": 5})) == ("completed", {"slept_ms": 5})
    assert ran(desk, step("sleep")) == ("completed", {"slept_ms": 100})


def test_fail_fails_as_it_is_asked_to(desk: Desk) -> None:
    """For good, or so that it is tried again."""
    assert failed(desk, step("fail"))["message"] == "forced failure"
    assert failed(desk, step("fail", {"message": "no"}))["message"] == "no"
    for retryable, failures in ((False, 0), (True, 2)):
        found = desk.run(of(step("fail", {"retryable": retryable}, retry=RETRY)))
        row = desk.house.step(found["id"], "it")
        assert (found["state"], row.failures) == ("failed", failures)


def test_transform_puts_out_its_rendered_params(desk: Desk) -> None:
    """Those themselves."""
    params = {"total": "{{context.data.n}}", "plain": [1, None]}
    state, output = ran(desk, step("transform", params), context={"data": {"n": 3}})
    assert (state, output) == ("completed", {"total": 3, "plain": [1, None]})


def test_assert_puts_out_that_it_passed(desk: Desk) -> None:
    """And fails for good, saying what was asserted."""
    holds = {"condition": "context.data.n == 3", "message": "three"}
    context = {"data": {"n": 3}}
    passed = {"condition": "context.data.n == 3", "passed": True}
    assert ran(desk, step("assert", holds), context=context) == ("completed", passed)
    error = failed(desk, step("assert", holds))
    assert error["message"] == "assert: three (condition: context.data.n == 3)"


# -- kept state ----------------------------------------------------------------------------------
def then(handler: str, params: Any = None) -> dict[str, Any]:
    """A step before the one that is looked at."""
    return {"type": "step", "handler": handler, "params": params or {}}


def test_state_is_kept_read_and_forgotten(desk: Desk) -> None:
    """Each says which key it was about."""
    value = {"paid": [1]}
    kept = then("set_state", {"key": "k", "value": value})
    assert ran(desk, step("set_state", {"key": "k", "value": value})) == (
        "completed", {"key": "k", "value": value},
    )  # fmt: skip
    assert ran(desk, kept, step("get_state", {"key": "k"}))[1] == {"key": "k", "value": value}
    assert ran(desk, step("get_state", {"key": "k"}))[1] == {"key": "k", "value": None}
    assert ran(desk, kept, step("delete_state", {"key": "k"}))[1] == {"key": "k", "deleted": True}
    gone = then("delete_state", {"key": "k"})
    assert ran(desk, kept, gone, step("get_state", {"key": "k"}))[1]["value"] is None


def test_state_without_a_key_fails(desk: Desk) -> None:
    """For good."""
    for handler in ("set_state", "get_state", "delete_state"):
        assert "key" in failed(desk, step(handler, {"value": 1}))["message"]


def test_merge_state_keeps_each_of_its_values(desk: Desk) -> None:
    """Beside what was kept before, over what has the same key."""
    before = then("set_state", {"key": "a", "value": 0})
    merged = then("merge_state", {"values": {"a": 1, "b": {"c": None}}})
    it = step("transform", {"a": "{{state.a}}", "b": "{{state.b}}"})
    assert ran(desk, before, merged, it)[1] == {"a": 1, "b": {"c": None}}
    values = {"values": {"x": 1, "y": 2}}
    assert ran(desk, step("merge_state", values)) == ("completed", {"merged_keys": ["x", "y"]})
    assert ran(desk, step("merge_state"))[1] == {"merged_keys": []}


def test_merge_state_takes_an_object_of_usable_keys(desk: Desk) -> None:
    """And keeps nothing otherwise."""
    for values in (3, [1], "x", {"": 1}, {"@decline": 1}):
        assert failed(desk, step("merge_state", {"values": values}))["message"]
    assert desk.house.sql("SELECT 1 FROM instance_state") == []


# -- http_request --------------------------------------------------------------------------------
def test_http_request_puts_out_status_and_body_as_text(outside: Desk, stub: Stub) -> None:
    """GET if nothing is said, without a body."""
    stub.says("/tool", {"a": 1})
    state, output = ran(outside, step("http_request", {"url": url(stub)}))
    assert (state, output) == ("completed", {"status": 200, "body": '{"a": 1}'})
    assert stub.asked == [("GET", "/api/v1/tool", None)]


def test_http_request_has_these_methods(outside: Desk, stub: Stub) -> None:
    """And no other."""
    stub.says("/tool", b"done")
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]
    for method in methods:
        state, output = ran(outside, step("http_request", {"url": url(stub), "method": method}))
        assert (state, output["status"]) == ("completed", 200)
    assert [asked[0] for asked in stub.asked] == methods


def test_http_request_sends_its_body_as_json(outside: Desk, stub: Stub) -> None:
    """With its headers, a text as it stands."""
    stub.says("/tool", b"", 201)
    params = {
        "url": url(stub), "method": "POST", "body": '{"amount": 3}', "headers": {"X-Own": "a"},
    }  # fmt: skip
    state, output = ran(outside, step("http_request", params))
    assert (state, output) == ("completed", {"status": 201, "body": ""})
    assert stub.asked == [("POST", "/api/v1/tool", {"amount": 3})]
    assert (stub.headers["content-type"], stub.headers["x-own"]) == ("application/json", "a")


def test_http_request_that_is_refused_fails_for_good(outside: Desk, stub: Stub) -> None:
    """With status and body in its details, whatever retry says."""
    for status in (400, 401, 404, 422):
        for method in ("GET", "POST"):
            stub.says("/tool", {"no": 1}, status)
            stub.asked.clear()
            params = {"url": url(stub), "method": method}
            error = failed(outside, step("http_request", params, retry=RETRY))
            assert error["details"] == {"status": status, "body": '{"no": 1}'}
            assert len(stub.asked) == 1


def test_http_request_that_says_conflict_is_no_refusal(outside: Desk, stub: Stub) -> None:
    """Safer than the contract: an earlier dispatch of the same key may be running still."""
    stub.says("/tool", {"busy": 1}, 409)
    found = outside.run(of(step("http_request", {"url": url(stub), "method": "POST"})))
    assert outside.house.step(found["id"], "it").outcome == "unknown"
    failed(outside, step("http_request", {"url": url(stub)}, retry=RETRY))
    assert [method for method, _, _ in stub.asked].count("GET") == 3


def test_http_request_is_tried_again_after_a_5xx(outside: Desk, stub: Stub) -> None:
    """As retry says; without it a read fails at once."""
    stub.says("/tool", {"busy": 1}, 503)
    assert failed(outside, step("http_request", {"url": url(stub)}))["details"]["status"] == 503
    assert len(stub.asked) == 1
    failed(outside, step("http_request", {"url": url(stub)}, retry=RETRY))
    assert len(stub.asked) == 4


def test_http_request_that_cannot_connect_is_tried_again(outside: Desk) -> None:
    """Nothing was sent, whatever the method."""
    for method in ("GET", "POST"):
        params = {"url": "http://127.0.0.1:9/", "method": method, "timeout_ms": 2000}
        found = outside.run(of(step("http_request", params, retry=RETRY)))
        row = outside.house.step(found["id"], "it")
        assert (found["state"], row.dispatches) == ("failed", 3)


def test_http_request_with_an_effect_is_in_doubt_after_a_5xx(outside: Desk, stub: Stub) -> None:
    """Safer than the contract: it may have happened, so the same key is sent again, and it does not
    fail.
    """
    stub.says("/tool", {}, 500)
    found = outside.run(of(step("http_request", {"url": url(stub), "method": "POST"})))
    row = outside.house.step(found["id"], "it")
    assert (row.state, row.outcome) == ("scheduled", "unknown")
    key = stub.headers["idempotency-key"]
    stub.says("/tool", {}, 200)
    outside.house.sql("UPDATE steps SET due_at = now() WHERE block_id = 'it'")
    outside.house.work()
    assert outside.read(found)["state"] == "completed"
    assert stub.headers["idempotency-key"] == key


def test_http_request_that_cannot_be_made_fails_for_good(desk: Desk) -> None:
    """Nothing is sent, and nothing is tried again."""
    for params, said in (
        ({}, "url"),
        ({"url": "ftp://example.com"}, "http"),
        ({"url": "not an address"}, "url"),
        ({"url": "https://example.com", "method": "BREW"}, "method"),
        ({"url": "https://example.com", "headers": {"Host": "other"}}, "Host"),
        ({"url": "https://example.com", "headers": {"X-A\r\nX-B": "1"}}, "header"),
        ({"url": "https://example.com", "headers": {"X-A": "1\r\nX-B: 2"}}, "control"),
        ({"url": "https://user:secret@example.com"}, "credentials"),
    ):
        found = desk.run(of(step("http_request", params, retry=RETRY)))
        row = desk.house.step(found["id"], "it")
        assert (found["state"], row.dispatches) == ("failed", 1)
        assert said in row.error["message"]


def test_http_request_reads_answers_up_to_a_bound(houses: Any, stub: Stub) -> None:
    """A larger one fails a read for good."""
    with seated(houses(allow_internal_urls=True, max_output=1000)) as desk:
        stub.says("/tool", b"x" * 1001)
        assert failed(desk, step("http_request", {"url": url(stub)}))["code"] == "too_large"


HOSTS = (
        "127.0.0.1", "localhost", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254",
        "0.0.0.0", "192.0.2.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "255.255.255.255",
        "[::1]", "[::]", "[fc00::1]", "[fd12::1]", "[fe80::1]", "[ff02::1]", "[2001:db8::1]",
        "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "2130706433", "0x7f000001", "0177.0.0.1",
)  # fmt: skip


@pytest.mark.parametrize("handler", ["http_request", "tool_call"])
def test_internal_addresses_are_not_called(desk: Desk, handler: str) -> None:
    """Loopback, private, link-local, unspecified, documentation, multicast, unique local, and what
    stands for one of them in IPv6 or another spelling: the step fails for good.
    """
    for host in HOSTS:
        found = desk.run(of(step(handler, {"url": f"http://{host}:9/", "timeout_ms": 2000})))
        row = desk.house.step(found["id"], "it")
        assert (found["state"], row.dispatches, row.error["code"]) == ("failed", 1, "ssrf_blocked")


def test_blocked_request_is_in_the_dlq(desk: Desk) -> None:
    """As every failure is."""
    found = desk.run(of(step("http_request", {"url": "http://127.0.0.1:9/", "timeout_ms": 2000})))
    dlq = desk.api.get("/instances/dlq?tenant_id=default")
    assert [each["id"] for each in dlq] == [found["id"]]


# -- tool_call -----------------------------------------------------------------------------------
def test_tool_call_puts_out_what_the_tool_answered(outside: Desk, stub: Stub) -> None:
    """As JSON; the tool is told its arguments and where it is called from."""
    stub.says("/tool", {"sum": 3}, 201)
    params = {"url": url(stub), "tool_name": "adder", "arguments": {"a": [1, 2]}}
    found = outside.run(of(step("tool_call", params)))
    (row,) = outside.api.get(f"/instances/{found['id']}/outputs")
    assert row["output"] == {"tool_name": "adder", "result": {"sum": 3}, "status": 201}
    context = {"instance_id": found["id"], "block_id": "it", "attempt": 0}
    told = {"tool_name": "adder", "arguments": {"a": [1, 2]}, "context": context}
    assert stub.asked == [("POST", "/api/v1/tool", told)]
    assert stub.headers["content-type"] == "application/json"
    assert stub.headers["idempotency-key"]


def test_tool_call_has_defaults(outside: Desk, stub: Stub) -> None:
    """An unknown tool without arguments; headers are the author's."""
    stub.says("/tool", b"[1]")
    params = {"url": url(stub), "headers": {"Authorization": "Bearer t"}}
    assert ran(outside, step("tool_call", params))[1] == {
        "tool_name": "unknown", "result": [1], "status": 200,
    }  # fmt: skip
    assert stub.asked[0][2].items() >= {"tool_name": "unknown", "arguments": {}}.items()
    assert stub.headers["authorization"] == "Bearer t"


def test_tool_call_that_is_refused_fails_for_good(outside: Desk, stub: Stub) -> None:
    """A 4xx says that nothing happened and nothing would."""
    stub.says("/tool", {"no": 1}, 422)
    error = failed(outside, step("tool_call", {"url": url(stub)}, retry=RETRY))
    assert error["details"] == {"status": 422, "body": '{"no": 1}'}
    assert len(stub.asked) == 1


def test_tool_call_is_sent_again_after_a_5xx(outside: Desk, stub: Stub) -> None:
    """Under the same key and with the same bytes, since it may have happened."""
    stub.says("/tool", {}, 502)
    found = outside.run(of(step("tool_call", {"url": url(stub)})))
    key = stub.headers["idempotency-key"]
    assert outside.house.step(found["id"], "it").outcome == "unknown"
    stub.says("/tool", {"ok": True})
    outside.house.sql("UPDATE steps SET due_at = now() WHERE block_id = 'it'")
    outside.house.work()
    assert outside.read(found)["state"] == "completed"
    assert stub.headers["idempotency-key"] == key
    assert len(stub.asked) > 1
    assert all(asked == stub.asked[0] for asked in stub.asked)


def test_tool_call_without_an_effect_fails_as_retry_says(outside: Desk, stub: Stub) -> None:
    """Where the step says that the tool only reads, an unanswered call is a failed one."""
    stub.says("/tool", {}, 503)
    failed(outside, step("tool_call", {"url": url(stub)}, effect="read", retry=RETRY))
    assert len(stub.asked) == 3


def test_tool_call_that_is_not_answered_in_json(outside: Desk, stub: Stub) -> None:
    """A tool that reads fails for good; one that may have an effect is in doubt, like every success
    that nobody can read.
    """
    stub.says("/tool", b"<html>")
    reads = step("tool_call", {"url": url(stub)}, effect="read", retry=RETRY)
    assert failed(outside, reads)["code"] == "not_json"
    assert len(stub.asked) == 1
    found = outside.run(of(step("tool_call", {"url": url(stub)})))
    assert outside.house.step(found["id"], "it").outcome == "unknown"


def test_tool_call_that_cannot_be_made_fails_for_good(desk: Desk) -> None:
    """Artifacts are not part of orch8."""
    for params, said in (
        ({}, "url"),
        ({"url": "ftp://x"}, "http"),
        ({"url": "https://example.com", "method": "BREW"}, "method"),
        ({"url": "https://example.com", "headers": {"Host": "other"}}, "Host"),
        ({"url": "https://example.com", "body_artifact": "a"}, "body_artifact"),
        ({"url": "https://example.com", "response_as": "artifact"}, "response_as"),
    ):
        assert said in failed(desk, step("tool_call", params))["message"]


# -- query_instance ------------------------------------------------------------------------------
def test_query_instance_tells_of_another_instance(desk: Desk) -> None:
    """Its state, its context, when it began and where it is."""
    waits = {"type": "wait_signal", "id": "wait_for_it", "signal": "paid"}
    other = desk.run(of(waits, name="other"), context={"data": {"n": 1}})
    state, output = ran(desk, step("query_instance", {"instance_id": other["id"]}))
    assert state == "completed"
    assert output.items() >= {
        "found": True, "state": "waiting", "completed_at": None, "current_node": "wait_for_it",
    }.items()  # fmt: skip
    assert output["context"]["data"] == {"n": 1}
    assert output["started_at"][:23] == other["created_at"][:23]


def test_query_instance_tells_when_it_ended(desk: Desk) -> None:
    """It is at no node then."""
    other = desk.run(NOOP)
    output = ran(desk, step("query_instance", {"instance_id": other["id"]}))[1]
    assert (output["state"], output["current_node"]) == ("completed", None)
    assert output["completed_at"][:23] == other["updated_at"][:23]


def test_query_instance_finds_what_was_just_started(desk: Desk) -> None:
    """Also by a step of the same transaction."""
    desk.api.post("/sequences", NOOP)
    start = {
        "type": "step", "id": "start", "handler": "start_sequence",
        "params": {"sequence": "noop_once", "input": {"n": 2}},
    }  # fmt: skip
    it = step("query_instance", {"instance_id": "{{outputs.start.instance_id}}"})
    output = ran(desk, start, it)[1]
    assert (output["found"], output["state"]) == (True, "scheduled")
    assert output["context"]["data"] == {"n": 2}


def test_query_instance_finds_only_its_tenants(desk: Desk) -> None:
    """An unknown one, and another tenant's, are told apart by nothing."""
    desk.api.post("/sequences", NOOP, headers={"X-Tenant-Id": "acme"})
    theirs = desk.api.post("/sequences/noop_once/instances", {}, headers={"X-Tenant-Id": "acme"})[
        "id"
    ]
    for wanted in (theirs, "01890000-0000-7000-8000-000000000000"):
        output = ran(desk, step("query_instance", {"instance_id": wanted}))[1]
        assert output == {"found": False}


def test_query_instance_needs_an_id(desk: Desk) -> None:
    """A malformed one fails the step for good."""
    for wanted in ("nope", None, 7, ""):
        error = failed(desk, step("query_instance", {"instance_id": wanted}))
        assert "instance_id" in error["message"]


# -- send_signal ---------------------------------------------------------------------------------
def sends(to: str, kind: Any, payload: Any = None) -> dict[str, Any]:
    """A step that sends a signal."""
    params = {"instance_id": to, "signal_type": kind}
    return step("send_signal", params if payload is None else {**params, "payload": payload})


WAITS = of({"type": "wait_signal", "id": "paid", "signal": "paid"}, name="waits")


def test_send_signal_reaches_another_instance(desk: Desk) -> None:
    """Its wait has the payload; the step puts out the signal's id."""
    other = desk.run(WAITS)
    state, output = ran(desk, sends(other["id"], {"custom": "paid"}, {"n": 1}))
    desk.house.work()
    (sent,) = desk.api.get(f"/instances/{other['id']}/signals")
    assert (state, output) == ("completed", {"signal_id": sent["id"]})
    assert sent["actor"].startswith("instance:")
    assert desk.read(other)["state"] == "completed"
    (row,) = desk.api.get(f"/instances/{other['id']}/outputs")
    assert row["output"]["payload"] == {"n": 1}


def test_send_signal_sends_controls(desk: Desk) -> None:
    """Which do what they do when a person sends them."""
    for kind, payload, state in (
        ("pause", None, "paused"),
        ("cancel", None, "cancelled"),
        ("resume", None, "waiting"),
        ("update_context", {"data": {"n": 2}}, "waiting"),
    ):
        other = desk.run(WAITS)
        assert ran(desk, sends(other["id"], kind, payload))[0] == "completed"
        shown = desk.read(other)
        assert shown["state"] == state
        if payload is not None:
            assert shown["context"]["data"] == {"n": 2}


def test_send_signal_can_be_to_oneself(desk: Desk) -> None:
    """A step after it may wait for it; one that pauses itself goes on when it is resumed."""
    waits = {"type": "wait_signal", "id": "paid", "signal": "paid"}
    assert ran(desk, sends("{{instance_id}}", {"custom": "paid"}), waits)[0] == "completed"
    found = desk.run(of(sends("{{instance_id}}", "pause"), {"type": "step", "handler": "noop"}))
    assert found["state"] == "paused"
    desk.api.post(f"/instances/{found['id']}/signals", {"signal_type": "resume"})
    desk.house.work()
    assert desk.read(found)["state"] == "completed"


def test_send_signal_reaches_what_was_just_started(desk: Desk) -> None:
    """Also by a step of the same transaction."""
    desk.api.post("/sequences", WAITS)
    start = {
        "type": "step", "id": "start", "handler": "start_sequence", "params": {"sequence": "waits"},
    }  # fmt: skip
    state, _ = ran(desk, start, sends("{{outputs.start.instance_id}}", {"custom": "paid"}))
    desk.house.work()
    assert state == "completed"
    states = {each["state"] for each in desk.api.get("/instances")["items"]}
    assert states == {"completed"}


def test_send_signal_needs_an_id_and_a_kind(desk: Desk) -> None:
    """The kind is spelled as on the wire; a malformed one fails the step for good."""
    for wanted in ("nope", None, 7):
        assert "instance_id" in failed(desk, sends(wanted, "pause"))["message"]
    other = desk.run(WAITS)
    for kind in (None, "stop", "custom:paid", {"custom": ""}, 7):
        assert "signal_type" in failed(desk, sends(other["id"], kind))["message"]


def test_send_signal_to_nobody_fails(desk: Desk) -> None:
    """So does one to another tenant's instance, in the same words."""
    headers = {"X-Tenant-Id": "acme"}
    desk.api.post("/sequences", WAITS, headers=headers)
    theirs = desk.api.post("/sequences/waits/instances", {}, headers=headers)["id"]
    for to in (theirs, "01890000-0000-7000-8000-000000000000"):
        assert failed(desk, sends(to, "cancel"))["message"] == "target instance not found"
    assert desk.api.get(f"/instances/{theirs}/signals") == []


def test_send_signal_to_an_instance_that_ended_fails(desk: Desk) -> None:
    """For good."""
    other = desk.run(NOOP)
    said = failed(desk, sends(other["id"], {"custom": "paid"}))["message"]
    assert "target is in a terminal state" in said


# -- emit_event: see test_24_emit_event.py -------------------------------------------------------
