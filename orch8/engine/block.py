"""The contract every block type fulfils, and the chain: blocks one after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from orch8.engine.events import Interrupted
from orch8.engine.keys import NodeKey
from orch8.engine.moves import Act, Done, Move, Run, Schedule, Wait
from orch8.engine.outcome import Outcome
from orch8.engine.snapshot import Frame

if TYPE_CHECKING:
    from orch8.engine.expressions import Condition, Template


class Scope(Protocol):
    """What a block may look at. Values only: the shell loads them beforehand."""

    @property
    def instance_id(self) -> str:
        """The instance that is being decided on."""

    def truthy(self, condition: Condition, at: NodeKey) -> bool:
        """Whether ``condition`` holds at node ``at``."""

    def render(self, template: Template, at: NodeKey) -> Any:
        """The JSON that ``template`` becomes at node ``at``."""

    def failed_below(self, node: NodeKey) -> Sequence[NodeKey]:
        """The nodes inside ``node``, which did not complete, that failed; from the outside in."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """One block of a definition. Subclasses say what entering it and a child's end lead to."""

    type: ClassVar[str] = "block"
    iterates: ClassVar[bool] = False  # its children carry an index of their own in their keys

    id: str
    when: Condition | None = None

    def forgives(self, outcome: Outcome) -> bool:
        """Whether a child's ``outcome`` is behind it: a retry never goes back into that child."""
        return False

    def chains(self) -> Iterable[Block]:
        """The blocks that stand directly inside this one, each with an id of its own."""
        return ()

    def numbered(self) -> Iterable[tuple[int, Block]]:
        """What stands directly inside this block, each with the number of its branch."""
        return enumerate(self.chains())

    def start(self, at: NodeKey, scope: Scope) -> Move:
        """The move on entering this block at node ``at``."""
        raise NotImplementedError

    def settled(
        self, at: NodeKey, frame: Frame, child: NodeKey, outcome: Outcome, live: int, scope: Scope
    ) -> Move:
        """The move after ``child`` settled, with ``live`` others still live: by default this block
        settles as the child did.
        """
        return Done(outcome)

    def error(self, frame: Frame) -> Mapping[str, Any] | None:
        """What blocks inside this one read as ``context.data._error``, if anything."""
        return None

    def item_ref(self, path: tuple[int, ...]) -> tuple[str, NodeKey, int] | None:
        """Where iteration ``path`` finds its item: the variable, the memo, the index within it."""
        return None

    def shields(self) -> bool:
        """Whether a cancel does not reach this block."""
        return False

    def revived(
        self, at: NodeKey, frame: Frame, below: Sequence[NodeKey], scope: Scope
    ) -> Move | None:
        """The move on going back into this block, which did not complete; None starts it anew.

        ``below`` are its children that did not complete, as nodes of this round. Those that the
        move enters go on where they stopped; the others are forgotten, unless it ``keeps`` them.
        """
        return Run(tuple(below), frame.data) if below else None

    def keeps(self, child: NodeKey) -> bool:
        """Whether a retry that does not enter ``child`` yet still goes back into it later."""
        return False

    def interrupted(
        self, at: NodeKey, frame: Frame, event: Interrupted, live: Sequence[NodeKey]
    ) -> Move | None:
        """The move on an interrupt of the instance whose root this is, ``live`` being its live
        children; None when it has no blocks to run for it, or not any more.
        """
        return None


@dataclass(frozen=True, kw_only=True)
class Leaf(Block):
    """A block that waits for the outside: a handler, a signal, a time, a child instance."""

    cancellable: bool = True

    def start(self, at: NodeKey, scope: Scope) -> Move:
        """The leaf is scheduled, and its parent waits for it."""
        return Act((Schedule(at),), Wait())

    def shields(self) -> bool:
        """Whether the definition says that a cancel does not reach this leaf."""
        return not self.cancellable


@dataclass(frozen=True, kw_only=True)
class Chain(Block):
    """Blocks one after another; every list in a definition is one. A failed child stops it."""

    type: ClassVar[str] = "chain"

    blocks: tuple[Block, ...] = ()

    def chains(self) -> Iterable[Block]:
        """The blocks of the chain, in their order."""
        return self.blocks

    def start(self, at: NodeKey, scope: Scope) -> Move:
        """The first block is entered; an empty chain is done at once."""
        return self._go(at, 0)

    def settled(
        self, at: NodeKey, frame: Frame, child: NodeKey, outcome: Outcome, live: int, scope: Scope
    ) -> Move:
        """The next block is entered; the chain settles with its last block, or one that fails."""
        return self._go(at, frame.data["c"] + 1) if outcome.ok else Done(outcome)

    def revived(
        self, at: NodeKey, frame: Frame, below: Sequence[NodeKey], scope: Scope
    ) -> Move | None:
        """The chain goes on at the block that did not complete; a chain that entered none starts
        anew.
        """
        if "c" not in frame.data:
            return None
        # With nothing below, the block at the cursor completed while the chain was being cancelled.
        return self._go(at, frame.data["c"] + (not below))

    def _go(self, at: NodeKey, cursor: int) -> Move:
        if cursor == len(self.blocks):
            return Done()
        return Run((at.child(self.blocks[cursor].id),), {"c": cursor})


class Index(Mapping[str, Block]):
    """Every block of a definition by id, and the iterating blocks that each stands in."""

    def __init__(self, root: Block) -> None:
        self.root = root
        self.loops: dict[str, tuple[str, ...]] = {}
        self._blocks: dict[str, Block] = {}
        pending: list[tuple[Block, tuple[str, ...]]] = [(root, ())]
        while pending:
            block, loops = pending.pop()
            if block.id in self._blocks:
                raise ValueError(f"duplicate block id {block.id!r}")
            self._blocks[block.id] = block
            self.loops[block.id] = loops
            inner = (*loops, block.id) if block.iterates else loops
            pending.extend((child, inner) for child in block.chains())

    def __getitem__(self, block_id: str) -> Block:
        return self._blocks[block_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._blocks)

    def __len__(self) -> int:
        return len(self._blocks)

    def __repr__(self) -> str:
        return f"Index({self.root!r})"
