"""What a refusal says of the provider's limits, in every dialect that providers speak."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orch8.handlers.pressure import LONGEST, Pressure, pressure, read, retry_after

NOW = 1_800_000_000.0
POLICY = '"burst";q=100;w=1, "calls";q=30;qu="concurrent-requests"'


@pytest.mark.parametrize(
    ("headers", "asked", "expected"),
    [
        ({}, None, Pressure()),
        ({}, 7.0, Pressure(7.0)),
        ({"ratelimit": '"default";r=0;t=30'}, None, Pressure(30.0)),
        ({"ratelimit": '"a";r=0;t=2, "b";r=5;t=60, "c";r=0;t=9'}, None, Pressure(9.0)),
        ({"ratelimit": '"default";r=50;t=30'}, None, Pressure()),
        ({"ratelimit": "limit=100, remaining=0, reset=12"}, None, Pressure(12.0)),
        ({"ratelimit": "limit=100, remaining=3, reset=12"}, None, Pressure()),
        ({"ratelimit": '"calls";r=0', "ratelimit-policy": POLICY}, None, Pressure(concurrent=True)),
        ({"ratelimit": '"burst";r=0;t=1', "ratelimit-policy": POLICY}, None, Pressure(1.0)),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "20"}, None, Pressure(20.0)),
        ({"ratelimit-remaining": "4", "ratelimit-reset": "20"}, None, Pressure()),
        ({"x-ratelimit-reset": "1800000015"}, None, Pressure(15.0)),
        ({"x-rate-limit-reset": "15"}, None, Pressure(15.0)),
        ({"x-rate-limit-reset": "1800000015000"}, None, Pressure(15.0)),
        ({"ratelimit": '"burst";r=0', "ratelimit-policy": POLICY}, None, Pressure(1.0)),
        ({"ratelimit-reset": "Fri, 15 Jan 2027 08:01:00 GMT"}, None, Pressure(60.0)),
        ({"x-ratelimit-reset": "tomorrow"}, None, Pressure()),
        ({"x-ratelimit-reset": "1700000000"}, None, Pressure(0.0)),
        ({"x-ratelimit-reset": "99999"}, None, Pressure(LONGEST)),
        ({"ratelimit": '"default";r=0;t=30'}, 2.0, Pressure(2.0)),
        ({"stripe-rate-limited-reason": "global-rate"}, None, Pressure(scope="global")),
        (
            {"stripe-rate-limited-reason": "endpoint-concurrency"},
            None,
            Pressure(scope="endpoint", concurrent=True),
        ),
        ({"stripe-rate-limited-reason": "resource-specific"}, 1.0, Pressure(1.0, "resource")),
    ],
)
def test_pressure_is_what_the_headers_say(
    headers: dict[str, str], asked: float | None, expected: Pressure
) -> None:
    """Retry-After first, then the newest form that says when calls are welcome again."""
    given = {} if asked is None else {"retry-after": str(asked)}
    found = pressure(429, headers | given, now=NOW)
    assert found == expected
    assert found is not None
    assert read({"pressure": found.to_json()}) == found


@pytest.mark.parametrize("status", [200, 400, 402, 500, 502])
@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after": "5"}, None),
        ({"ratelimit": '"default";r=0;t=30'}, 30.0),
        ({"ratelimit": '"default";r=0', "ratelimit-policy": '"default";q=9;w=60'}, 60.0),
        ({"ratelimit": '"default";r=1;t=30'}, None),
        ({"ratelimit": '"calls";r=0;t=1', "ratelimit-policy": POLICY}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1"}, 1.0),
        ({"x-ratelimit-reset": "1"}, None),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "Fri, 15 Jan 2027 08:01:00 GMT"}, 60.0),
    ],
)
def test_answer_that_was_not_refused_says_that_it_was_the_last(
    status: int, headers: dict[str, str], expected: float | None
) -> None:
    """Nothing left and until when is a reason to stop before the first refusal; nothing else is."""
    told = pressure(status, headers, now=NOW)
    assert told == (None if expected is None else Pressure(expected, last=True))
    assert told is None or read({"pressure": told.to_json()}) == told
    assert read({}) is None


PROBLEM = "https://iana.org/assignments/http-problem-types#quota-exceeded"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"type": PROBLEM, "violated-policies": ["burst"]}, Pressure(1.0)),
        ({"type": PROBLEM, "violated-policies": ["calls"]}, Pressure(concurrent=True)),
        ({"type": PROBLEM, "violated-policies": ["other"]}, Pressure()),
        ({"type": "about:blank", "violated-policies": ["burst"]}, Pressure()),
        ({"type": PROBLEM, "violated-policies": "burst"}, Pressure()),
        ({"error": {"code": "lock_timeout"}}, Pressure(scope="resource")),
        ({"code": "lock_timeout"}, Pressure(scope="resource")),
        (["burst"], Pressure()),
    ],
)
def test_body_of_a_refusal_says_which_limit(body: object, expected: Pressure) -> None:
    """The problem type names the policies; a lock of an object is no limit."""
    assert pressure(429, {"ratelimit-policy": POLICY}, orjson.dumps(body), NOW) == expected


def test_dates_are_judged_by_the_answers_own_clock() -> None:
    """Whatever the clock of the worker shows."""
    headers = {"date": "Fri, 15 Jan 2027 08:00:00 GMT"}
    for name in ("retry-after", "x-ratelimit-reset"):
        told = pressure(429, {**headers, name: "Fri, 15 Jan 2027 08:00:30 GMT"}, now=0.0)
        assert told == Pressure(30.0)
    assert retry_after({**headers, "retry-after": "Fri, 15 Jan 2027 08:00:30 GMT"}) == 30.0
    assert retry_after({**headers, "retry-after": "Fri, 15 Jan 2027 07:00:00 GMT"}) is None
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({}) is None


@given(
    st.dictionaries(
        st.sampled_from(
            ["ratelimit", "ratelimit-policy", "ratelimit-reset", "x-ratelimit-remaining", "date"]
        ),
        st.text(st.characters(max_codepoint=255), max_size=200),
    ),
    st.binary(max_size=50),
)
def test_pressure_reads_whatever_comes(headers: dict[str, str], body: bytes) -> None:
    """No header breaks it, no body, and no wait is longer than an hour."""
    found = pressure(503, headers, body, NOW)
    assert found is not None
    assert found.seconds is None or 0 <= found.seconds <= LONGEST
