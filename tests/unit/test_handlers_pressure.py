"""What a refusal says of the provider's limits, in every dialect that providers speak."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orch8.handlers.pressure import LONGEST, Pressure, pressure, read

NOW = 1_800_000_000.0
POLICY = '"burst";q=100;w=1, "calls";q=30;qu="concurrent-requests"'


@pytest.mark.parametrize(
    ("headers", "retry_after", "expected"),
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
    headers: dict[str, str], retry_after: float | None, expected: Pressure
) -> None:
    """Retry-After first, then the newest form that says when calls are welcome again."""
    found = pressure(429, headers, retry_after, NOW)
    assert found == expected
    assert found is not None
    assert read({"pressure": found.to_json()}) == found


@pytest.mark.parametrize("status", [200, 400, 402, 500, 502])
def test_pressure_is_felt_in_refusals_only(status: int) -> None:
    """Headers of other answers are no reason to stop."""
    assert pressure(status, {"ratelimit": '"default";r=0;t=30'}, 5.0, NOW) is None
    assert read({}) is None


@given(
    st.dictionaries(
        st.sampled_from(
            ["ratelimit", "ratelimit-policy", "ratelimit-reset", "x-ratelimit-remaining"]
        ),
        st.text(st.characters(max_codepoint=255), max_size=200),
    )
)
def test_pressure_reads_whatever_comes(headers: dict[str, str]) -> None:
    """No header breaks it, and no wait is longer than an hour."""
    found = pressure(503, headers, None, NOW)
    assert found is not None
    assert found.seconds is None or 0 <= found.seconds <= LONGEST
