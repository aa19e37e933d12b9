"""What is put in the place of a step's call: an output that is kept, or another handler."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from orch8.blocks.money import OnUnknown, Policy

if TYPE_CHECKING:
    from orch8.blocks.schema import Draft
    from orch8.blocks.step import Step
    from orch8.engine.expressions import Template

_MOVES_MONEY: Final = frozenset({"money", "irrevocable"})
_DAY: Final = 86_400.0  # seconds for which a key is believed of whose provider nothing is said


def read_cache_key(draft: Draft) -> Template | None:
    """The key under which the step's output is kept; refused where a call moves money, since an
    earlier charge is none of this step's.
    """
    given = draft.values.get("cache_key")
    if given is None:
        return None
    effect = draft.values.get("effect")
    if effect in _MOVES_MONEY:
        draft.problem(
            "/cache_key", f"a step with effect {effect} is never answered from a cache",
            "leave cache_key out: what has run is not called again, and outputs.<id> reads it",
        )  # fmt: skip
    return draft.template(given, "/cache_key")


def with_fallback(step: Step, draft: Draft) -> Step:
    """The step, and what it is while it calls its fallback_handler.

    What it says of its provider is said of its own handler: answers of the fallback are read by the
    general table, its keys are believed for a day at most, and nobody is asked about them who only
    knows the other provider. An attempt in doubt that was to be reconciled is parked.
    """
    name = draft.values.get("fallback_handler")
    if name is None:
        return step
    if name == step.handler:
        message = "fallback_handler is the step's own handler"
        draft.problem("/fallback_handler", message, "name another one, or leave it out")
    unknown, ttl = step.on_unknown, step.idempotency.ttl
    known = step.provider or (unknown and unknown.handler)
    if known and draft.values.get("effect") in _MOVES_MONEY:
        message = "provider, outcome_map and the read handler are not believed of the fallback"
        hint = "watch for its attempts in doubt: nobody is asked about them, a person decides"
        draft.warn("/fallback_handler", message, hint, code="fallback")
    if unknown is not None:
        resend = unknown.policy is Policy.RETRY_SAME_KEY
        policy = Policy.RETRY_SAME_KEY if resend else Policy.PARK
        unknown = OnUnknown(policy, signals=unknown.signals)
    idempotency = replace(step.idempotency, ttl=None if ttl is None else min(ttl, _DAY))
    fallback = replace(
        step, handler=name, provider=None, outcome_map=(), on_unknown=unknown,
        idempotency=idempotency,
    )  # fmt: skip
    return replace(step, fallback=fallback)
