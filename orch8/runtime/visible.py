"""visible: the part of an instance's context that a step may see. Values only."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from orch8.blocks.step import Step
from orch8.engine.block import Block
from orch8.engine.expressions import Dialect
from orch8.engine.scope import CONTEXT, Scope
from orch8.runtime.run import Run


def visible(context: Any, access: Any) -> Any:
    """The part of the context that a step may see (CONTRACT 5.3, context_access)."""
    if access is None or not isinstance(context, dict):
        return context
    shown = {}
    for part, default in (("data", True), ("config", True), ("audit", False), ("runtime", False)):
        allowed = access.get(part, default)
        if part not in context or allowed in (False, "none"):
            continue
        value = context[part]
        if isinstance(allowed, dict) and isinstance(value, dict):
            value = {name: value[name] for name in allowed.get("fields", ()) if name in value}
        shown[part] = value
    return shown


def scope_of(run: Run, block: Block) -> Scope:
    """What the parameters of the block read: in the contract's form no more of the context than its
    handler sees (CONTRACT 7.4). Raises NeedsValues.
    """
    if not isinstance(block, Step) or block.context_access is None:
        return run.scope
    if run.published.sequence.dialect is Dialect.SEED:
        return run.scope
    seen = visible(run.known.get(CONTEXT), block.context_access)
    known = replace(run.known, replaced={**run.known.replaced, CONTEXT: seen})
    return replace(run.scope, known=known)
