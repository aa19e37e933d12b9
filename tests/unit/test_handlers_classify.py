"""The table from HTTP answers to verdicts."""

from __future__ import annotations

import orjson
import pytest

from orch8.engine.outcome import Verdict
from orch8.handlers.classify import MAX_EXCERPT, Response, excerpt, generic

STATUSES = [
    (200, "succeeded"),
    (201, "succeeded"),
    (204, "succeeded"),
    (301, "refused"),
    (304, "refused"),
    (400, "refused"),
    (401, "refused"),
    (402, "declined"),
    (403, "refused"),
    (404, "refused"),
    (405, "refused"),
    (408, "unknown"),
    (409, "unknown"),
    (410, "refused"),
    (413, "refused"),
    (415, "refused"),
    (418, "refused"),
    (422, "refused"),
    (425, "unknown"),
    (429, "failed_safe"),
    (500, "unknown"),
    (502, "unknown"),
    (503, "unknown"),
    (504, "unknown"),
    (599, "unknown"),
    (999, "unknown"),
]


@pytest.mark.parametrize(("status", "verdict"), STATUSES)
def test_status_alone_gives_the_verdict_of_the_table(status: int, verdict: str) -> None:
    """Without a body that says more, the status decides as DECISIONS section 1 lists it."""
    assert generic(Response(status, b"{}")).verdict == verdict


@pytest.mark.parametrize(
    "outcome",
    [
        "succeeded",
        "declined",
        "requires_action",
        "pending",
        "in_progress",
        "failed_safe",
        "unknown",
    ],
)
@pytest.mark.parametrize("status", [200, 202])
def test_body_of_a_2xx_names_its_own_outcome(status: int, outcome: str) -> None:
    """A handler that answers 2xx may name the outcome, which then stands."""
    answer = generic(Response(status, orjson.dumps({"outcome": outcome, "n": 1})))
    assert answer.verdict == outcome
    completes = outcome in {"succeeded", "declined", "requires_action", "pending"}
    assert answer.output == ({"outcome": outcome, "n": 1} if completes else None)


@pytest.mark.parametrize("outcome", ["paid", "refused", "not_sent", "", 3, None, ["declined"]])
def test_outcome_outside_the_vocabulary_is_just_data(outcome: object) -> None:
    """A member called outcome with another meaning does not change the verdict."""
    answer = generic(Response(200, orjson.dumps({"outcome": outcome})))
    assert (answer.verdict, answer.output) == (Verdict.SUCCEEDED, {"outcome": outcome})


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        ("declined", "declined"),
        ("failed_safe", "failed_safe"),
        ("in_progress", "in_progress"),
        ("unknown", "unknown"),
        ("succeeded", "refused"),
        ("pending", "refused"),
        ("requires_action", "refused"),
    ],
)
def test_body_of_a_4xx_may_claim_no_effect(outcome: str, verdict: str) -> None:
    """A 422 that says declined is a decline; one that says succeeded contradicts itself."""
    assert generic(Response(422, orjson.dumps({"outcome": outcome}))).verdict == verdict
    assert generic(Response(500, orjson.dumps({"outcome": outcome}))).verdict == "unknown"


@pytest.mark.parametrize("body", [b"", b"  \n"])
def test_empty_body_is_null(body: bytes) -> None:
    """A success without a body has the output null."""
    answer = generic(Response(204, body))
    assert (answer.verdict, answer.output, answer.error) == (Verdict.SUCCEEDED, None, None)


@pytest.mark.parametrize(
    "body", [b"<html>ok</html>", b'{"a":', b"NaN", b"\xff\xfe", b'"\xed\xa0\x80"']
)
def test_unreadable_2xx_is_unknown(body: bytes) -> None:
    """A 2xx whose body is not JSON may have happened, and the evidence keeps its beginning."""
    answer = generic(Response(200, body, evidence={"http_status": 200}))
    assert answer.verdict is Verdict.UNKNOWN
    assert answer.evidence["http_status"] == 200
    assert answer.evidence["body_excerpt"]


def test_decline_keeps_the_body_as_output_and_as_error() -> None:
    """A 402 completes the step with its body, and its code is there for retry rules."""
    body = {"error": {"code": "card_declined", "message": "Your card was declined."}}
    answer = generic(Response(402, orjson.dumps(body)))
    assert (answer.verdict, answer.output) == (Verdict.DECLINED, body)
    assert answer.error == {
        "message": "Your card was declined.",
        "code": "card_declined",
        "status": 402,
        "details": body,
    }


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"code": "a", "error": {"code": "b"}, "error_code": "c"}, "a"),
        ({"error": {"code": "b"}, "error_code": "c"}, "b"),
        ({"error": "no", "error_code": "c"}, "c"),
        ({"code": 42}, "42"),
        ({"code": True}, None),
        ({"code": {"x": 1}}, None),
        ([], None),
        ("text", None),
    ],
)
def test_error_code_is_the_first_that_the_body_has(body: object, code: str | None) -> None:
    """code, error.code and error_code are read in this order."""
    error = generic(Response(400, orjson.dumps(body))).error
    assert error is not None
    assert error.get("code") == code


def test_retry_after_is_kept_and_never_makes_503_safe() -> None:
    """A 503 with Retry-After stays unknown: only a provider preset knows better."""
    assert generic(Response(429, b"", 7.0)).retry_after == 7.0
    answer = generic(Response(503, b"", 7.0))
    assert (answer.verdict, answer.retry_after) == (Verdict.UNKNOWN, 7.0)


@pytest.mark.parametrize(
    "number", ["4242424242424242", "4242 4242 4242 4242", "4242-4242-4242-4242"]
)
def test_excerpt_has_no_card_numbers(number: str) -> None:
    """Runs of 13 to 19 digits never reach the evidence, even across the cut."""
    for lead in (0, MAX_EXCERPT - 20, MAX_EXCERPT - 8, MAX_EXCERPT - 1):
        text = excerpt(b"x" * lead + number.encode() + b" rest")
        assert number[:9] not in text
        assert len(text) <= MAX_EXCERPT
    assert excerpt(b"order 123456789012") == "order 123456789012"


def test_large_details_are_cut() -> None:
    """The error of a huge body has an excerpt instead of the body."""
    error = generic(Response(400, orjson.dumps({"pad": "x" * 20_000}))).error
    assert error is not None
    assert list(error["details"]) == ["body_excerpt"]
