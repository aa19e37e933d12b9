"""Paths on which somebody who paid loses something, and outcomes that have no path."""

# ruff: noqa: E501 - one case, one line
from __future__ import annotations

from typing import Any

import pytest

from orch8.definition import load
from orch8.definition.money_lint.graph import Change, Graph
from tests.support.documents import seed
from tests.support.money import (
    CHECK,
    DOWN,
    END,
    END_IF_PAID,
    IF_CHECKED,
    MAIL,
    NOT_PAID,
    PAID,
    RETRY,
    SOUND,
    WAIT,
    loop,
    on,
    router,
)

# -- paths on which somebody who paid loses something -------------------------------------------
TRUTH_TESTED = [
    END_IF_PAID,
    {**END, "when": "{{outputs.charge.status in ['succeeded', 'paid']}}"},
    {**END, "when": "{{outputs.charge.paid}}"},
    {**END, "when": "{{not (outputs.charge.outcome == 'declined' or outputs.charge.outcome == 'requires_action')}}"},
    {**END, "when": "{{(outputs.charge.status | lower) == 'ok'}}"},
    {**END, "when": "{{outputs.charge.anything}}"},
    {**END, "when": "{{context.data.invoice_status == 'paid'}}"},
    router((PAID, [END])),
    router((PAID, [END]), ("{{outputs.charge.outcome == 'requires_action'}}", [MAIL])),
    {"type": "step", "handler": "assert", "params": {"condition": NOT_PAID}},
]  # fmt: skip
SAFE: list[list[Any]] = [
    *[[SOUND, test, WAIT, DOWN] for test in TRUTH_TESTED],
    [SOUND, WAIT, {**DOWN, "when": NOT_PAID}],
    [DOWN, SOUND, END_IF_PAID],
    [SOUND, CHECK, IF_CHECKED, DOWN],
    [loop(PAID, SOUND, WAIT), router((PAID, [END]), default=[DOWN])],
    [loop(NOT_PAID, SOUND, END_IF_PAID), DOWN],
    [{"type": "loop", "condition": "{{outputs.charge.outcome != 'succeeded'}}", "max_iterations": 3, "body": [SOUND, END_IF_PAID]}, {**DOWN, "when": NOT_PAID}],
    [SOUND, {"type": "race", "branches": [[{"type": "wait_signal", "signal": "invoice.paid"}, END], [WAIT]]}, DOWN],
    [SOUND, {"type": "step", "handler": "refund", "effect": "external"}, {"type": "step", "handler": "cancel_subscription"}],
    [{"type": "try_catch", "try": [SOUND], "catch": [DOWN]}],
    [{"type": "try_catch", "try": [SOUND, END_IF_PAID, MAIL], "finally": [MAIL]}, DOWN],
    [{"type": "try_catch", "try": [SOUND], "finally": [END_IF_PAID]}, DOWN],
    [SOUND, {"type": "parallel", "branches": [[END_IF_PAID], [MAIL]]}, DOWN],
    [{"type": "saga", "steps": [{"action": SOUND, "compensation": MAIL}, {"action": END_IF_PAID}, {"action": MAIL, "compensation": DOWN}]}],
    [SOUND, router(("{{outputs.charge.outcome == 'declined'}}", [DOWN]), default=[MAIL])],
    [SOUND, END_IF_PAID, {**RETRY}, {**END, "when": "{{outputs.retry.outcome == 'succeeded'}}"}, DOWN],
    [SOUND, {**END, "when": "{{not decline.hard and not decline.soft}}"}, {**DOWN, "when": "{{decline.hard}}"}],
    [{"type": "parallel", "branches": [[SOUND, END_IF_PAID], [DOWN]]}],
    [SOUND, {"type": "sub_sequence", "id": "sub", "sequence": "recover"}, {**END, "when": "{{outputs.sub.recovered}}"}, DOWN],
    [{"type": "for_each", "collection": "{{data.items}}", "max_iterations": 9, "body": [SOUND, {**DOWN, "when": NOT_PAID}]}],
    [SOUND, {"type": "end"}, DOWN],
    [{"type": "try_catch", "try": [{"type": "saga", "steps": [{"action": SOUND, "compensation": MAIL}, {"action": MAIL}]}], "catch": [DOWN]}],
    [SOUND, {"type": "step", "id": "find_it", "handler": "find_charge"}, {**END, "when": "{{outputs.find_it.found}}"}, DOWN],
    [SOUND, {"type": "step", "handler": "fail"}, DOWN],
]  # fmt: skip
ROUTES = "/routes/0/blocks/"
UNSAFE: list[tuple[list[Any], list[str]]] = [
    ([SOUND, WAIT, DOWN], ["/blocks/2"]),
    ([SOUND, MAIL | {"id": "m"}, {**END, "when": "{{outputs.m.ok}}"}, DOWN], ["/blocks/3"]),
    ([{"type": "try_catch", "try": [{"type": "saga", "steps": [{"action": SOUND}, {"action": MAIL}]}], "catch": [DOWN]}], ["/blocks/0/catch/0"]),
    ([{"type": "try_catch", "try": [{"type": "try_catch", "try": [SOUND, MAIL], "finally": [WAIT]}], "catch": [DOWN]}], ["/blocks/0/catch/0"]),
    ([{"type": "try_catch", "try": [{"type": "ab_split", "variants": [{"name": "a", "weight": 1, "blocks": [SOUND, MAIL]}, {"name": "b", "weight": 1, "blocks": []}]}], "catch": [DOWN]}], ["/blocks/0/catch/0"]),
    ([SOUND, {**END, "when": "{{context.data.vip}}"}, DOWN], ["/blocks/2"]),
    ([SOUND, {**END, "when": "{{context.data.payment_method == 'sepa'}}"}, DOWN], ["/blocks/2"]),
    ([CHECK, SOUND, IF_CHECKED, DOWN], ["/blocks/3"]),
    ([SOUND, router((PAID, [MAIL]), default=[MAIL]), DOWN], ["/blocks/2"]),
    ([SOUND, router(("{{outputs.charge.outcome == 'requires_action'}}", [MAIL, END]), default=[DOWN])], ["/blocks/1/default/0"]),
    ([loop(PAID, SOUND, WAIT), DOWN], ["/blocks/1"]),
    ([loop(PAID, DOWN, SOUND)], []),
    ([loop("{{context.data.x}}", DOWN, SOUND)], ["/blocks/0/body/0"]),
    ([{"type": "try_catch", "try": [SOUND, MAIL], "catch": [DOWN]}], ["/blocks/0/catch/0"]),
    ([{"type": "try_catch", "try": [SOUND], "finally": [DOWN]}], ["/blocks/0/finally/0"]),
    ([{"type": "parallel", "branches": [[SOUND], [MAIL]]}, DOWN], ["/blocks/1"]),
    ([{"type": "try_catch", "try": [{"type": "parallel", "branches": [[SOUND], [MAIL]]}], "catch": [DOWN]}], ["/blocks/0/catch/0"]),
    ([{"type": "ab_split", "variants": [{"name": "a", "weight": 1, "blocks": [SOUND]}, {"name": "b", "weight": 1, "blocks": [MAIL]}]}, DOWN], ["/blocks/1"]),
    ([{"type": "cancellation_scope", "blocks": [SOUND]}, DOWN], ["/blocks/1"]),
    ([{"type": "race", "branches": [[SOUND], [WAIT]]}, DOWN], ["/blocks/1"]),
    ([{"type": "saga", "steps": [{"action": SOUND}, {"action": DOWN}]}], ["/blocks/0/steps/1/action"]),
    ([SOUND, {**DOWN, "when": "{{not decline.hard}}"}], ["/blocks/1"]),
    ([SOUND, {"type": "step", "handler": "set_subscription_state", "params": {"state": "canceled"}}], ["/blocks/1"]),
    ([SOUND, {**END, "when": PAID}, {**RETRY, "when": "{{context.data.x}}"}, DOWN], ["/blocks/3"]),
    ([SOUND, {**RETRY, "when": NOT_PAID}, router(("{{outputs.retry.outcome == 'succeeded'}}", [END]), default=[DOWN])], ["/blocks/2/default/0"]),
    ([loop("{{outputs.retry.outcome == 'succeeded'}}", WAIT, RETRY, continue_on_error=True), DOWN], ["/blocks/1"]),
    ([{"type": "for_each", "collection": "{{data.items}}", "max_iterations": 9, "body": [SOUND, DOWN]}], ["/blocks/0/body/1"]),
]  # fmt: skip


