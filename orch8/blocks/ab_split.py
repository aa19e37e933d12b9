"""ab_split (a_b_split on the wire): one variant by weight."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, ClassVar
from uuid import UUID

from orch8.blocks.fields import Blocks, Many, Part, Text, Whole
from orch8.blocks.schema import Base, BlockSchema, Draft, Slot
from orch8.engine.block import Block, Chain, Scope
from orch8.engine.keys import NodeKey, unescape_id
from orch8.engine.moves import Act, Memo, Move, Run


@dataclass(frozen=True, kw_only=True)
class AbSplit(Block):
    """One variant by weight; the same instance always takes the same one (CONTRACT 12.8)."""

    type: ClassVar[str] = "ab_split"

    variants: tuple[tuple[str, int, Chain], ...]

    def chains(self) -> Iterable[Block]:
        return (chain for _, _, chain in self.variants)

    def start(self, at: NodeKey, scope: Scope) -> Move:
        seed = UUID(scope.instance_id).bytes + b"\0" + unescape_id(self.id).encode()
        draw = int.from_bytes(sha256(seed).digest()[:8], "big")
        draw %= sum(weight for _, weight, _ in self.variants)
        chosen = 0
        while draw >= self.variants[chosen][1]:
            draw -= self.variants[chosen][1]
            chosen += 1
        name, _, chain = self.variants[chosen]
        memo = Memo(at, {"variant": name, "variant_index": chosen})
        return Act((memo,), Run((at.child(chain.id),)))


class VariantSchema(Base):
    """One variant: its share is its weight over the sum of all weights."""

    name = Text(blank=False, required=True)
    weight = Whole(required=True, most=2**32 - 1)
    blocks = Blocks(required=True)


class AbSplitSchema(BlockSchema):
    """``{"type": "ab_split", "variants": [{"name": "a", "weight": 1, "blocks": [...]}]}``."""

    type = "ab_split"
    block = AbSplit
    aliases = ("a_b_split",)

    variants = Many(Part(VariantSchema), required=True, least=2, most=256)

    def slots(self, raw: Mapping[str, Any]) -> Iterator[Slot]:
        variants = raw.get("variants")
        for i, variant in enumerate(variants if isinstance(variants, list) else ()):
            if isinstance(variant, dict):
                yield Slot(str(i), f"/variants/{i}/blocks", variant.get("blocks"))

    def canonical(
        self, raw: Mapping[str, Any], inside: Mapping[str, list[dict[str, Any]]]
    ) -> dict[str, Any]:
        variants = [
            {**variant, "blocks": inside.get(str(i), [])}
            for i, variant in enumerate(raw["variants"])
        ]
        return {**raw, "variants": variants}

    def build(self, draft: Draft) -> AbSplit:
        variants, seen = [], set()
        for i, variant in enumerate(draft.values.get("variants", ())):
            if variant is None:
                continue
            name, weight = variant.get("name", ""), variant.get("weight", 0)
            if name in seen:
                draft.problem(f"/variants/{i}/name", f"there are two variants {name!r}")
            seen.add(name)
            if not weight:
                draft.warn(f"/variants/{i}/weight", f"variant {name!r} is never taken: weight 0")
            variants.append((name, weight, draft.chain(str(i))))
        if variants and not any(weight for _, weight, _ in variants):
            draft.problem("/variants", "the weights must not all be 0")
        return AbSplit(id=draft.id, when=draft.when, variants=tuple(variants))
