"""What a step says about money: its key, its fence, its amount, and what to do when in doubt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from orch8.blocks.fields import Anything, Choice, Many, Object, Part, Span, Text, Whole, escape
from orch8.blocks.schema import Base, Draft
from orch8.engine.outcome import Verdict
from orch8.money.outcome_map import read_rules

if TYPE_CHECKING:
    from orch8.engine.expressions import Template
    from orch8.money.evidence import Rule


class Policy(StrEnum):
    """What is done about an attempt whose outcome is unknown."""

    RETRY_SAME_KEY = "retry_same_key"
    RECONCILE = "reconcile"
    PARK = "park"


class OnFence(StrEnum):
    """What a step does that finds another behind its fence."""

    WAIT = "wait"
    FAIL = "fail"
    SUPERSEDE = "supersede"  # take over from one that only waits for its customer


SCHEDULE: Final = tuple(
    timedelta(seconds=s) for s in (30, 300, 3600, 6 * 3600, *[24 * 3600] * 5)
)  # IN_DOUBT rule 7
SETTLE_DELAY: Final = 300.0
CONFIRMATIONS: Final = 2


@dataclass(frozen=True, slots=True)
class OnUnknown:
    """How an attempt in doubt is resolved.

    ``schedule`` are the waits between questions to ``handler``; an answer that it did not happen
    counts from ``settle_delay`` seconds after the last dispatch on, and ``confirmations`` times in
    all. ``signals`` maps names of signals to the outcome that they tell of.
    """

    policy: Policy
    handler: str | None = None
    schedule: tuple[timedelta, ...] = SCHEDULE
    settle_delay: float = SETTLE_DELAY
    confirmations: int = CONFIRMATIONS
    then: Policy = Policy.PARK
    signals: Mapping[str, Verdict] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Idempotency:
    """Which key a step's calls carry, and where."""

    header: str | None = None  # None: Idempotency-Key
    field: str | None = None  # a dotted path in the params that the key is written to
    key: Template | None = None  # None: derived
    ttl: float | None = None  # seconds that the provider keeps it; None: the preset's, else a day
    replay: str | None = None
    per_iteration: bool = False  # the generation does not change the key


KEY_HEADER: Final = "Idempotency-Key"
_TELLS: Final = (Verdict.SUCCEEDED, Verdict.DECLINED, Verdict.REQUIRES_ACTION, Verdict.FAILED)


class IdempotencySchema(Base):
    """Which key a call carries, and what the provider does with it."""

    header = Text(blank=False, longest=100)
    field = Text(blank=False, longest=200)
    key = Text(blank=False)
    ttl = Span(fixed=True, positive=True)
    replay = Choice("returns_first_result", "only_success", "conflict_means_exists", "none")
    scope = Choice("attempt", "iteration")


class OnUnknownSchema(Base):
    """What to do about a call whose outcome is unknown."""

    policy = Choice(*Policy, required=True)
    handler = Text(blank=False, longest=200)
    schedule = Many(Span(fixed=True, positive=True), least=1, most=100)
    settle_delay = Span(fixed=True)
    confirmations = Whole(least=1, most=100)
    then = Choice(Policy.RECONCILE, Policy.PARK)
    signals = Object()


class MoneySchema(Base):
    """The amount that a step moves, in minor units, and what card networks count it by."""

    amount = Anything(required=True)
    currency = Text(required=True, blank=False)
    instrument = Text(blank=False)
    network = Text(blank=False)
    merchant = Text(blank=False)


class MoneyMembers(Base):
    """The members of a step that say how its money is kept safe."""

    fence = Text(blank=False, longest=1000)
    on_fence = Choice(*OnFence)
    money = Part(MoneySchema)
    idempotency = Part(IdempotencySchema)
    on_unknown = Part(OnUnknownSchema)
    outcome_map = Anything()


def read_money(draft: Draft) -> dict[str, Any]:
    """The members of a Step that its draft's money members come to."""
    values = draft.values
    if "on_fence" in values and "fence" not in values:
        hint = 'add "fence": "invoice:{{context.data.invoice_id}}"'
        draft.problem("/on_fence", "on_fence says nothing without a fence", hint)
    return {
        "fence": draft.template(values.get("fence"), "/fence"),
        "on_fence": OnFence(values.get("on_fence", OnFence.WAIT)),
        "money": draft.template(draft.raw.get("money"), "/money"),
        "idempotency": _idempotency(draft),
        "on_unknown": _on_unknown(draft),
        "outcome_map": _outcome_map(draft),
    }


def _outcome_map(draft: Draft) -> tuple[Rule, ...]:
    given = draft.values.get("outcome_map")
    if given is None:
        return ()
    rules, problems = read_rules(given)
    for each in problems:
        at = f"/outcome_map{each.pointer}"
        draft.problem(at, each.message, each.hint, code=each.code, shape=each.shape)
    return rules


def _idempotency(draft: Draft) -> Idempotency:
    given = draft.values.get("idempotency")
    if given is None:
        return NO_KEY_WISHES
    header, key, ttl = given.get("header"), given.get("key"), given.get("ttl")
    if header is not None and not _TOKEN.issuperset(header):
        draft.problem("/idempotency/header", f"{header[:60]!r} is no header name")
    return Idempotency(
        header,
        given.get("field"),
        draft.template(key, "/idempotency/key") if key != "auto" else None,
        ttl.total_ms() / 1000 if ttl else None,
        given.get("replay"),
        given.get("scope") == "iteration",
    )


def _on_unknown(draft: Draft) -> OnUnknown | None:
    given = draft.values.get("on_unknown")
    if given is None or "policy" not in given:
        return None
    policy, handler = Policy(given["policy"]), given.get("handler")
    then = Policy(given.get("then", Policy.PARK))
    if handler is None and Policy.RECONCILE in (policy, then):
        hint = 'name the step\'s read handler: "handler": "find_charge"'
        draft.problem("/on_unknown/handler", "reconcile needs a handler to ask", hint)
    if policy is Policy.RECONCILE is then:
        hint = 'after reconcile only "then": "park" is left'
        draft.problem("/on_unknown/then", "it reconciles already", hint)
    schedule = tuple(timedelta(milliseconds=s.total_ms()) for s in given.get("schedule") or ())
    settle_delay = given.get("settle_delay")
    return OnUnknown(
        policy,
        handler,
        schedule or SCHEDULE,
        SETTLE_DELAY if settle_delay is None else settle_delay.total_ms() / 1000,
        given.get("confirmations", CONFIRMATIONS),
        then,
        dict(_signals(draft, given.get("signals") or {})),
    )


def _signals(draft: Draft, given: Mapping[str, Any]) -> Any:
    for name, outcome in given.items():
        if outcome in _TELLS:
            yield name, Verdict(outcome)
        else:
            hint = f"use one of {', '.join(_TELLS)}"
            at = f"/on_unknown/signals/{escape(name)}"
            draft.problem(at, f"{str(outcome)[:60]!r} is no outcome", hint)


NO_KEY_WISHES: Final = Idempotency()
_TOKEN: Final = frozenset(
    "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)