@pytest.mark.parametrize("blocks", SAFE, ids=[str(n) for n in range(len(SAFE))])
def test_downgrade_behind_a_test_is_fine(blocks: list[Any]) -> None:
    """Where somebody asked how the payment ended, or who paid has left, nobody is warned."""
    assert not [each for each in on(*blocks) if each[0] in ("downgrade", "charged_again")]


@pytest.mark.parametrize(("blocks", "at"), UNSAFE, ids=[str(n) for n in range(len(UNSAFE))])
def test_downgrade_of_somebody_who_paid_is_found(blocks: list[Any], at: list[str]) -> None:
    """A path from a payment that succeeded to a downgrade is found through every kind of block."""
    assert [pointer for code, pointer in on(*blocks) if code == "downgrade"] == at


def test_interrupt_by_the_payment_answers_for_the_downgrade() -> None:
    """A run that ends as soon as the invoice is paid downgrades nobody who paid."""
    paid = {"signal": "invoice.paid", "blocks": [END]}
    assert on(SOUND, WAIT, DOWN, interrupts=[paid]) == [("outcome_unread", "/blocks/0")]
    other = {"signal": "invoice.voided", "blocks": [END]}
    assert on(SOUND, WAIT, DOWN, interrupts=[other]) == [("downgrade", "/blocks/2")]


