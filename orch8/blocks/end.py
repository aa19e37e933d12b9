"""end: finish the instance now, under a name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from orch8.blocks.fields import Text
from orch8.blocks.schema import BlockSchema, Draft
from orch8.engine.block import Block, Scope
from orch8.engine.keys import NodeKey
from orch8.engine.moves import Finish, Move


@dataclass(frozen=True, kw_only=True)
class End(Block):
    """The instance completes under ``outcome``: finally and shielded parts run, calls in flight are
    awaited, nothing else starts.
    """

    type: ClassVar[str] = "end"

    outcome: str = "completed"

    def start(self, at: NodeKey, scope: Scope) -> Move:
        return Finish(self.outcome)


class EndSchema(BlockSchema):
    """``{"type": "end", "outcome": "recovered"}``."""

    type = "end"
    block = End

    outcome = Text(blank=False, longest=200)

    def build(self, draft: Draft) -> End:
        outcome = draft.values.get("outcome", "completed")
        if "{{" in outcome:
            draft.problem(
                "/outcome",
                "outcome is an expression, which is not supported yet",
                "write a fixed name, behind a router where it depends on something",
                code="not_yet",
            )
        return End(id=draft.id, when=draft.when, outcome=outcome)
