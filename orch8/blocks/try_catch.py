"""try_catch: try; on failure catch; always finally."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from orch8.blocks.fields import Blocks
from orch8.blocks.schema import BlockSchema, Draft, Slot
from orch8.engine.block import Block, Chain, Scope
from orch8.engine.keys import NodeKey, unescape_id
from orch8.engine.moves import Done, Move, Run
from orch8.engine.outcome import Outcome, Status
from orch8.engine.snapshot import Frame

MOST: Final = 100  # blocks that an error names


@dataclass(frozen=True, kw_only=True)
class TryCatch(Block):
    """The try chain; if it fails the catch chain, which reads ``_error``; the finally chain always.

    A cancel is not caught, but the finally chain runs, shielded. It fails if finally failed, or if
    try failed and was not caught well. A retry goes back into what failed: the catch if that ran,
    else try, and finally runs again behind it; only finally, if nothing else failed.
    """

    type: ClassVar[str] = "try_catch"

    try_: Chain
    catch: Chain | None = None
    finally_: Chain | None = None

    def chains(self) -> Iterable[Block]:
        return (chain for _, chain in self.numbered())

    def numbered(self) -> Iterable[tuple[int, Block]]:
        parts = enumerate((self.try_, self.catch, self.finally_))
        return ((number, chain) for number, chain in parts if chain is not None)

    def start(self, at: NodeKey, scope: Scope) -> Move:
        return Run((at.child(self.try_.id),))

    def settled(
        self, at: NodeKey, frame: Frame, child: NodeKey, outcome: Outcome, live: int, scope: Scope
    ) -> Move:
        if self.finally_ is not None and child.block_id == self.finally_.id:
            return Done(Outcome.from_json(frame.data["o"]) if outcome.ok else outcome)
        if (
            child.block_id == self.try_.id
            and outcome.status is Status.FAILED
            and self.catch is not None
            and not frame.cancelling
        ):
            return Run((at.child(self.catch.id),), {"e": self._caught(child, outcome, scope)})
        if self.finally_ is None:
            return Done(outcome)
        return Run(
            (at.child(self.finally_.id),), {**frame.data, "o": outcome.to_json()}, shielded=True
        )

    def error(self, frame: Frame) -> Mapping[str, Any] | None:
        error: Mapping[str, Any] | None = frame.data.get("e")
        return error

    def _caught(self, child: NodeKey, outcome: Outcome, scope: Scope) -> Mapping[str, Any]:
        """What the catch reads as ``_error`` (CONTRACT 12.6); the block that failed first leads."""
        below = (key.block_id for key in scope.failed_below(child))
        blocks = dict.fromkeys(unescape_id(block_id) for block_id in below if "@" not in block_id)
        return {
            **(outcome.error or {}),
            "failed_blocks": list(blocks)[:MOST],
            "source": self.type,
            "block_id": unescape_id(self.id),
        }

    def revived(
        self, at: NodeKey, frame: Frame, below: Sequence[NodeKey], scope: Scope
    ) -> Move | None:
        ids = {key.block_id for key in below}
        if (
            self.finally_ is not None
            and "o" in frame.data
            and Outcome.from_json(frame.data["o"]).ok
        ):
            return Run((at.child(self.finally_.id),), frame.data, shielded=True)
        if self.catch is not None and self.catch.id in ids:
            return Run((at.child(self.catch.id),), {"e": frame.data.get("e")})
        return Run((at.child(self.try_.id),)) if ids else None


class TryCatchSchema(BlockSchema):
    """``{"type": "try_catch", "try_block": [...], "catch_block": [...], "finally_block": [...]}``.

    The short names ``try``, ``catch`` and ``finally`` mean the same.
    """

    type = "try_catch"
    block = TryCatch

    try_block = Blocks(least=1)
    catch_block = Blocks()
    finally_block = Blocks()
    try_ = Blocks(least=1, data_key="try")
    catch = Blocks()
    finally_ = Blocks(data_key="finally")

    def slots(self, raw: Mapping[str, Any]) -> Iterator[Slot]:
        for name, value in raw.items():
            if name.removesuffix("_block") in _PARTS and value is not None:
                yield Slot(name.removesuffix("_block"), f"/{name}", value)

    def canonical(
        self, raw: Mapping[str, Any], inside: Mapping[str, list[dict[str, Any]]]
    ) -> dict[str, Any]:
        rest = {k: v for k, v in raw.items() if k.removesuffix("_block") not in _PARTS}
        return rest | {f"{part}_block": inside[part] for part in _PARTS if part in inside}

    def build(self, draft: Draft) -> TryCatch:
        given = {}
        for part in _PARTS:
            given[part] = part in draft.raw or f"{part}_block" in draft.raw
            if part in draft.raw and f"{part}_block" in draft.raw:
                draft.problem(f"/{part}", f"{part} and {part}_block say the same: keep one")
        if not given["try"]:
            draft.problem("/try_block", "try_block is required", "a list of blocks", shape=True)
        if draft.contract and not given["catch"]:
            hint = "an empty list swallows the failure"
            draft.problem("/catch_block", "catch_block is required", hint, shape=True)
        return TryCatch(
            id=draft.id,
            when=draft.when,
            try_=draft.chain("try"),
            catch=draft.chain("catch") if given["catch"] else None,
            finally_=draft.chain("finally") if given["finally"] else None,
        )


_PARTS = ("try", "catch", "finally")
