"""Which step can still run although a payment before it succeeded: data flow over the outline.

Each payment has two bits: "it may be the latest, and whether it succeeded is open", and "it is the
latest, and it succeeded". Steps and conditions change them, branches unite them, and loops are gone
round until nothing changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from orch8.blocks.end import End
from orch8.blocks.for_each import ForEach
from orch8.blocks.loop import Loop
from orch8.blocks.parallel import Parallel
from orch8.blocks.race import Race
from orch8.blocks.router import Router
from orch8.blocks.saga import Saga
from orch8.blocks.schema import Slot
from orch8.blocks.step import Step
from orch8.blocks.sub_sequence import SubSequence
from orch8.blocks.try_catch import TryCatch
from orch8.definition.money_lint.conditions import Supposed, Test, read_test
from orch8.definition.money_lint.graph import NOTHING, SAME, Change, Graph
from orch8.definition.money_lint.words import (
    asks,
    collects,
    gives_back,
    is_told,
    same_call,
    takes_away,
    tries_again,
)
from orch8.definition.outline import Node, Outline
from orch8.engine.expressions import Condition, Dialect

_MOST_NAMED: Final = 3  # payments named for one step
_CANNOT_FAIL: Final = frozenset({"wait", "noop", "log", "sleep"})


@dataclass(frozen=True, slots=True)
class Danger:
    """``node`` can run although ``payment`` succeeded.

    ``known`` says whether a condition has even found out that it did; else none settles it.
    ``again`` says that the node charges once more; else it takes something away.
    """

    node: Node
    payment: Node
    known: bool
    again: bool


def dangers(found: Outline, dialect: Dialect) -> Iterator[Danger]:
    """Every step that may take away from, or charge again, a customer who has paid.

    A step is named at most three times, with the first payments of the document.
    """
    payments = [n for n in found.nodes if isinstance(n.block, Step) and collects(n.block)]
    if not payments:
        return
    flow = _Flow(found, payments, dialect)
    start = flow.graph.point()
    for chain in (found.top, *(_below(each) for each in found.interrupts)):
        flow.chain(chain, start, None)
    bits = flow.graph.solve(start)
    for node, point, mask in flow.watched:
        here = (bits[point] or 0) & mask
        for _ in range(_MOST_NAMED):
            if here:
                number, known = divmod((here & -here).bit_length() - 1, 2)
                yield Danger(node, payments[number], bool(known), node in flow.numbers)
                here &= ~(3 << (2 * number))


class _Flow:
    """The graph of a document on its way, and the steps to look at when it is solved."""

    def __init__(self, found: Outline, payments: Sequence[Node], dialect: Dialect) -> None:
        self.graph = Graph()
        self.watched: list[tuple[Node, int, int]] = []  # node, point before it, bits that matter
        self.numbers = {node: number for number, node in enumerate(payments)}
        self._payments, self._dialect = payments, dialect
        self._before: dict[str, int] = {}  # block id -> bits of the payments written before it
        self._by_id: dict[str, Node] = {}
        seen = 0
        for node in found.nodes:
            self._by_id[node.given or ""] = node
            self._before[node.given or ""] = (1 << (2 * seen)) - 1
            seen += node in self.numbers
        self._debts: dict[str, int] = {}
        for number, node in enumerate(payments):
            debt = _debt(node)
            self._debts[debt] = self._debts.get(debt, 0) | 3 << (2 * number)

    def chain(self, nodes: Sequence[Node], at: int, fails: int | None) -> int:
        """The point behind the blocks; whatever fails on the way goes to ``fails``."""
        for node in nodes:
            at = self._block(node, at, fails)
        return at

    def _block(self, node: Node, at: int, fails: int | None) -> int:
        block, behind = node.block, self.graph.point()
        if block is not None and block.when is not None:
            run, skip = self._ask(block.when)
            inside = self.graph.point()
            self.graph.way(at, behind, skip)
            self.graph.way(at, inside, run)
            at = inside
        match block:
            case Step():
                self._step(node, block, at, behind, fails)
            case End():
                pass
            case Router():
                self._router(node, block, at, behind, fails)
            case Loop():
                self._loop(node, block, at, behind, fails)
            case ForEach():
                each = self.graph.point()
                self.graph.way(at, each)
                self.graph.way(self.chain(_below(node), each, fails), each)
                self.graph.way(each, behind)
            case Parallel():
                self._parallel(node, at, behind, fails)
            case Race():
                self._race(node, at, behind, fails)
            case TryCatch():
                self._try_catch(node, at, behind, fails)
            case Saga():
                self._saga(node, at, behind, fails)
            case _:
                self._other(node, at, behind, fails)
        return behind

    def _step(self, node: Node, step: Step, at: int, behind: int, fails: int | None) -> None:
        number, params = self.numbers.get(node), node.values.get("params")
        broken = SAME  # what a failure leaves of the bits
        if number is not None:
            mine = 3 << (2 * number)
            mask = -1 if tries_again(step.handler) else self._debts[_debt(node)] & ~mine
            self.watched.append((node, at, mask))
            change = Change(keep=0, add=1 << (2 * number))
        elif takes_away(step, params):
            self.watched.append((node, at, -1))
            change = SAME
        elif step.assertion is not None:
            change, broken = self._ask(step.assertion)
        else:
            change = NOTHING if gives_back(step) or is_told(step, node.values) else SAME
            broken = change
        if step.handler != "fail":
            self.graph.way(at, behind, change)
        if fails is not None and step.handler not in _CANNOT_FAIL:
            self.graph.way(at, fails, broken)

    def _router(self, node: Node, block: Router, at: int, behind: int, fails: int | None) -> None:
        chains = {slot.name: below for slot, below in node.chains}
        for i, (condition, _) in enumerate(block.routes):
            taken, passed = self._ask(condition)
            inside, onward = self.graph.point(), self.graph.point()
            self.graph.way(at, inside, taken)
            self.graph.way(at, onward, passed)
            self.graph.way(self.chain(chains.get(str(i), []), inside, fails), behind)
            at = onward
        self.graph.way(self.chain(chains.get("default", []), at, fails), behind)

    def _loop(self, node: Node, block: Loop, at: int, behind: int, fails: int | None) -> None:
        head, inside, after = self.graph.point(), self.graph.point(), self.graph.point()
        self.graph.way(at, head)
        if block.condition is not None:
            goes_on, ends = self._ask(block.condition)
            self.graph.way(head, inside, goes_on)
            self.graph.way(head, behind, ends)
        else:
            self.graph.way(head, inside)
        body = self.chain(_below(node), inside, after if block.continue_on_error else fails)
        self.graph.way(body, after)
        again = after
        if block.break_on is not None:
            ends, goes_on = self._ask(block.break_on)
            again = self.graph.point()
            self.graph.way(after, behind, ends)
            self.graph.way(after, again, goes_on)
        self.graph.way(again, head)
        self.graph.way(again, behind)  # max_iterations

    def _parallel(self, node: Node, at: int, behind: int, fails: int | None) -> None:
        failed = self.graph.point()
        exits = tuple(self.chain(below, at, failed) for _, below in node.chains)
        for each in exits:  # it fails as a whole although this branch went well
            self.graph.way(each, failed)
        if fails is not None:
            self.graph.way(failed, fails)
        inside = self._within([below for _, chain in node.chains for below in chain])
        self.graph.way(self.graph.meeting(exits, inside), behind)

    def _race(self, node: Node, at: int, behind: int, fails: int | None) -> None:
        """A branch that waits to hear of a payment answers for all others that none has come."""
        hears = any(
            isinstance(below.block, Step) and is_told(below.block, below.values)
            for _, chain in node.chains
            for below in chain
        )
        start = self.graph.point()
        self.graph.way(at, start, NOTHING if hears else SAME)
        for _, below in node.chains:
            self.graph.way(self.chain(below, start, fails), behind)

    def _try_catch(self, node: Node, at: int, behind: int, fails: int | None) -> None:
        chains = {slot.name: below for slot, below in node.chains}
        done, failed, broken = self.graph.point(), self.graph.point(), self.graph.point()
        self.graph.way(self.chain(chains.get("try", []), at, failed), done)
        if "catch" in chains:
            self.graph.way(self.chain(chains["catch"], failed, broken), done)
        else:
            self.graph.way(failed, broken)
        if "finally" in chains:
            always = self.graph.point()
            self.graph.way(done, always)
            self.graph.way(broken, always)
            ended = self.chain(chains["finally"], always, fails)
            done = self.graph.meeting((done, ended), self._within(chains["finally"]))
            broken = ended
        self.graph.way(done, behind)
        if fails is not None:
            self.graph.way(broken, fails)

    def _saga(self, node: Node, at: int, behind: int, fails: int | None) -> None:
        """What is compensated was not paid after all; compensations themselves may take away."""
        failed, undone = self.graph.point(), 0
        compensated = {slot.name.removeprefix("undo") for slot, _ in node.chains if _undoes(slot)}
        for slot, below in node.chains:
            if not _undoes(slot):
                at = self.chain(below, at, failed)
                undone |= self._within(below) if slot.name in compensated else 0
        self.graph.way(at, behind)
        if fails is not None:
            self.graph.way(failed, fails, Change(keep=~undone))

    def _other(self, node: Node, at: int, behind: int, fails: int | None) -> None:
        """Alternatives, of which one is taken, or none where that is not known."""
        for _, below in node.chains:
            self.graph.way(self.chain(below, at, fails), behind)
        if not node.chains or node.schema.type not in ("ab_split", "cancellation_scope"):
            self.graph.way(at, behind)
        if fails is not None:
            self.graph.way(at, fails)

    def _within(self, nodes: Sequence[Node]) -> int:
        """The bits of the payments in and below the nodes."""
        bits, pending = 0, list(nodes)
        while pending:
            node = pending.pop()
            if node in self.numbers:
                bits |= 3 << (2 * self.numbers[node])
            pending += (below for _, chain in node.chains for below in chain)
        return bits

    def _ask(self, condition: Condition) -> tuple[Change, Change]:
        """What is left of the bits where the condition holds, and where it does not."""
        test = read_test(condition, self._dialect)
        if test.asks_outside:
            return NOTHING, NOTHING
        asked = [self._by_id[each] for each in test.outputs if each in self._by_id]
        forgotten = 0
        for node in asked:
            if node not in self.numbers and _is_question(node):
                forgotten |= self._before[node.given or ""]
        changes = []
        for holds in (True, False):
            keep, turn = ~forgotten, []
            if "decline" in test.roots and _decided(test, None, holds=holds)[0] is False:
                keep = 0
            for node in asked:
                number = self.numbers.get(node)
                if number is None:
                    continue
                open_, paid = 1 << (2 * number), 2 << (2 * number)
                stays, proves = _decided(test, node.given, holds=holds)
                if proves:
                    keep &= ~open_
                    turn.append((open_, paid))
                elif not stays:
                    keep &= ~(open_ | paid)
            changes.append(Change(keep=keep, turn=tuple(turn)))
        return changes[0], changes[1]


def _decided(test: Test, step: str | None, *, holds: bool) -> tuple[bool, bool]:
    """Whether a payment that succeeded comes this way for certain, and whether only such do.

    When success does not decide which way is taken, nobody can say from here whether the test is
    good enough, so it is taken to be.
    """
    paid = test.holds(Supposed(step, "succeeded"))
    not_paid = test.holds(Supposed(step, ""))
    return paid is holds, paid is not (not holds) and not_paid is (not holds)


def _undoes(slot: Slot) -> bool:
    return slot.name.startswith("undo")


def _is_question(node: Node) -> bool:
    block = node.block
    return isinstance(block, SubSequence) or (isinstance(block, Step) and asks(block))


def _debt(node: Node) -> str:
    return same_call(node.values.get("handler", ""), node.values)


def _below(node: Node) -> list[Node]:
    return node.chains[0][1] if node.chains else []
