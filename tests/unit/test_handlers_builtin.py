"""The built-in handlers: their parameters, answers and calls."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
import structlog.testing

from orch8.engine.outcome import Answer, Verdict
from orch8.handlers import tool_call
from orch8.handlers.builtin import CallSite
from orch8.handlers.classify import Response, classifier
from orch8.handlers.http import Call
from orch8.handlers.http_request import check, effect, run
from orch8.handlers.log import MAX_LOGGED
from orch8.handlers.registry import HANDLERS, MISSING

SITE = CallSite(idempotency_key="key-1", connect_timeout=3.0, max_response=99, not_after=5.0)


def pure(name: str, params: dict[str, Any]) -> Answer:
    builtin = HANDLERS[name]
    assert builtin.kind == "pure"
    return builtin.run(params)


def call_of(params: dict[str, Any]) -> Call:
    call = run(params, SITE)
    assert isinstance(call, Call)
    return call


def test_noop_answers_an_empty_object() -> None:
    """The noop handler succeeds with {} whatever it is given."""
    assert pure("noop", {"x": 1}) == Answer(Verdict.SUCCEEDED, output={})


def test_transform_answers_its_parameters() -> None:
    """The transform handler's output is its rendered parameters."""
    assert pure("transform", {"a": [1, {"b": None}]}).output == {"a": [1, {"b": None}]}


@pytest.mark.parametrize("message", ["hello", 7, None, {"a": 1}, ["x"], True])
def test_log_answers_the_message_as_given(message: object) -> None:
    """Any JSON can be logged and comes back unchanged."""
    with structlog.testing.capture_logs() as logs:
        assert pure("log", {"message": message, "level": "warn"}).output == {"message": message}
    assert [entry["log_level"] for entry in logs] == ["warning"]


def test_log_without_message_says_no_message_and_bounds_long_ones() -> None:
    """The default message is part of the contract; a huge one is cut in the log only."""
    with structlog.testing.capture_logs() as logs:
        assert pure("log", {}).output == {"message": "no message"}
        assert pure("log", {"message": "x" * 100_000}).output == {"message": "x" * 100_000}
    assert len(logs[1]["message"]) == MAX_LOGGED + 1


def test_fail_fails_as_asked() -> None:
    """The fail handler fails for good by default and retryably on request."""
    answer = pure("fail", {})
    assert answer.verdict is Verdict.FAILED
    assert answer.error == {"message": "forced failure"}
    answer = pure("fail", {"message": "no", "retryable": True, "code": 42})
    assert answer.verdict is Verdict.FAILED_SAFE
    assert answer.error == {"message": "no", "code": "42"}


def test_assert_passes_only_on_a_true_result() -> None:
    """An assertion whose result is not true fails with its message and condition."""
    held = pure("assert", {"condition": "1 < 2", "condition_result": True})
    assert held.output == {"condition": "1 < 2", "passed": True}
    broken = pure("assert", {"condition": "x", "condition_result": False, "message": "m"})
    assert broken.verdict is Verdict.FAILED
    assert broken.error is not None
    assert broken.error["message"] == "assert: m (condition: x)"
    assert pure("assert", {"condition": "x"}).verdict is Verdict.FAILED


def test_table_names_the_kind_of_every_builtin() -> None:
    """Pure, calling and durable handlers are told apart by kind."""
    kinds = {name: builtin.kind for name, builtin in HANDLERS.items()}
    assert {n for n, k in kinds.items() if k == "pure"} == {
        "noop", "log", "fail", "assert", "transform",
    }  # fmt: skip
    assert {n for n, k in kinds.items() if k == "call"} == {"http_request", "tool_call"}
    assert {n for n, k in kinds.items() if k == "durable"} == {
        "wait", "sleep", "wait_signal", "sub_sequence", "start_sequence", "guard",
        "set_state", "get_state", "delete_state", "merge_state", "emit_event", "send_signal",
        "query_instance", "self_modify", "wait_for_event", "human_review",
    }  # fmt: skip


def test_builtin_that_orch8_does_not_have_fails_and_says_so() -> None:
    """Whatever it is given, for good; it is told how to have one of one's own."""
    for name, builtin in MISSING.items():
        assert builtin.check({"x": 1}) == []
        answer = builtin.run({})
        assert answer.verdict is Verdict.FAILED
        assert answer.error is not None
        assert (answer.error["code"], name in answer.error["message"]) == (
            "not_part_of_orch8",
            True,
        )
    assert not MISSING.keys() & HANDLERS.keys()


