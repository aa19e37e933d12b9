"""cancellation_scope: blocks that run to their end even when the instance is cancelled."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from orch8.blocks.fields import Blocks
from orch8.blocks.schema import BlockSchema, Draft
from orch8.engine.block import Block, Chain, Scope
from orch8.engine.keys import NodeKey
from orch8.engine.moves import Move, Run


@dataclass(frozen=True, kw_only=True)
class CancellationScope(Block):
    """The body, shielded from a cancel."""

    type: ClassVar[str] = "cancellation_scope"

    body: Chain

    def chains(self) -> Iterable[Block]:
        return (self.body,)

    def start(self, at: NodeKey, scope: Scope) -> Move:
        return Run((at.child(self.body.id),), shielded=True)


class CancellationScopeSchema(BlockSchema):
    """``{"type": "cancellation_scope", "blocks": [...]}``."""

    type = "cancellation_scope"
    block = CancellationScope

    blocks = Blocks(required=True, least=1)

    def build(self, draft: Draft) -> CancellationScope:
        return CancellationScope(id=draft.id, when=draft.when, body=draft.chain("blocks"))
