"""What is found out about a charge in doubt counts only when it can be known by then."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from orch8.runtime.run import JANITOR
from orch8.testing.misbehaviour import Do, Rule
from orch8.testing.provider import Provider
from tests.support.house import House

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
NO, PENDING = {"found": "no"}, {"found": "yes", "outcome": "pending"}
YES = {"found": "yes", "outcome": "succeeded", "output": {"id": "PM1"}}


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider that says of a key it knows: that exists already, fetch it."""
    with Provider(preset="gocardless") as running:
        yield running


def charge(*, on_unknown: dict[str, Any], **members: Any) -> dict[str, Any]:
    """A charge whose outcome the handler find_charge is asked for."""
    policy = {"policy": "reconcile", "handler": "find_charge", "schedule": ["30s", "5m"]}
    step = {"type": "step", "handler": "charge", "effect": "money", **members}
    return {**step, "on_unknown": policy | on_unknown}


def ask(house: House, after: timedelta) -> Any:
    """Time has passed, and what was due for the janitor then has been asked; the charge's row."""
    house.advance(after)
    house.work(JANITOR)
    return next(iter(house.sql("SELECT * FROM steps")))


def test_absence_means_nothing_while_the_call_may_still_arrive(house: House) -> None:
    """However short the settle_delay: a call with ten minutes to its time-out may be made yet."""
    house.handler("find_charge", lambda _: NO)
    house.provider_does(Do.HANG_UP)
    house.run(charge(timeout="10m", on_unknown={"settle_delay": "1s", "confirmations": 1}))
    assert "absent" not in ask(house, MINUTE).progress
    assert ask(house, 8 * MINUTE).state == "scheduled"
    assert house.totals()["asked"] == 1
    ask(house, 6 * MINUTE)
    house.work()
    assert house.totals()["asked"] == 2


def test_absence_counts_from_the_last_dispatch(house: House) -> None:
    """A charge that was sent a second time a minute ago is not absent because the first one is."""
    house.handler("find_charge", lambda _: NO)
    house.provider_does(Rule(Do.HANG_UP, times=2))
    house.run(charge(on_unknown={"confirmations": 2}))
    for _ in range(2):
        ask(house, 6 * MINUTE)
    house.work()
    row = ask(house, MINUTE)
    assert (row.dispatches, row.state, row.asking) == (2, "scheduled", "find_charge")
    assert "absent" not in row.progress


def test_payment_that_is_found_pending_is_asked_about_again(house: House) -> None:
    """Pending is no end, and no reason to look forever: after the schedule a person is told."""
    house.handler("find_charge", lambda _: PENDING)
    house.provider_does(Do.COMMIT_THEN_HANG_UP)
    house.run(charge(on_unknown={}))
    assert ask(house, MINUTE).state == "scheduled"
    row = ask(house, HOUR)
    assert (row.state, row.attention["reason"]) == ("parked", "reconcile_exhausted")
    assert house.totals()["asked"] == 1


def test_effect_that_exists_already_is_fetched_before_it_counts(house: House) -> None:
    """A provider that answers a known key with "it exists" has not said what it came to."""
    house.handler("find_charge", lambda _: YES)
    house.provider_does(Do.COMMIT_THEN_HANG_UP)
    policy = {"policy": "retry_same_key", "then": "reconcile"}
    retry = {"max_attempts": 3, "backoff": "10m", "jitter": 0}
    instance_id = house.run(charge(provider="gocardless", retry=retry, on_unknown=policy))
    house.advance(HOUR)
    house.work()
    row = house.step(instance_id)
    assert (row.state, row.asking, row.dispatches) == ("scheduled", "find_charge", 2)
    row = ask(house, MINUTE)
    assert (row.state, row.outcome, row.output) == ("completed", "succeeded", {"id": "PM1"})
    assert house.totals()["charged"] == 1


@pytest.mark.parametrize(
    "said",
    [
        "unknown",
        "in_progress",
    ],
)
def test_deadline_fails_nothing_that_may_have_happened(house: House, said: str) -> None:
    """A charge that the provider is still at is as much in doubt as one that nobody knows of."""
    house.handler("charge", lambda _: {"outcome": said})
    retry = {"max_attempts": 9, "backoff": "2h", "jitter": 0}
    step = {"type": "step", "handler": "charge", "effect": "money", "retry": retry}
    instance_id = house.run({**step, "deadline": "1h"})
    house.advance(HOUR)
    house.work()
    row = house.step(instance_id)
    assert (row.state, row.outcome, row.dispatches) == ("scheduled", said, 1)
    house.handler("charge", lambda _: {"ok": True})
    house.advance(HOUR)
    house.work()
    assert house.state(instance_id) == "completed"
