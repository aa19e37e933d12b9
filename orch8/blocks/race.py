"""race: every branch at once, one of them decides."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from orch8.blocks.fields import Blocks, Choice, Many
from orch8.blocks.schema import BlockSchema, Draft, Slot, branch_slots
from orch8.engine.block import Block, Chain, Scope
from orch8.engine.keys import NodeKey
from orch8.engine.moves import Done, Move, Run, Wait
from orch8.engine.outcome import Outcome
from orch8.engine.snapshot import Frame


@dataclass(frozen=True, kw_only=True)
class Race(Block):
    """Every branch at once; the rest is cancelled as soon as one decides.

    ``first_to_resolve``: the first branch that ends decides, well or badly.
    ``first_to_succeed``: failures do not count until no other branch is left.
    """

    type: ClassVar[str] = "race"

    branches: tuple[Chain, ...] = ()
    semantics: Literal["first_to_resolve", "first_to_succeed"] = "first_to_resolve"

    def chains(self) -> Iterable[Block]:
        return self.branches

    def start(self, at: NodeKey, scope: Scope) -> Move:
        return (
            Run(tuple(at.child(branch.id) for branch in self.branches)) if self.branches else Done()
        )

    def settled(
        self, at: NodeKey, frame: Frame, child: NodeKey, outcome: Outcome, live: int, scope: Scope
    ) -> Move:
        if outcome.ok or not live or self.semantics == "first_to_resolve":
            return Done(outcome)
        return Wait()


class RaceSchema(BlockSchema):
    """``{"type": "race", "branches": [[...], [...]]}``."""

    type = "race"
    block = Race

    branches = Many(Blocks(), required=True, least=1, most=256)
    semantics = Choice("first_to_resolve", "first_to_succeed")

    def slots(self, raw: Mapping[str, Any]) -> Iterator[Slot]:
        return branch_slots(raw)

    def canonical(
        self, raw: Mapping[str, Any], inside: Mapping[str, list[dict[str, Any]]]
    ) -> dict[str, Any]:
        return {**raw, "branches": list(inside.values())}

    def build(self, draft: Draft) -> Race:
        branches = tuple(draft.chain(str(i)) for i in range(len(draft.values.get("branches", ()))))
        semantics = draft.values.get("semantics", "first_to_resolve")
        return Race(id=draft.id, when=draft.when, branches=branches, semantics=semantics)
