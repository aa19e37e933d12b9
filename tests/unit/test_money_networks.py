"""What card networks' rules leave of an instrument, against counting by hand."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orch8.money.networks import (
    BARRED,
    VOID,
    Budget,
    Counts,
    NetworkAttempt,
    NetworkRule,
    Planned,
    budget_left,
    built_in,
    called,
    limited,
    looser,
    rules_of,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
VISA = NetworkRule("visa", Counts.ATTEMPTS, 3, 30 * DAY)
DAILY = NetworkRule("mastercard", Counts.DECLINES, 2, DAY)


def tries(*ago: timedelta, **members: object) -> list[NetworkAttempt]:
    """Attempts that were declined this long ago."""
    return [NetworkAttempt(NOW - each, **{"verdict": "declined", **members}) for each in ago]  # type: ignore[arg-type]


def test_budget_without_rules_has_no_bound() -> None:
    """A network whose rules nobody states is not limited."""
    assert budget_left([], tries(HOUR), NOW) == Budget()


def test_budget_names_the_rule_and_the_moment() -> None:
    """What is used up is free again when its oldest attempt leaves the window."""
    found = budget_left([VISA], tries(HOUR, DAY, 9 * DAY), NOW)
    assert found == Budget(0, VISA, NOW + 21 * DAY)


def test_attempt_leaves_its_window_exactly_then() -> None:
    """An attempt as old as the window is not counted any more."""
    assert budget_left([DAILY], tries(DAY, HOUR), NOW).left == 1
    assert budget_left([DAILY], tries(DAY - timedelta(microseconds=1), HOUR), NOW).left == 0


def test_budget_beyond_its_bound_waits_for_enough_to_leave() -> None:
    """With more attempts than allowed, several have to leave before one is free."""
    found = budget_left([DAILY], tries(HOUR, 2 * HOUR, 3 * HOUR, 4 * HOUR), NOW)
    assert found.earliest_at == NOW + 22 * HOUR


def test_of_two_exhausted_rules_the_longer_is_named() -> None:
    """The next attempt needs the leave of both."""
    both = [DAILY, NetworkRule("mastercard", Counts.SAME_AMOUNT, 2, 30 * DAY)]
    assert budget_left(both, tries(HOUR, HOUR), NOW).earliest_at == NOW + 30 * DAY - HOUR


@pytest.mark.parametrize(
    ("verdict", "attempt", "decline"),
    [
        ("declined", 1, 1),
        (BARRED, 1, 1),
        (None, 1, 1),
        ("unknown", 1, 1),
        ("pending", 1, 1),
        ("requires_action", 1, 0),
        ("failed", 1, 0),
        ("succeeded", 0, 0),
        (VOID, 0, 0),
    ],
)
def test_verdict_says_what_an_attempt_counts_as(
    verdict: str | None, attempt: int, decline: int
) -> None:
    """An approval is no reattempt; what is not known may have been a decline."""
    history = tries(HOUR, verdict=verdict)
    assert budget_left([VISA], history, NOW).left == 3 - attempt
    assert budget_left([DAILY], history, NOW).left == 2 - decline


def test_other_networks_merchants_and_amounts_do_not_count() -> None:
    """Each rule counts its own network, merchant and amount; what is unknown counts as the same."""
    same = NetworkRule("visa", Counts.SAME_AMOUNT, 9, DAY, ("instrument", "merchant", "amount"))
    planned = Planned("shop", 500, "EUR")
    history = [
        *tries(HOUR, network="mastercard"),
        *tries(HOUR, network="visa", merchant="other"),
        *tries(HOUR, network="visa", merchant="shop", amount=400, currency="EUR"),
        *tries(HOUR, network="visa", merchant="shop", amount=500, currency="USD"),
        *tries(HOUR, network="visa", merchant="shop", amount=500, currency="EUR"),
        *tries(HOUR),
    ]
    assert budget_left([same], history, NOW, planned).left == 7
    assert budget_left([same], history, NOW).left == 4


def test_barred_instrument_is_barred_for_good() -> None:
    """What the network forbids to repeat is never free again."""
    (rule,) = [each for each in rules_of("visa", NOW.date()) if each.counts is Counts.BARRED]
    found = budget_left([rule], tries(400 * DAY, verdict=BARRED), NOW)
    assert (found.left, found.exhausted_by, found.earliest_at) == (0, rule, None)


@given(
    ago=st.lists(st.integers(0, 100), max_size=40),
    most=st.integers(1, 12),
    hours=st.integers(1, 60),
)
def test_window_is_counted_as_by_hand(ago: list[int], most: int, hours: int) -> None:
    """At any moment the budget is what an honest count says, and the moment it names is the first
    at which another attempt is allowed.
    """
    rule = NetworkRule("visa", Counts.ATTEMPTS, most, hours * HOUR)
    history = tries(*(each * HOUR for each in ago))
    found = budget_left([rule], history, NOW)
    used = sum(each < hours for each in ago)
    assert found.left == max(most - used, 0)
    if found.left:
        assert found.earliest_at is None
        return
    free = next(
        later for later in range(101 + hours) if sum(each + later < hours for each in ago) < most
    )
    assert found.earliest_at == NOW + free * HOUR
    assert found.earliest_at is not None
    assert budget_left([rule], history, found.earliest_at).left
    assert not budget_left([rule], history, found.earliest_at - timedelta(microseconds=1)).left


# -- the rules as data ---------------------------------------------------------------------------
def test_rule_of_the_day_holds() -> None:
    """Visa allowed 15 reattempts until 2025-05-25, and 20 from then on."""

    def most(on: date) -> list[int]:
        return [rule.max for rule in rules_of("visa", on) if rule.counts is Counts.ATTEMPTS]

    assert most(date(2021, 1, 1)) == []
    assert most(date(2025, 5, 24)) == [15]
    assert most(date(2025, 5, 25)) == [20]


def test_every_rule_has_a_source_and_a_date() -> None:
    """Nothing in the table is hearsay."""
    assert all(rule.source and rule.checked and rule.why for rule in built_in())


def test_guards_limits_lie_over_the_rules() -> None:
    """What a guard says replaces its rule; what it does not say stays."""
    given_limits = {"max": 30, "window": 20 * DAY, "max_per_day": 4}
    rules = {rule.counts: rule for rule in limited("mastercard", given_limits, NOW.date())}
    assert (rules[Counts.SAME_AMOUNT].max, rules[Counts.SAME_AMOUNT].window) == (30, 20 * DAY)
    assert (rules[Counts.DECLINES].max, rules[Counts.DECLINES].window) == (4, DAY)
    assert Counts.BARRED in rules
    assert [r.max for r in limited("mastercard", {}, NOW.date())] == [10, 35, 1]
    (own,) = limited("amex", {"max": 5, "window": DAY}, NOW.date())
    assert (own.counts, own.max, own.window) == (Counts.ATTEMPTS, 5, DAY)


@pytest.mark.parametrize(
    ("network", "limits", "broken"),
    [
        ("visa", {"max": 20, "window": 30 * DAY}, 0),
        ("visa", {"max": 21, "window": 30 * DAY}, 1),
        ("visa", {"max": 20, "window": 29 * DAY}, 1),
        ("visa", {"max": 5}, 0),
        ("mastercard", {"max": 35, "window": 30 * DAY, "max_per_day": 10}, 0),
        ("mastercard", {"max": 36, "max_per_day": 11}, 2),
        ("amex", {"max": 99, "window": DAY}, 0),
    ],
)
def test_looser_limits_than_the_network_s_are_found(
    network: str, limits: dict[str, object], broken: int
) -> None:
    """A guard that allows more than its network is told so."""
    assert len(looser(network, limits)) == broken


def test_brands_are_called_by_one_name() -> None:
    """Providers write the same network in several ways."""
    assert [called(each) for each in ("Visa", " mc ", "American Express")] == [
        "visa", "mastercard", "amex",
    ]  # fmt: skip