AGAIN: list[tuple[list[Any], list[str]]] = [
    ([SOUND, WAIT, RETRY], ["/blocks/2"]),
    ([SOUND, END_IF_PAID, RETRY], []),
    ([SOUND, {**RETRY, "when": NOT_PAID}], []),
    ([SOUND, WAIT, {**SOUND, "id": "b"}], ["/blocks/2"]),
    ([SOUND, WAIT, {**SOUND, "id": "b", "params": {"what": "shipping"}}], []),
    ([loop("{{data.x}}", RETRY)], ["/blocks/0/body/0"]),
    ([loop("{{outputs.retry.outcome == 'succeeded'}}", RETRY)], []),
    ([loop("{{data.x}}", SOUND, WAIT)], []),
    ([router(("{{data.a}}", [SOUND]), default=[{**SOUND, "id": "b"}])], []),
]


@pytest.mark.parametrize(("blocks", "at"), AGAIN, ids=[str(n) for n in range(len(AGAIN))])
def test_second_charge_without_a_look_at_the_first_is_found(
    blocks: list[Any], at: list[str]
) -> None:
    """A retry that also runs after a success charges twice; another purchase or period does not."""
    assert [pointer for code, pointer in on(*blocks) if code == "charged_again"] == at


def test_advice_does_not_end_the_others() -> None:
    """Inside a for_each the advice is a guard, since an end would end the instance."""
    each = {
        "type": "for_each",
        "collection": "{{data.items}}",
        "max_iterations": 9,
        "body": [SOUND, DOWN],
    }
    assert load(seed(each)).warnings[-1].hint == f'"when": "{NOT_PAID}"'


def test_tangled_graph_is_given_up() -> None:
    """What would cost too much to look through earns no remarks at all."""
    graph = Graph()
    start, knot = graph.point(), graph.point()
    graph.way(start, knot, Change(add=1))
    graph.way(knot, knot, Change(turn=tuple((1 << n, 2 << n) for n in range(500))))
    assert graph.solve(start) == [None, None]


# -- outcomes that nobody has thought of ----------------------------------------------------------
DECLINED = "{{outputs.charge.outcome == 'declined'}}"
ACTION = "{{outputs.charge.outcome == 'requires_action'}}"
OUTCOMES: list[tuple[list[Any], list[tuple[str, str]]]] = [
    ([SOUND], []),
    ([SOUND, MAIL], [("outcome_unread", "/blocks/0")]),
    ([{"type": "parallel", "branches": [[SOUND, MAIL]]}], [("outcome_unread", "/blocks/0/branches/0/0")]),
    ([SOUND, {**MAIL, "params": {"how": "{{outputs.charge.outcome}}"}}], []),
    ([SOUND, {"type": "wait_signal", "signal": "payment.succeeded"}], []),
    ([{"type": "saga", "steps": [{"action": MAIL, "compensation": SOUND}]}], []),
    ([{"type": "saga", "steps": [{"action": SOUND}, {"action": MAIL}]}], [("outcome_unread", "/blocks/0/steps/0/action")]),
    ([SOUND, router((PAID, [MAIL]))], [("outcome_branch", "/blocks/1/routes")]),
    ([SOUND, router((PAID, [MAIL]), default=[MAIL])], []),
    ([SOUND, router((PAID, [MAIL]), (DECLINED, [MAIL]), (ACTION, [MAIL]))], []),
    ([SOUND, router((PAID, [MAIL]), (NOT_PAID, [MAIL]))], []),
    ([SOUND, router((PAID, [END])), MAIL], []),
    ([SOUND, router((DECLINED, [END])), MAIL], [("outcome_branch", "/blocks/1/routes")]),
    ([SOUND, router((DECLINED, [END]), (ACTION, [END])), MAIL], []),
    ([loop(PAID, SOUND, router((PAID, [MAIL])))], []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("blocks", "expected"), OUTCOMES, ids=[str(n) for n in range(len(OUTCOMES))]
)
def test_outcome_without_a_branch_is_found(
    blocks: list[Any], expected: list[tuple[str, str]]
) -> None:
    """A decline or a 3-D Secure challenge that nobody handles is pointed out, once."""
    assert on(*blocks) == expected
