"""Retries: how long to wait, when to give up, and what a retry object may say."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from orch8.engine.outcome import Answer, Verdict
from orch8.engine.retry import GIVE_UP, Retry, RetryPolicy, backoff, decide, parse_retry

SECOND = timedelta(seconds=1)
SAFE = Answer(Verdict.FAILED_SAFE)


def _failed(verdict: Verdict = Verdict.FAILED_SAFE, **error: Any) -> Answer:
    return Answer(verdict, error={"message": "no", **error})


@pytest.mark.parametrize(("failures", "seconds"), [(1, 5), (2, 10), (3, 20), (9, 60), (10**9, 60)])
def test_backoff_doubles_up_to_the_ceiling(failures: int, seconds: int) -> None:
    """Waits double and never exceed the ceiling, however many failures there were."""
    policy = RetryPolicy(initial=5 * SECOND, max_backoff=60 * SECOND)
    assert backoff(policy, failures, 0.0) == timedelta(seconds=seconds)


def test_backoff_without_ceiling_stops_at_a_day() -> None:
    """Without max_backoff a wait is at most a day, or the first wait if that is longer."""
    assert backoff(RetryPolicy(), 10**6, 0.0) == timedelta(days=1)
    assert backoff(RetryPolicy(initial=timedelta(days=3)), 2, 0.0) == timedelta(days=3)


def test_backoff_of_zero_stays_zero() -> None:
    """A first wait of nothing never grows."""
    assert backoff(RetryPolicy(initial=timedelta()), 10**6, 0.0) == timedelta()


def test_backoff_follows_the_schedule_and_repeats_its_last() -> None:
    """A schedule gives the waits one by one, then its last one."""
    policy = RetryPolicy(schedule=(SECOND, 3 * SECOND))
    assert [backoff(policy, n, 0.0) for n in (1, 2, 3)] == [SECOND, 3 * SECOND, 3 * SECOND]


def test_backoff_jitter_only_shortens() -> None:
    """Jitter takes up to its fraction off a wait."""
    policy = RetryPolicy(initial=10 * SECOND, jitter=0.5)
    assert backoff(policy, 1, 0.0) == 10 * SECOND
    assert backoff(policy, 1, 0.5) == 7.5 * SECOND


def test_decide_bounds_the_executions_in_all() -> None:
    """max_attempts counts every execution, the first one included."""
    policy = RetryPolicy(max_attempts=2)
    assert decide(policy, SAFE, 1) == Retry(SECOND)
    assert decide(policy, SAFE, 2) == GIVE_UP


@pytest.mark.parametrize("verdict", [Verdict.REFUSED, Verdict.FAILED, Verdict.DECLINED])
def test_decide_leaves_definite_ends_alone(verdict: Verdict) -> None:
    """A definite end is not tried again unless the policy names it."""
    assert decide(RetryPolicy(9), Answer(verdict), 1) == GIVE_UP
    assert decide(RetryPolicy(9, on=frozenset({verdict})), Answer(verdict), 1) == Retry(SECOND)


@pytest.mark.parametrize(("truth", "again"), [(None, True), (True, True), (False, False)])
def test_decide_obeys_retry_if(truth: bool | None, again: bool) -> None:
    """Only a condition that came out false stops the retries."""
    assert (decide(RetryPolicy(9), SAFE, 1, truth) != GIVE_UP) is again


@pytest.mark.parametrize(
    "error",
    [
        {"code": "x"},
        {"code": 404},
        {"status": 404},
        {"details": {"code": "x"}},
        {"details": {"error_code": "x"}},
        {"details": {"status": 404}},
    ],
)
def test_decide_stops_at_a_code_that_never_helps(error: dict[str, Any]) -> None:
    """A non-retryable code stops the retries, wherever the error carries it."""
    policy = RetryPolicy(9, non_retryable_codes=frozenset({"x", "404"}))
    assert decide(policy, _failed(**error), 1) == GIVE_UP
    assert decide(policy, _failed(code="y", details=[]), 1) == Retry(SECOND)


def test_decide_tries_again_for_a_named_error_code() -> None:
    """An error code in `on` makes a failed answer worth another try."""
    policy, _ = parse_retry({"max_attempts": 3, "backoff": 0, "on": ["invalid_output"]})
    again = _failed(Verdict.FAILED, code="invalid_output")
    assert decide(policy, again, 1) == Retry(timedelta())
    assert decide(policy, _failed(Verdict.FAILED), 1) == GIVE_UP


@pytest.mark.parametrize(
    ("asked", "wait"),
    [(None, SECOND), (0.5, SECOND), (90.0, 90 * SECOND), (1e30, timedelta(days=366))],
)
def test_decide_waits_at_least_as_long_as_asked(asked: float | None, wait: timedelta) -> None:
    """The answer's retry_after is a lower bound, also above the policy's ceiling."""
    policy = RetryPolicy(9, max_backoff=SECOND)
    assert decide(policy, Answer(Verdict.FAILED_SAFE, retry_after=asked), 1) == Retry(wait)


def test_decide_passes_entropy_on() -> None:
    """The entropy shortens the wait by the policy's jitter."""
    assert decide(RetryPolicy(9, jitter=1.0), SAFE, 1, entropy=0.5) == Retry(SECOND / 2)