@pytest.mark.parametrize(
    ("name", "params", "pointer"),
    [
        ("http_request", {}, "/url"),
        ("http_request", {"url": "ftp://x"}, "/url"),
        ("http_request", {"url": 3}, "/url"),
        ("http_request", {"url": "http://x", "method": "BREW"}, "/method"),
        ("http_request", {"url": "http://x", "method": 3}, "/method"),
        ("http_request", {"url": "http://x", "headers": "a"}, "/headers"),
        ("http_request", {"url": "http://x", "timeout_ms": "1"}, "/timeout_ms"),
        ("http_request", {"url": "http://x", "timeout_ms": True}, "/timeout_ms"),
        ("http_request", {"url": "http://x", "timeout_ms": 0}, "/timeout_ms"),
        ("assert", {}, "/condition"),
        ("fail", {"retryable": 3}, "/retryable"),
        ("log", {"level": "loud"}, "/level"),
        ("log", {"level": ["info"]}, "/level"),
        ("sleep", {"duration_ms": -1}, "/duration_ms"),
        ("sleep", {"duration_ms": "long"}, "/duration_ms"),
        ("wait", {"duration": [3]}, "/duration"),
        ("wait_signal", {"signal": 3}, "/signal"),
        ("start_sequence", {}, "/sequence"),
        ("sub_sequence", {"sequence_name": "s", "input": []}, "/input"),
        ("set_state", {"value": 1}, "/key"),
        ("get_state", {"key": ""}, "/key"),
        ("delete_state", {"key": 4}, "/key"),
        ("merge_state", {"values": [1]}, "/values"),
        ("emit_event", {}, "/trigger_slug"),
        ("emit_event", {"trigger_slug": "s", "meta": 3}, "/meta"),
        ("emit_event", {"trigger_slug": "s", "dedupe_key": [1]}, "/dedupe_key"),
        ("emit_event", {"trigger_slug": "s", "dedupe_scope": "world"}, "/dedupe_scope"),
        ("send_signal", {"instance_id": "i"}, "/signal_type"),
        ("send_signal", {"signal_type": "pause"}, "/instance_id"),
        ("send_signal", {"instance_id": "i", "signal_type": 3}, "/signal_type"),
        ("query_instance", {}, "/instance_id"),
        ("tool_call", {}, "/url"),
        ("tool_call", {"url": "https://x", "tool_name": 3}, "/tool_name"),
        ("tool_call", {"url": "https://x", "body_artifact": "a"}, "/body_artifact"),
        ("tool_call", {"url": "https://x", "response_as": "artifact"}, "/response_as"),
    ],
)
def test_wrong_parameter_is_a_problem_with_its_place(
    name: str, params: dict[str, Any], pointer: str
) -> None:
    """A wrong parameter is reported at its JSON Pointer with a message."""
    problems = HANDLERS[name].check(params)
    assert [problem.pointer for problem in problems] == [pointer]
    assert problems[0].message


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("http_request", {"url": "{{x}}", "method": "{{m}}", "timeout_ms": "{{t}}"}),
        ("http_request", {"url": "https://{{host}}/a b"}),
        ("http_request", {"url": "https://x/", "method": "post", "headers": {"a": "b"}}),
        ("log", {"level": "{{l}}"}),
        ("sleep", {"duration_ms": "{{n}}"}),
        ("wait", {"duration": "3d"}),
        ("wait_signal", {"signal": "kyc", "timeout": {"days": 3}}),
        ("start_sequence", {"sequence": "s", "input": {"a": 1}}),
        ("set_state", {"key": "k", "value": None}),
        ("merge_state", {"values": "{{v}}"}),
        ("emit_event", {"trigger_slug": "{{s}}", "dedupe_key": 7, "dedupe_scope": "{{d}}"}),
        ("send_signal", {"instance_id": "{{i}}", "signal_type": {"custom": "{{n}}"}}),
        ("query_instance", {"instance_id": "{{i}}"}),
        ("tool_call", {"url": "{{u}}", "response_as": "{{r}}"}),
    ],
)
def test_parameters_that_only_render_later_are_not_judged(
    name: str, params: dict[str, Any]
) -> None:
    """A template is checked when it is rendered, not when it is published."""
    assert HANDLERS[name].check(params) == []


def test_http_request_has_the_defaults_of_the_contract() -> None:
    """Without more than a URL it is a GET of 10 seconds without body or key."""
    call = call_of({"url": "https://example.com/"})
    assert (call.method, call.timeout, call.body, call.headers) == ("GET", 10.0, b"", ())
    assert (call.connect_timeout, call.max_response, call.guard) == (3.0, 99, True)
    assert call.not_after == 5.0


def test_http_request_with_an_effect_carries_the_attempts_key() -> None:
    """A POST is sent as JSON with the attempt's key unless the author set one."""
    call = call_of({"url": "https://x/", "method": "post", "body": '{"a":1}'})
    assert call.body == b'{"a":1}'
    assert dict(call.headers) == {"Content-Type": "application/json", "Idempotency-Key": "key-1"}
    own = {"idempotency-key": "mine", "content-type": "text/plain"}
    call = call_of({"url": "https://x/", "method": "POST", "body": {"a": 1}, "headers": own})
    assert (dict(call.headers), call.body) == (own, b'{"a":1}')


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"url": "ftp://x"},
        {"url": "https://x", "method": "BREW"},
        {"url": "https://x", "headers": {"Host": "y"}},
        {"url": "https://x", "headers": {"A": {"b": 1}}},
        {"url": "https://x", "headers": {"A": "b\nc"}},
        {"url": "https://x", "headers": {f"h{n}": "x" for n in range(101)}},
        {"url": "https://x", "body": {"n": 2**70}},
        {"url": "https://x", "body": "\ud800"},
    ],
)
def test_http_request_that_cannot_be_made_is_refused(params: dict[str, Any]) -> None:
    """Wrong rendered parameters fail the step without a send."""
    answer = run(params, SITE)
    assert isinstance(answer, Answer)
    assert answer.verdict is Verdict.REFUSED
    assert answer.evidence["sent"] is False
    assert answer.error is not None
    assert answer.error["message"]


