"""Where the blocks of an outline stand: in which chain, behind what, inside which loops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orch8.blocks.for_each import ForEach
from orch8.blocks.loop import Loop
from orch8.blocks.parallel import Parallel
from orch8.definition.outline import Node, Outline


@dataclass(frozen=True, slots=True)
class Place:
    """``parent`` is the block around it (None: the main chain), ``slot`` the chain's name there."""

    parent: Node | None
    slot: str
    last: bool  # nothing follows it in its chain


class Places:
    """The place of every block of an outline."""

    def __init__(self, found: Outline) -> None:
        self._places: dict[Node, Place] = {}
        self._note(None, "", found.top)
        for node in found.nodes:
            for slot, below in node.chains:
                self._note(node, slot.name, below)

    def around(self, node: Node) -> Iterator[Place]:
        """The places of the block and of every block around it, from the inside out."""
        here: Node | None = node
        while here is not None and here in self._places:
            yield self._places[here]
            here = self._places[here].parent

    def loops(self, node: Node) -> list[Node]:
        """The loops that the block stands in, from the inside out."""
        parents = [place.parent for place in self.around(node)]
        return [p for p in parents if p is not None and isinstance(p.block, Loop | ForEach)]

    def one_of_many(self, node: Node) -> bool:
        """Whether it stands beside others that should go on when this one is done for."""
        parents = [place.parent for place in self.around(node)]
        return any(p is not None and isinstance(p.block, ForEach | Parallel) for p in parents)

    def followed(self, node: Node) -> bool:
        """Whether any block may run when this one is done."""
        return bool(self.loops(node)) or not all(place.last for place in self.around(node))

    def undoes(self, node: Node) -> bool:
        """Whether the block belongs to the compensation of a saga."""
        return any(place.slot.startswith("undo") for place in self.around(node))

    def _note(self, parent: Node | None, slot: str, chain: Sequence[Node]) -> None:
        for i, node in enumerate(chain):
            last = i == len(chain) - 1
            # The actions of a saga follow each other although each has a chain of its own.
            if parent is not None and parent.schema.type == "saga":
                last = last and (slot.startswith("undo") or parent.chains[-1][1] is chain)
            self._places[node] = Place(parent, slot, last)
