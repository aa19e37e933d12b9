"""How often card networks let an instrument be tried: their rules as data, counted exactly.

A rule counts in a window that slides: an attempt leaves it exactly ``window`` after it was sent.
What is not known counts against the budget: an attempt whose end is unknown counts as a decline, an
attempt without a network for every network, one without an amount as any amount.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Any, Final

from orch8.engine.duration import parse_duration
from orch8.engine.outcome import Verdict

VOID: Final = "void"  # the verdict of an attempt that surely never reached the network
DAY: Final = timedelta(days=1)
BARRED: Final = "barred"  # declined in a way that the network forbids to repeat
_ALIASES: Final = {"mc": "mastercard", "american express": "amex", "american_express": "amex"}
_APPROVED: Final = Verdict.SUCCEEDED.value
_NO_DECLINE: Final = frozenset(
    {_APPROVED, Verdict.REQUIRES_ACTION.value, Verdict.FAILED.value, VOID}
)


class Counts(StrEnum):
    """Which attempts a rule counts."""

    ATTEMPTS = "attempts"  # all that were not approved, the first one too
    DECLINES = "declines"
    SAME_AMOUNT = "same_amount"  # declines of the amount that is to be sent
    BARRED = "barred"  # declines after which the network allows no other


@dataclass(frozen=True, slots=True)
class NetworkRule:
    """At most ``max`` of what the rule counts in any ``window`` (None: ever)."""

    network: str
    counts: Counts
    max: int
    window: timedelta | None
    per: tuple[str, ...] = ("instrument", "merchant")
    effective_from: date | None = None
    why: str = ""
    source: str = ""
    checked: str = ""


@dataclass(frozen=True, slots=True)
class NetworkAttempt:
    """One attempt on an instrument; ``at`` is when it was sent first. What is empty is unknown."""

    at: datetime
    network: str = ""
    merchant: str = ""
    amount: int | None = None
    currency: str | None = None
    verdict: str | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """The attempt that is to be sent; what is not given is not told apart."""

    merchant: str | None = None
    amount: int | None = None
    currency: str | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """How many attempts are left (None: no rule counts), the rule that allows none, and when it
    will (None: never).
    """

    left: int | None = None
    exhausted_by: NetworkRule | None = None
    earliest_at: datetime | None = None


ANY: Final = Planned()


def budget_left(
    rules: Iterable[NetworkRule],
    history: Sequence[NetworkAttempt],
    now: datetime,
    planned: Planned = ANY,
) -> Budget:
    """What the rules leave of an instrument with this history, at ``now``.

    Of several exhausted rules the one is named that is so for longest.
    """
    left: int | None = None
    exhausted: NetworkRule | None = None
    earliest: datetime | None = None
    for rule in rules:
        counted = sorted(each.at for each in history if _counts(rule, each, now, planned))
        remains = max(rule.max - len(counted), 0)
        left = remains if left is None else min(left, remains)
        if remains:
            continue
        free_at = _free_at(rule, counted)
        later = earliest is not None and (free_at is None or free_at > earliest)
        if exhausted is None or later:
            exhausted, earliest = rule, free_at
    return Budget(left, exhausted, earliest)


def _counts(rule: NetworkRule, each: NetworkAttempt, now: datetime, planned: Planned) -> bool:
    if each.verdict == VOID or (rule.window is not None and each.at <= now - rule.window):
        return False
    if each.network and each.network != rule.network:
        return False
    if "merchant" in rule.per and _differ(each.merchant, planned.merchant):
        return False
    match rule.counts:
        case Counts.ATTEMPTS:
            return each.verdict != _APPROVED
        case Counts.BARRED:
            return each.verdict == BARRED
        case Counts.DECLINES:
            return each.verdict not in _NO_DECLINE
        case Counts.SAME_AMOUNT:
            return each.verdict not in _NO_DECLINE and _same_amount(each, planned)


def _differ(merchant: str, other: str | None) -> bool:
    return bool(merchant and other) and merchant != other


def _same_amount(each: NetworkAttempt, planned: Planned) -> bool:
    pairs = ((each.amount, planned.amount), (each.currency, planned.currency))
    return all(None in pair or pair[0] == pair[1] for pair in pairs)


def _free_at(rule: NetworkRule, counted: Sequence[datetime]) -> datetime | None:
    """When enough of the attempts, oldest first, have left the window for another one."""
    if rule.window is None or rule.max == 0:
        return None
    return counted[len(counted) - rule.max] + rule.window


# -- the rules -----------------------------------------------------------------------------------
def rules_of(network: str, on: date) -> tuple[NetworkRule, ...]:
    """The rules of a network that hold on a day; none for a network that is not known here."""
    newest: dict[Counts, NetworkRule] = {}
    for rule in built_in():
        starts = rule.effective_from or date.min
        if rule.network != network or starts > on:
            continue
        known = newest.get(rule.counts)
        if known is None or starts >= (known.effective_from or date.min):
            newest[rule.counts] = rule
    return tuple(newest.values())


def networks() -> tuple[str, ...]:
    """The networks whose rules are known."""
    return tuple(dict.fromkeys(rule.network for rule in built_in()))


def longest(rules: Iterable[NetworkRule]) -> timedelta:
    """How far back the rules look, apart from those that look back for ever."""
    return max((rule.window for rule in rules if rule.window is not None), default=timedelta())


@cache
def built_in() -> tuple[NetworkRule, ...]:
    """Every rule that orch8 comes with, also those that are over or not yet in force."""
    text = files("orch8.money").joinpath("data", "networks.json").read_text("utf-8")
    return tuple(_rule(each) for each in json.loads(text)["rules"])


def _rule(given: Mapping[str, Any]) -> NetworkRule:
    window, starts = given["window"], given["effective_from"]
    return NetworkRule(
        given["network"], Counts(given["counts"]), given["max"],
        None if window is None else timedelta(milliseconds=parse_duration(window).total_ms()),
        tuple(given["per"]), None if starts is None else date.fromisoformat(starts),
        given["why"], given["source"], given["checked"],
    )  # fmt: skip


def limited(network: str, given: Mapping[str, Any], on: date) -> tuple[NetworkRule, ...]:
    """The rules of a network on a day, with what a guard says of it laid over them.

    ``given`` may have ``max`` and ``window`` (a timedelta) for the rule with the long window, and
    ``max_per_day`` for the declines of 24 hours.
    """
    rules = {rule.counts: rule for rule in rules_of(network, on)}
    long = Counts.SAME_AMOUNT if Counts.SAME_AMOUNT in rules else Counts.ATTEMPTS
    base = rules.get(long, NetworkRule(network, long, 0, None))
    if "max" in given or "window" in given:
        rules[long] = replace(
            base, max=given.get("max", base.max), window=given.get("window", base.window),
            why="as the guard says", source="", checked="",
        )  # fmt: skip
    if "max_per_day" in given:
        rules[Counts.DECLINES] = NetworkRule(
            network, Counts.DECLINES, given["max_per_day"], DAY, why="as the guard says"
        )
    return tuple(rules.values())


def looser(network: str, given: Mapping[str, Any]) -> list[NetworkRule]:
    """The network's own rules, as they were last changed, that a guard's limits would break."""
    mine = {rule.counts: rule for rule in limited(network, given, date.max)}
    return [
        rule
        for rule in rules_of(network, date.max)
        if rule.window is not None
        and (mine[rule.counts].max > rule.max or (mine[rule.counts].window or DAY) < rule.window)
    ]


def called(network: str) -> str:
    """The name by which the rules know a network; brands are written in several ways."""
    name = network.strip().lower()
    return _ALIASES.get(name, name)
