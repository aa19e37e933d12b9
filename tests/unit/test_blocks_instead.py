"""What stands in for a step's call: an output that is kept under a key, and a fallback handler."""

from __future__ import annotations

import pytest

from orch8.blocks.money import Policy
from tests.support.documents import CHARGE, loaded, refusal, seed, step


def test_step_without_them_has_none() -> None:
    """Neither a key nor a fallback."""
    plain = step()
    assert (plain.cache_key, plain.fallback) == (None, None)


def test_cache_key_is_a_template() -> None:
    """Rendered when the step is called."""
    made = step(cache_key="rate:{{data.currency}}")
    assert made.cache_key is not None
    assert not made.cache_key.is_constant


@pytest.mark.parametrize("effect", ["money", "irrevocable"])
def test_cache_key_is_refused_where_money_moves(effect: str) -> None:
    """An earlier charge is none of this step's."""
    status, (problem,) = refusal(seed({**CHARGE, "cache_key": "k", "effect": effect}))
    assert (status, problem.pointer) == (400, "/blocks/0/cache_key")


@pytest.mark.parametrize("member", ["cache_key", "fallback_handler"])
@pytest.mark.parametrize("value", [" ", 7])
def test_member_that_says_nothing_is_refused(member: str, value: object) -> None:
    """A blank, or no text."""
    _, (problem,) = refusal(seed({**CHARGE, member: value}))
    assert problem.pointer == f"/blocks/0/{member}"


def test_fallback_is_the_step_with_another_handler() -> None:
    """What is said of the provider is said of the step's own handler alone."""
    made = step(
        fallback_handler="spare", provider="stripe", params={"n": 1}, effect="external",
        outcome_map=[{"status": 409, "outcome": "succeeded"}],
    )  # fmt: skip
    spare = made.fallback
    assert spare is not None
    assert (made.handler, made.provider, len(made.outcome_map)) == ("charge", "stripe", 1)
    assert (spare.handler, spare.provider, spare.outcome_map) == ("spare", None, ())
    assert (spare.id, spare.params, spare.on_unknown) == (made.id, made.params, None)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({"policy": "reconcile", "handler": "find"}, Policy.PARK),
        ({"policy": "park"}, Policy.PARK),
        ({"policy": "retry_same_key", "then": "reconcile", "handler": "find"},
         Policy.RETRY_SAME_KEY),
    ],
)  # fmt: skip
def test_nobody_is_asked_about_the_fallback(policy: object, expected: Policy) -> None:
    """The read handler knows the other provider: what it does not find there says nothing."""
    spare = step(fallback_handler="spare", effect="money", on_unknown=policy).fallback
    assert spare is not None
    assert spare.on_unknown is not None
    assert (spare.on_unknown.policy, spare.on_unknown.handler) == (expected, None)
    assert spare.on_unknown.then is Policy.PARK


@pytest.mark.parametrize(("ttl", "expected"), [("30d", 86_400.0), ("30m", 1_800.0), (None, None)])
def test_keys_of_the_fallback_are_believed_for_a_day_at_most(
    ttl: str | None, expected: float | None
) -> None:
    """How long its provider keeps them nobody said."""
    spare = step(fallback_handler="spare", idempotency={"ttl": ttl} if ttl else {}).fallback
    assert spare is not None
    assert spare.idempotency.ttl == expected


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"effect": "money", "provider": "stripe_v1"}, True),
        ({"effect": "money", "on_unknown": {"policy": "reconcile", "handler": "find"}}, True),
        ({"effect": "money", "on_unknown": {"policy": "park"}}, False),
        ({"effect": "money"}, False),
        ({"effect": "read", "provider": "stripe_v1"}, False),
    ],
)
def test_publisher_is_told_what_is_not_believed_of_the_fallback(
    members: dict[str, object], told: bool
) -> None:
    """Where a call of it in doubt would need a person."""
    warnings = loaded({**CHARGE, "fallback_handler": "spare", **members}).warnings
    assert ("fallback" in {each.code for each in warnings}) is told


def test_fallback_to_the_handler_itself_is_refused() -> None:
    """It is down, too."""
    status, (problem,) = refusal(seed({**CHARGE, "fallback_handler": "charge"}))
    assert (status, problem.pointer) == (400, "/blocks/0/fallback_handler")
