"""Remarks on the outcomes of payments that no branch is written for, or that nobody reads."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from orch8.blocks.end import End
from orch8.blocks.loop import Loop
from orch8.blocks.router import Router
from orch8.blocks.step import Step
from orch8.definition.money_lint.conditions import Supposed, Test, read_test
from orch8.definition.money_lint.place import Places
from orch8.definition.money_lint.words import is_told, moves_money
from orch8.definition.outline import Node, Outline
from orch8.engine.expressions import Condition, Dialect

Remark = tuple[str, str, str, str]  # pointer within the block, message, hint, code

_NOT_PAID: Final = ("declined", "requires_action")


def branch_remarks(
    found: Outline,
    places: Places,
    references: Mapping[str, frozenset[str]],
    dialect: Dialect,
    named: Collection[Node],
) -> Iterator[tuple[Node, Remark]]:
    """What happens to nobody's knowledge when a payment ends otherwise than hoped.

    Payments in ``named`` have been remarked upon already.
    """
    payments = {n.id: n for n in found.nodes if isinstance(n.block, Step) and moves_money(n.block)}
    read = {each for reads in references.values() for each in reads}
    asked = _Asked(found, payments, dialect)
    if not asked.for_any:
        for node in payments.values():
            if node.id not in read and node not in named and _matters(node, places):
                what = reading(node.given or "", dialect, "outcome")
                left = f"{{{{{what} != 'succeeded'}}}}"
                end = f'{{"type": "end", "outcome": "not_paid", "when": "{left}"}}'
                if places.one_of_many(node):
                    end = f'{{"type": "step", "handler": "fail", "when": "{left}"}}'
                message = "a decline goes on like a success: nothing reads how it ended"
                yield node, ("", message, f"put {end} behind it", "money.outcome_unread")
    for payment, router in asked.last_router.items():
        open_ = [each for each in _NOT_PAID if each not in asked.handled[payment]]
        if open_ and not asked.loops[payment]:
            yield from _missing(payments[payment], router, open_, places, dialect)


def reading(block_id: str, dialect: Dialect, member: str) -> str:
    """The expression that reads a member of a block's output."""
    plain = block_id.isidentifier() or dialect is Dialect.CONTRACT
    return f"outputs.{block_id}.{member}" if plain else f"outputs['{block_id}'].{member}"


class _Asked:
    """Which outcomes of which payments some condition of the document is true for."""

    def __init__(self, found: Outline, payments: Mapping[str, Node], dialect: Dialect) -> None:
        self.handled: defaultdict[str, set[str]] = defaultdict(set)
        self.loops: defaultdict[str, bool] = defaultdict(bool)
        self.last_router: dict[str, Node] = {}
        self.for_any = False  # something asks about payments without naming one
        self._ids = {node.given or "": id_ for id_, node in payments.items()}
        for node in found.nodes:
            block = node.block
            assert block is not None
            self.for_any |= isinstance(block, Step) and is_told(block, node.values)
            self._note(block.when, dialect)
            if isinstance(block, Step) and block.assertion is not None:
                for payment in self._note(block.assertion, dialect):
                    self.handled[payment].update(_NOT_PAID)
            if isinstance(block, Router):
                for condition, _ in block.routes:
                    self._note(condition, dialect, node)
                if block.default is not None:
                    for payment in self._read_by(block):
                        self.handled[payment].update(_NOT_PAID)
            elif isinstance(block, Loop):
                for each in (block.condition, block.break_on):
                    for payment in self._note(each, dialect):
                        self.loops[payment] = True

    def _note(
        self, condition: Condition | None, dialect: Dialect, router: Node | None = None
    ) -> list[str]:
        if condition is None:
            return []
        test = read_test(condition, dialect)
        self.for_any |= test.asks_outside or not test.roots.isdisjoint(("decline", "last_decline"))
        payments = [self._ids[each] for each in condition.outputs if each in self._ids]
        for given in condition.outputs & self._ids.keys():
            held = (o for o in _NOT_PAID if test.holds(Supposed(given, o)) is not False)
            self.handled[self._ids[given]].update(held)
            if router is not None:
                self.last_router[self._ids[given]] = router
        return payments

    def _read_by(self, block: Router) -> set[str]:
        return {
            self._ids[each]
            for condition, _ in block.routes
            for each in condition.outputs
            if each in self._ids
        }


def _missing(
    payment: Node, router: Node, open_: list[str], places: Places, dialect: Dialect
) -> Iterator[tuple[Node, Remark]]:
    what = reading(payment.given or "", dialect, "outcome")
    if not places.followed(router):
        shown = " and ".join(open_)
        message = f'when "{payment.given}" ends as {shown}, nothing happens, and nobody is told'
        hint = 'add {"default": true, "blocks": [{"type": "end", "outcome": "not_paid"}]} to routes'
        yield router, ("/routes", message, hint, "money.outcome_branch")
    elif _passes(payment, router, dialect):
        for each in open_:
            message = f'when "{payment.given}" ends as {each}, it goes on like a success'
            hint = (
                f'add {{"condition": "{{{{{what} == \'{each}\'}}}}", '
                f'"blocks": [{{"type": "end", "outcome": "{each}"}}]}} to routes'
            )
            yield router, ("/routes", message, hint, "money.outcome_branch")


def _passes(payment: Node, router: Node, dialect: Dialect) -> bool:
    """Whether the router only sends away some payments that did not succeed."""
    block = router.block
    assert isinstance(block, Router)
    tests = [read_test(condition, dialect) for condition, _ in block.routes]
    given = payment.given or ""
    return all(_never(test, given) for test in tests) and all(
        _ends(below) for _, below in router.chains
    )


def _never(test: Test, given: str) -> bool:
    return test.holds(Supposed(given, "succeeded")) is False


def _ends(chain: list[Node]) -> bool:
    last = chain[-1].block if chain else None
    return isinstance(last, End) and last.when is None


def _matters(node: Node, places: Places) -> bool:
    return places.followed(node) and not places.undoes(node)
