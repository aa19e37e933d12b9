"""parallel: every branch at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from orch8.blocks.fields import Blocks, Choice, Many
from orch8.blocks.schema import BlockSchema, Draft, Slot, branch_slots
from orch8.engine.block import Block, Chain, Scope
from orch8.engine.keys import NodeKey
from orch8.engine.moves import Done, Move, Run, Wait
from orch8.engine.outcome import COMPLETED, Outcome, Status
from orch8.engine.snapshot import Frame


@dataclass(frozen=True, kw_only=True)
class Parallel(Block):
    """Every branch at once. It waits for all and fails, as the first to fail, if one did;
    ``fail="fast"`` stops the rest.
    """

    type: ClassVar[str] = "parallel"

    branches: tuple[Chain, ...] = ()
    fail: Literal["all", "fast"] = "all"

    def chains(self) -> Iterable[Block]:
        return self.branches

    def start(self, at: NodeKey, scope: Scope) -> Move:
        return (
            Run(tuple(at.child(branch.id) for branch in self.branches)) if self.branches else Done()
        )

    def settled(
        self, at: NodeKey, frame: Frame, child: NodeKey, outcome: Outcome, live: int, scope: Scope
    ) -> Move:
        if not outcome.ok and self.fail == "fast":
            return Done(outcome)
        so_far = Outcome.from_json(frame.data["o"]) if "o" in frame.data else COMPLETED
        worse = outcome.status is Status.FAILED and so_far.status is not Status.FAILED
        if worse or (so_far.ok and not outcome.ok):
            so_far = outcome
        if not live:
            return Done(so_far)
        return Wait() if so_far.ok else Wait({"o": so_far.to_json()})

    def revived(
        self, at: NodeKey, frame: Frame, below: Sequence[NodeKey], scope: Scope
    ) -> Move | None:
        return Run(tuple(below)) if below else None


class ParallelSchema(BlockSchema):
    """``{"type": "parallel", "branches": [[...], [...]]}``."""

    type = "parallel"
    block = Parallel

    branches = Many(Blocks(), required=True, least=1, most=256)
    fail = Choice("all", "fast", "collect_all")

    def slots(self, raw: Mapping[str, Any]) -> Iterator[Slot]:
        return branch_slots(raw)

    def canonical(
        self, raw: Mapping[str, Any], inside: Mapping[str, list[dict[str, Any]]]
    ) -> dict[str, Any]:
        return {**raw, "branches": list(inside.values())}

    def build(self, draft: Draft) -> Parallel:
        branches = tuple(draft.chain(str(i)) for i in range(len(draft.values.get("branches", ()))))
        fail = draft.values.get("fail", "all")
        if fail == "collect_all":
            hint = 'write "all": every branch runs to its end, then a failed one fails the block'
            draft.problem("/fail", "collect_all is not supported yet", hint, code="not_yet")
        return Parallel(
            id=draft.id,
            when=draft.when,
            branches=branches,
            fail="fast" if fail == "fast" else "all",
        )
