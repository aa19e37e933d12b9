"""How long a key may be sent again, to the second: nobody waits days for these edges."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orch8.blocks.money import OnUnknown, Policy
from orch8.blocks.step import Effect
from orch8.engine.outcome import Answer, Verdict
from orch8.engine.retry import RetryPolicy
from orch8.runtime.ruling import Again, Ask, Case, Park, Ruling, key_holds, rule

SENT_AT = datetime(2026, 3, 1, tzinfo=UTC)
DAY, HOUR = 24 * 3600.0, 3600.0
SECOND = 1.0


def at(seconds: float) -> datetime:
    """So long after the first dispatch."""
    return SENT_AT + timedelta(seconds=seconds)


def ruling(verdict: Verdict = Verdict.UNKNOWN, **more: Any) -> Ruling:
    """What follows from an answer to a charge that was sent once, a minute ago."""
    given: dict[str, Any] = {
        "effect": Effect.MONEY, "policy": RetryPolicy(max_attempts=3), "failures": 0,
        "dispatches": 1, "first_dispatched_at": SENT_AT, "now": at(60), "timeout": 30.0,
        "entropy": 0.5,
    }  # fmt: skip
    return rule(Case(**(given | more)), Answer(verdict, error={"message": "?"}))


@pytest.mark.parametrize(("ttl", "margin"), [(DAY, 0.1 * DAY), (HOUR, 360), (1800.0, 300)])
def test_key_is_not_sent_near_the_end_of_its_life(ttl: float, margin: float) -> None:
    """A tenth of its life, and at least five minutes, is for clocks that differ."""
    last = ttl - margin
    assert key_holds(SENT_AT, ttl, at(last - SECOND), timeout=0)
    assert not key_holds(SENT_AT, ttl, at(last), timeout=0)


def test_key_must_outlive_the_call() -> None:
    """What is sent now may arrive as late as its time-out allows."""
    last = 0.9 * DAY - 30
    assert key_holds(SENT_AT, DAY, at(last - SECOND), timeout=30)
    assert not key_holds(SENT_AT, DAY, at(last), timeout=30)


def test_key_of_a_provider_that_keeps_none_is_never_sent_again() -> None:
    """A life of nothing, or of less than the margin, is over at once."""
    assert not key_holds(SENT_AT, 0.0, at(0), timeout=0)
    assert not key_holds(SENT_AT, 300.0, at(0), timeout=0)
    assert ruling(key_ttl=0.0) == Park("outcome_unknown")


def test_doubt_is_sent_again_uncounted_while_its_key_is_known() -> None:
    """Neither a failure nor a new attempt, however often it was sent."""
    for dispatches in (1, 2, 50):
        again = ruling(dispatches=dispatches)
        assert isinstance(again, Again)
        assert (again.counted, again.fresh) == (False, False)


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("verdict", [Verdict.UNKNOWN, Verdict.IN_PROGRESS])
def test_doubt_past_its_key_s_life_is_never_sent_again(policy: Policy, verdict: Verdict) -> None:
    """Whatever the step's policy, what is left is asking and a person."""
    then = {} if policy is Policy.PARK else {"handler": "find_charge"}
    asked = OnUnknown(policy, **then)
    after = ruling(verdict, now=at(DAY), on_unknown=asked)
    assert isinstance(after, Ask | Park)


def test_provider_that_is_at_it_forever_is_not_believed_forever() -> None:
    """After twenty times "still at it" the step's own policy holds."""
    policy = OnUnknown(Policy.PARK)
    assert isinstance(ruling(Verdict.IN_PROGRESS, dispatches=20, on_unknown=policy), Again)
    assert isinstance(ruling(Verdict.IN_PROGRESS, dispatches=21, on_unknown=policy), Park)


def test_pause_that_an_answer_asks_for_is_bounded_by_the_key_s_life() -> None:
    """A Retry-After beyond the key's life is no reason to send it afterwards."""
    case = {"key_ttl": HOUR, "now": at(0)}
    assert isinstance(ruling(**case), Again)
    long = Answer(Verdict.UNKNOWN, error={"message": "?"}, retry_after=HOUR)
    given = Case(
        Effect.MONEY, RetryPolicy(), 0, 1, SENT_AT, at(0), 30.0, 0.5, key_ttl=HOUR
    )  # fmt: skip
    assert rule(given, long) == Park("outcome_unknown")
