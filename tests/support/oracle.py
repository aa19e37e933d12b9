"""What a definition means, read the naive way: recursion; no time, no order of events, no state."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import singledispatchmethod
from typing import TYPE_CHECKING, Any

from orch8.blocks.ab_split import AbSplit
from orch8.blocks.cancellation_scope import CancellationScope
from orch8.blocks.for_each import ForEach
from orch8.blocks.loop import Loop
from orch8.blocks.parallel import Parallel
from orch8.blocks.race import Race
from orch8.blocks.router import Router
from orch8.blocks.saga import Saga
from orch8.blocks.try_catch import TryCatch
from orch8.engine.block import Block, Chain, Leaf
from orch8.engine.keys import NodeKey
from orch8.errors import ExpressionError

if TYPE_CHECKING:
    from orch8.engine.machine import Values
    from tests.support.shell import Answers


@dataclass
class Oracle:
    """Reads blocks; ``ran`` are the leaves that ran, in the order of the definition."""

    values: Values
    answers: Answers
    ran: list[NodeKey] = field(default_factory=list)

    def read(self, block: Block, at: NodeKey) -> bool:
        """Whether the block ends well at this node."""
        try:
            if block.when is not None and not self.holds(block.when, at):
                return True
            return self._read(block, at)
        except ExpressionError:
            return False

    def holds(self, condition: Any, at: NodeKey) -> bool:
        return self.values.truthy(condition, at, None)

    def inner(self, block: Block, at: NodeKey) -> bool:
        return self.read(block, at.child(block.id))

    @singledispatchmethod
    def _read(self, block: Block, at: NodeKey) -> bool:
        raise NotImplementedError(f"no reading of {block.type}")

    @_read.register
    def _(self, _: Leaf, at: NodeKey) -> bool:
        self.ran.append(at)
        return self.answers(at).ok

    @_read.register
    def _(self, block: Chain, at: NodeKey) -> bool:
        return all(self.inner(each, at) for each in block.blocks)

    @_read.register
    def _(self, block: Parallel, at: NodeKey) -> bool:
        ends = [self.inner(branch, at) for branch in block.branches]  # each runs, whatever fails
        return all(ends)

    @_read.register
    def _(self, block: Race, at: NodeKey) -> bool:
        ends = [self.inner(branch, at) for branch in block.branches]
        return any(ends) or not ends

    @_read.register
    def _(self, block: Router, at: NodeKey) -> bool:
        for condition, route in block.routes:
            if self.holds(condition, at):
                return self.inner(route, at)
        return block.default is None or self.inner(block.default, at)

    @_read.register
    def _(self, block: AbSplit, at: NodeKey) -> bool:
        move: Any = block.start(at, self.values)  # type: ignore[arg-type] # reads the id alone
        (chosen,) = move.then.children
        return any(
            self.inner(variant, at)
            for _, _, variant in block.variants
            if variant.id == chosen.block_id
        )

    @_read.register
    def _(self, block: Loop, at: NodeKey) -> bool:
        for i in range(block.max_iterations):
            here = at.nth(block.body.id, i)
            asks = at.nth(block.id, i)
            if block.condition is not None and not self.holds(block.condition, asks):
                return True
            if not self.read(block.body, here) and not block.continue_on_error:
                return False
            if block.break_on is not None and self.holds(block.break_on, here):
                return True
            last = i + 1 == block.max_iterations
            if block.pause is not None and not last:
                paused = self.read(block.pause, at.nth(block.pause.id, i))
                if not paused and not block.continue_on_error:
                    return False
        return True

    @_read.register
    def _(self, block: ForEach, at: NodeKey) -> bool:
        items = self.values.render(block.collection, at, None)
        size = min(len(items), block.max_iterations) if isinstance(items, list) else 0
        return all(self.read(block.body, at.nth(block.body.id, i)) for i in range(size))

    @_read.register
    def _(self, block: CancellationScope, at: NodeKey) -> bool:
        return self.inner(block.body, at)

    @_read.register
    def _(self, block: TryCatch, at: NodeKey) -> bool:
        well = self.inner(block.try_, at)
        if not well and block.catch is not None:
            well = self.inner(block.catch, at)
        finished = block.finally_ is None or self.inner(block.finally_, at)
        return well and finished

    @_read.register
    def _(self, block: Saga, at: NodeKey) -> bool:
        for n, (action, _) in enumerate(block.steps):
            if not self.inner(action, at):
                for _, undo in reversed(block.steps[:n]):
                    if undo is not None:
                        self.inner(undo, at)
                return False
        return True
