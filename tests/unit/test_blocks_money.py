"""What a step says about its money is understood, or refused with what to write instead."""

from __future__ import annotations

from typing import Any

import pytest

from orch8.blocks.money import OnUnknown, Policy
from orch8.blocks.step import Step
from orch8.definition import load
from orch8.engine.outcome import Verdict
from orch8.errors import Orch8Error


def step(**members: Any) -> Step:
    """The step that these members describe."""
    block = {"type": "step", "id": "charge", "handler": "charge", "effect": "money", **members}
    found = load({"id": "t", "blocks": [block]}).index["charge"]
    assert isinstance(found, Step)
    return found


def test_outcome_map_is_read_into_rules() -> None:
    """A step may say what answers mean, before its provider's table does."""
    (rule,) = step(outcome_map=[{"status": 409, "outcome": "succeeded"}]).outcome_map
    assert rule.verdict is Verdict.SUCCEEDED


def test_on_unknown_has_the_defaults_of_the_specification() -> None:
    """Questions after 30 s, 5 min, 1 h, 6 h and daily; a no counts after 5 min, the second time."""
    wanted = step(on_unknown={"policy": "reconcile", "handler": "find"}).on_unknown
    assert wanted == OnUnknown(Policy.RECONCILE, "find")
    assert wanted is not None
    assert [each.total_seconds() for each in wanted.schedule[:3]] == [30, 300, 3600]
    assert (len(wanted.schedule), wanted.settle_delay, wanted.confirmations) == (9, 300.0, 2)


@pytest.mark.parametrize(
    ("members", "pointer", "said"),
    [
        ({"outcome_map": [{"outcome": "maybe"}]}, "/outcome_map/0", "outcome"),
        ({"outcome_map": 7}, "/outcome_map", "outcome_map"),
        ({"idempotency": {"header": "not a name"}}, "/idempotency/header", "header name"),
        ({"on_unknown": {"policy": "reconcile"}}, "/on_unknown/handler", "needs a handler"),
        (
            {"on_unknown": {"policy": "reconcile", "handler": "f", "then": "reconcile"}},
            "/on_unknown/then",
            "already",
        ),
        (
            {"on_unknown": {"policy": "park", "signals": {"paid": "perhaps"}}},
            "/on_unknown/signals/paid",
            "no outcome",
        ),
        ({"on_fence": "wait"}, "/on_fence", "without a fence"),
    ],
)
def test_what_cannot_be_meant_is_refused(members: Any, pointer: str, said: str) -> None:
    """The answer names the member and says what is wrong with it."""
    with pytest.raises(Orch8Error) as refused:
        step(**members)
    places = {each.pointer: each.message for each in refused.value.errors}
    at = next(place for place in places if place.startswith(f"/blocks/0{pointer}"))
    assert said in places[at]
