"""guard: what may be published, and how a loop ends with it."""

from __future__ import annotations

from typing import Any

import pytest

from orch8.blocks.loop import Loop
from orch8.blocks.step import Step
from orch8.engine.outcome import COMPLETED, broken_off
from tests.support.definitions import chain
from tests.support.documents import CHARGE, loaded, only, refusal, seed
from tests.support.shell import started

BUDGET = {"instrument": "{{data.card}}", "visa": {"max": 20, "window": "30d"}}
GUARD = {"type": "guard", "id": "budget", "network_budget": BUDGET}
BREAK = {**GUARD, "on_exhausted": "break"}


PAY = {
    "type": "step", "handler": "charge", "effect": "money",
    "money": {"amount": 5, "currency": "EUR", "instrument": "{{data.card}}"},
}  # fmt: skip


def loop(*body: Any) -> dict[str, Any]:
    """A loop of these blocks."""
    return {"type": "loop", "id": "again", "max_iterations": 3, "body": list(body)}


def test_guard_is_a_step_of_the_handler_guard() -> None:
    """The budget's templates and limits are its params; without a word it fails when exhausted."""
    block = only(GUARD)
    assert isinstance(block, Step)
    assert (block.handler, block.effect, block.assertion) == ("guard", None, None)
    assert block.params is not None
    assert block.params.roots == {"data"}


def test_guard_can_have_a_condition_instead() -> None:
    """The condition is compiled when it is published."""
    block = only({"type": "guard", "condition": "{{not decline.hard}}"})
    assert isinstance(block, Step)
    assert block.assertion is not None


@pytest.mark.parametrize(
    ("block", "pointer"),
    [
        ({"type": "guard"}, ""),
        ({**GUARD, "condition": "{{true}}"}, ""),
        ({"type": "guard", "network_budget": {}}, "/network_budget/instrument"),
        ({**GUARD, "on_exhausted": "stop"}, "/on_exhausted"),
        (BREAK, "/on_exhausted"),
        ({"type": "guard", "condition": "{{true}}", "on_exhausted": "defer"}, "/on_exhausted"),
        ({"type": "guard", "condition": "{{nope.x}}"}, "/condition"),
        ({**GUARD, "network_budget": {**BUDGET, "amount": "{{1 +}}"}}, "/network_budget/amount"),
        ({**GUARD, "network_budget": {**BUDGET, "visa": {"max": 0}}}, "/network_budget/visa/max"),
        ({**GUARD, "network_budget": {**BUDGET, "vissa": {}}}, "/network_budget/vissa"),
        ({**GUARD, "network_budget": {**BUDGET, "amex": {"max": 3}}}, "/network_budget/amex"),
        (
            {**GUARD, "network_budget": {**BUDGET, "visa": {"window": "1 moon"}}},
            "/network_budget/visa/window",
        ),
        ({"type": "step", "handler": "guard"}, "/handler"),
    ],
)
def test_guard_that_says_nothing_sensible_is_refused(block: Any, pointer: str) -> None:
    """The problem names the member."""
    _, problems = refusal(seed(block))
    assert [each.pointer for each in problems] == [f"/blocks/0{pointer}"]


def test_break_is_refused_where_no_loop_can_take_it() -> None:
    """Only a loop takes a break, and only routers and splits let it through."""
    catch = {"type": "try_catch", "id": "t", "try_block": [BREAK], "catch_block": [CHARGE]}
    _, problems = refusal(seed(loop(catch)))
    assert [each.pointer for each in problems] == ["/blocks/0/body/0/try_block/0/on_exhausted"]
    assert "try_catch" in problems[0].message
    each = {"type": "for_each", "id": "e", "collection": "{{data.items}}", "body": [BREAK]}
    _, problems = refusal(seed(each))
    assert "for_each" in problems[0].message


def test_break_goes_through_a_router() -> None:
    """A guard in a route of a loop ends that loop."""
    routes = [{"condition": "{{data.a}}", "blocks": [BREAK]}, {"default": True, "blocks": []}]
    assert loaded(loop({"type": "router", "id": "r", "routes": routes}, CHARGE))


def test_limits_above_the_network_s_are_told() -> None:
    """It is published, with a warning that names the network's own bound."""
    budget = {**BUDGET, "visa": {"max": 25, "window": "30d"}, "mastercard": {"max_per_day": 12}}
    warnings = loaded({**GUARD, "network_budget": budget}, PAY).warnings
    told = [(each.pointer, each.code) for each in warnings if each.pointer.startswith("/blocks/0")]
    assert told == [
        ("/blocks/0/network_budget/mastercard", "over_budget"),
        ("/blocks/0/network_budget/visa", "over_budget"),
    ]


def test_budget_that_nothing_counts_against_is_told() -> None:
    """A guard in a sequence whose steps name no instrument would always say yes."""
    assert [each.code for each in loaded(GUARD).warnings] == ["uncounted"]
    assert "uncounted" not in [each.code for each in loaded(GUARD, PAY).warnings]


def test_decline_can_be_read_without_a_warning() -> None:
    """decline and last_decline are provided."""
    step = {
        **CHARGE,
        "effect": "read",
        "when": "{{not decline.hard}}",
        "not_before": "{{last_decline.at}}",
    }
    assert not loaded(step).warnings


def test_loop_that_is_broken_off_completes() -> None:
    """The rest of the iteration does not run, what follows does, and nothing can be revived."""
    shell = started(
        Loop(id="loop", body=chain("b", "budget", "pay"), max_iterations=5, continue_on_error=True),
        "after",
        answers=lambda key: broken_off("used up") if str(key) == "budget[1]" else COMPLETED,
    )
    assert shell.run() == COMPLETED
    assert shell.scheduled == ["budget[0]", "pay[0]", "budget[1]", "after"]
    assert shell.snapshot.dormant == {}


def test_inner_loop_takes_the_break() -> None:
    """Of two loops the nearest ends."""
    inner = Loop(id="inner", body=chain("ib", "budget"), max_iterations=5)
    shell = started(
        Loop(id="outer", body=chain("ob", inner, "next"), max_iterations=2),
        answers=lambda key: broken_off("used up") if key.block_id == "budget" else COMPLETED,
    )
    assert shell.run() == COMPLETED
    assert shell.scheduled == ["budget[0,0]", "next[0]", "budget[1,0]", "next[1]"]