@pytest.mark.parametrize(
    ("method", "status", "verdict"),
    [
        ("GET", 200, "succeeded"),
        ("GET", 404, "refused"),
        ("GET", 409, "failed_safe"),
        ("GET", 429, "failed_safe"),
        ("GET", 500, "failed_safe"),
        ("HEAD", 503, "failed_safe"),
        ("POST", 204, "succeeded"),
        ("POST", 302, "refused"),
        ("POST", 402, "refused"),
        ("POST", 409, "unknown"),
        ("POST", 422, "refused"),
        ("POST", 429, "failed_safe"),
        ("POST", 500, "unknown"),
        ("DELETE", 502, "unknown"),
    ],
)
def test_http_request_classifies_by_status_and_effect(
    method: str, status: int, verdict: str
) -> None:
    """A 5xx is safe to repeat for a read, and of unknown outcome for everything else."""
    call = call_of({"url": "https://x/", "method": method})
    answer = call.classify(Response(status, b"text \xff"))
    assert answer.verdict == verdict
    shown = {"status": status, "body": "text \ufffd"}
    if verdict == "succeeded":
        assert answer.output == shown
    else:
        assert answer.error is not None
        assert answer.error["details"] == shown


def test_http_request_effect_is_read_only_for_get_and_head() -> None:
    """Everything that is not GET or HEAD may have an effect."""
    assert effect({"url": "x"}) == "read"
    assert effect({"method": "head"}) == "read"
    assert effect({"method": "DELETE"}) == "external"


def test_http_request_check_accepts_what_run_accepts() -> None:
    """A complete set of parameters has no problem."""
    params = {"url": "https://x/", "method": "PUT", "timeout_ms": 5, "headers": {"a": "b"}}
    assert check(params) == []


# -- tool_call -----------------------------------------------------------------------------------
def tool(response: Response, site: CallSite = SITE, **params: Any) -> Answer:
    """What an answer of a tool comes to."""
    call = tool_call.run({"url": "https://x/", **params}, site)
    assert isinstance(call, Call)
    return call.classify(response)


def test_tool_call_tells_the_tool_where_it_is_called_from() -> None:
    """Its body is the same for every dispatch of an attempt."""
    site = replace(SITE, instance_id="i", block_id="b", attempt=2)
    call = tool_call.run({"url": "https://x/", "arguments": None}, site)
    assert isinstance(call, Call)
    assert (call.method, call.timeout) == ("POST", 30.0)
    assert orjson.loads(call.body) == {
        "tool_name": "unknown", "arguments": {},
        "context": {"instance_id": "i", "block_id": "b", "attempt": 2},
    }  # fmt: skip
    assert dict(call.headers)["Idempotency-Key"] == "key-1"
    assert tool_call.effect({"method": "GET"}) == "external"


@pytest.mark.parametrize(
    ("body", "result"), [(b'{"a": 1}', {"a": 1}), (b"null", None), (b"", None)]
)
def test_tool_call_puts_out_the_parsed_answer(body: bytes, result: Any) -> None:
    """An empty one is null."""
    answer = tool(Response(201, body), tool_name="t")
    assert answer.verdict is Verdict.SUCCEEDED
    assert answer.output == {"tool_name": "t", "result": result, "status": 201}


@pytest.mark.parametrize(("repeatable", "verdict"), [(True, "failed"), (False, "unknown")])
def test_tool_call_cannot_read_what_is_not_json(repeatable: bool, verdict: str) -> None:
    """That fails a call without an effect; any other is in doubt."""
    answer = tool(Response(200, b"<html>"), replace(SITE, repeatable=repeatable))
    assert answer.verdict == verdict
    assert answer.error is not None
    assert answer.error["code"] == "not_json"


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(404, "refused"), (429, "failed_safe"), (409, "unknown"), (500, "unknown")],
)
def test_tool_call_is_classified_as_http_request_is(status: int, verdict: str) -> None:
    """By its status."""
    assert tool(Response(status, b"no")).verdict == verdict


def test_tool_call_of_a_provider_is_read_by_its_table() -> None:
    """What the table calls declined has the parsed body as its result, and the class beside it."""
    site = replace(SITE, classify=classifier("stripe"))
    body = b'{"error": {"type": "card_error", "code": "card_declined"}}'
    answer = tool(Response(402, body), site)
    assert answer.verdict is Verdict.DECLINED
    assert answer.output == {
        "tool_name": "unknown", "result": orjson.loads(body), "status": 402, "outcome": "declined",
    }  # fmt: skip
