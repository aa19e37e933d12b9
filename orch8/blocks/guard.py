"""guard: goes on only within the card networks' budgets, or while a condition holds."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from orch8.blocks.fields import Anything, Choice, Part, Span, Text, Whole
from orch8.blocks.schema import Base, Draft
from orch8.blocks.step import LeafSchema, Step, read_leaf
from orch8.money.networks import looser, networks

HANDLER: Final = "guard"
MOST: Final = 1000  # attempts that a guard can count to
BREAK: Final = "break"
DEFER: Final = "defer"
ON_EXHAUSTED: Final = (BREAK, "fail", DEFER, "continue")


class LimitSchema(Base):
    """What a guard says of one network, in place of the network's own rules."""

    max = Whole(least=1, most=MOST)
    window = Span(fixed=True, positive=True)
    max_per_day = Whole(least=1, most=MOST)


class NetworkBudgetSchema(Base):
    """The instrument whose attempts are counted, and the limits of each network."""

    instrument = Text(required=True, blank=False)
    network = Text(blank=False)
    merchant = Text(blank=False)
    amount = Anything()
    currency = Text(blank=False)
    visa = Part(LimitSchema)
    mastercard = Part(LimitSchema)
    amex = Part(LimitSchema)
    diners = Part(LimitSchema)
    discover = Part(LimitSchema)
    elo = Part(LimitSchema)
    jcb = Part(LimitSchema)
    unionpay = Part(LimitSchema)


_LIMITS: Final = tuple(
    name for name, member in NetworkBudgetSchema().fields.items() if isinstance(member, Part)
)


class GuardSchema(LeafSchema):
    """``{"type": "guard", "network_budget": {...}, "on_exhausted": "break"}``."""

    type = "guard"
    block = Step

    network_budget = Part(NetworkBudgetSchema)
    condition = Text(blank=False)
    on_exhausted = Choice(*ON_EXHAUSTED)

    def build(self, draft: Draft) -> Step:
        values, raw = draft.values, draft.raw
        if ("network_budget" in raw) == ("condition" in raw):
            hint = 'such as "network_budget": {"instrument": "{{context.data.card_fingerprint}}"}'
            draft.problem("", "guard needs a network_budget or a condition, one of them", hint)
        on_exhausted = values.get("on_exhausted", "fail")
        if on_exhausted == DEFER and "condition" in raw:
            hint = "use break, fail or continue"
            draft.problem("/on_exhausted", "nobody knows when the condition will hold", hint)
        params: dict[str, Any] = {"on_exhausted": on_exhausted}
        if isinstance(raw.get("network_budget"), dict):
            params["network_budget"] = _budget(draft, values.get("network_budget") or {})
        return Step(
            handler=HANDLER,
            params=draft.template(params, ""),
            assertion=draft.condition(values.get("condition"), "/condition"),
            **read_leaf(draft),
        )


def check_params(draft: Draft) -> None:
    """Note that a step cannot be a guard: it would not say what it guards."""
    draft.problem("/handler", '"guard" is a block', 'write {"type": "guard", ...}')


def _budget(draft: Draft, given: Mapping[str, Any]) -> dict[str, Any]:
    """The budget as the runtime reads it: templates, and the limits by network, in milliseconds."""
    budget = {name: value for name, value in given.items() if name not in _LIMITS}
    budget["limits"] = {
        name: {
            member: value if member != "window" else value.total_ms()
            for member, value in given[name].items()
            if value is not None
        }
        for name in _LIMITS
        if given.get(name) is not None
    }
    for name, limits in budget["limits"].items():
        _check(draft, name, limits)
    return budget


def _check(draft: Draft, network: str, limits: Mapping[str, Any]) -> None:
    at = f"/network_budget/{network}"
    if network not in networks() and ("max" in limits) != ("window" in limits):
        hint = 'such as {"max": 20, "window": "30d"}'
        draft.problem(at, f"no rules of {network} are known: say max and window", hint)
        return
    for rule in looser(network, spans(limits)):
        days = (rule.window or timedelta()).total_seconds() / 86_400
        hint = f"the network charges for more: {rule.source}"
        message = f"{network} allows {rule.max} {rule.counts} in {days:g} days, not more"
        draft.warn(at, message, hint, code="over_budget")


def spans(limits: Mapping[str, Any]) -> dict[str, Any]:
    """The limits of one network with their window as a span of time."""
    window = limits.get("window")
    return {**limits, "window": timedelta(milliseconds=window)} if window else dict(limits)