def test_parse_retry_reads_the_seed_form() -> None:
    """A bare backoff doubles."""
    policy, problems = parse_retry({"max_attempts": 2, "backoff": "5s"})
    assert not problems
    assert policy == RetryPolicy(2, 5 * SECOND, 2.0)


def test_parse_retry_reads_the_contract_form() -> None:
    """Integer milliseconds, a multiplier, a condition and codes."""
    policy, problems = parse_retry(
        {
            "max_attempts": 3,
            "initial_backoff": 100,
            "max_backoff": 1.5,
            "backoff_multiplier": 3,
            "retry_if": "data._error",
            "non_retryable_codes": ["a", 404],
        },
        contract=True,
    )
    assert not problems
    assert policy == RetryPolicy(
        3,
        SECOND / 10,
        3.0,
        1.5 * SECOND,
        retry_if="data._error",
        non_retryable_codes=frozenset({"a", "404"}),
    )


def test_parse_retry_schedule_sets_the_attempts() -> None:
    """With a schedule alone there is one execution more than waits."""
    policy, problems = parse_retry({"schedule": ["1s", "2s"], "jitter": 0.2}, contract=True)
    assert not problems
    assert (policy.max_attempts, policy.schedule, policy.jitter) == (3, (SECOND, 2 * SECOND), 0.2)


def test_parse_retry_failed_safe_includes_not_sent() -> None:
    """Who retries what surely did not happen also retries what was never sent."""
    policy, problems = parse_retry({"max_attempts": 2, "on": ["failed_safe"]})
    assert not problems
    assert policy.on == {Verdict.FAILED_SAFE, Verdict.NOT_SENT}


@pytest.mark.parametrize(
    ("value", "pointers"),
    [
        ("5s", [""]),
        ({}, ["/max_attempts"]),
        ({"max_attempts": "3"}, ["/max_attempts"]),
        ({"max_attempts": True}, ["/max_attempts"]),
        ({"max_attempts": 0}, ["/max_attempts"]),
        ({"max_attempts": 10**7}, ["/max_attempts"]),
        ({"max_attempts": 1, "backoff": "soon"}, ["/backoff"]),
        ({"max_attempts": 1, "backoff": {"months": 1}}, ["/backoff"]),
        ({"max_attempts": 1, "max_backoff": "400d"}, ["/max_backoff"]),
        ({"max_attempts": 1, "schedule": []}, ["/schedule"]),
        ({"max_attempts": 1, "schedule": "5s"}, ["/schedule"]),
        ({"max_attempts": 1, "schedule": ["1s", -1]}, ["/schedule/1"]),
        ({"max_attempts": 1, "jitter": 2}, ["/jitter"]),
        ({"max_attempts": 1, "jitter": "much"}, ["/jitter"]),
        ({"max_attempts": 1, "backoff_multiplier": 0}, ["/backoff_multiplier"]),
        ({"max_attempts": 1, "backoff_multiplier": 10**400}, ["/backoff_multiplier"]),
        ({"max_attempts": 1, "backoff_multiplier": True}, ["/backoff_multiplier"]),
        ({"max_attempts": 1, "retry_if": 1}, ["/retry_if"]),
        ({"max_attempts": 1, "non_retryable_codes": "x"}, ["/non_retryable_codes"]),
        ({"max_attempts": 1, "non_retryable_codes": ["x", 1.5]}, ["/non_retryable_codes/1"]),
        ({"max_attempts": 1, "on": []}, ["/on"]),
        ({"max_attempts": 1, "on": ["unknown", "succeeded"]}, ["/on/1"]),
        ({"max_attempts": 1, "on": [[]]}, ["/on/0"]),
        ({"max_attempts": 0, "backoff": None, "jitter": -1}, ["/max_attempts", "/jitter"]),
    ],
)
def test_parse_retry_lists_every_problem_in_its_place(value: Any, pointers: list[str]) -> None:
    """Each problem carries the pointer of the member it is about."""
    _, problems = parse_retry(value)
    assert [problem.pointer for problem in problems] == pointers


def test_parse_retry_contract_requires_the_waits() -> None:
    """The contract's form needs both waits unless the seed's form gives one."""
    _, problems = parse_retry({"max_attempts": 3}, contract=True)
    assert [problem.pointer for problem in problems] == ["/initial_backoff", "/max_backoff"]
    assert all(problem.shape for problem in problems)
    assert not parse_retry({"max_attempts": 3, "backoff": 5}, contract=True)[1]
