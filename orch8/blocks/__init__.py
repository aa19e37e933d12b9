"""The block types: one file each, and the one table of them."""

from __future__ import annotations

from orch8.blocks.ab_split import AbSplitSchema
from orch8.blocks.cancellation_scope import CancellationScopeSchema
from orch8.blocks.end import EndSchema
from orch8.blocks.for_each import ForEachSchema
from orch8.blocks.guard import GuardSchema
from orch8.blocks.later import (
    ApprovalChainSchema,
    ApprovalSchema,
    BatchSchema,
    ScopeSchema,
    SetSchema,
)
from orch8.blocks.loop import LoopSchema
from orch8.blocks.parallel import ParallelSchema
from orch8.blocks.race import RaceSchema
from orch8.blocks.router import RouterSchema
from orch8.blocks.saga import SagaSchema
from orch8.blocks.schema import BlockSchema
from orch8.blocks.step import StepSchema
from orch8.blocks.sub_sequence import SubSequenceSchema
from orch8.blocks.try_catch import TryCatchSchema
from orch8.blocks.wait import WaitSchema
from orch8.blocks.wait_signal import WaitSignalSchema
from orch8.engine.block import Block

# What a definition may say, by its `type`.
SCHEMAS: dict[str, BlockSchema] = {
    name: schema
    for schema in (
        StepSchema(),
        ParallelSchema(),
        RaceSchema(),
        LoopSchema(),
        ForEachSchema(),
        RouterSchema(),
        TryCatchSchema(),
        SagaSchema(),
        SubSequenceSchema(),
        AbSplitSchema(),
        CancellationScopeSchema(),
        EndSchema(),
        WaitSchema(),
        WaitSignalSchema(),
        BatchSchema(),
        ApprovalSchema(),
        ApprovalChainSchema(),
        GuardSchema(),
        ScopeSchema(),
        SetSchema(),
    )
    for name in (schema.type, *schema.aliases)
}

# What runs, by the type that the tree shows.
BLOCKS: dict[str, type[Block]] = {
    schema.block.type: schema.block for schema in SCHEMAS.values() if schema.block is not None
}
