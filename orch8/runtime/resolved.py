"""resolved: what the parameters of a block come to in a given instance, for the debugger.

The real scope renders them, over values whose secrets are hidden. Nothing is sent or written.
"""

from __future__ import annotations

from collections.abc import Container
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from orch8.definition.build import LATER_ROOTS, ROOTS
from orch8.definition.outline import Node
from orch8.definition.written import written
from orch8.engine.block import Block
from orch8.engine.expressions import Dialect, compile_template
from orch8.engine.keys import NodeKey, escape_id
from orch8.errors import ExpressionError, InvalidArgument, NotFound
from orch8.runtime import explain
from orch8.runtime.explain import Explanation
from orch8.runtime.hide import hide
from orch8.runtime.office import Office, only
from orch8.runtime.run import Run
from orch8.runtime.visible import scope_of
from orch8.storage import instances, steps
from orch8.storage.transaction import Tx

MOST_STEPS = 10_000
_INPUTS = {"step": "params", "sub_sequence": "input"}  # what each type of leaf renders


@dataclass(frozen=True, slots=True)
class Resolved:
    """What the input of a block comes to at a node."""

    node_key: str
    block_type: str
    explanation: Explanation


def resolved_input(
    office: Office, tx: Tx, instance_id: UUID, block: str, *, tenant_id: str | None,
    at_block: str | None = None,
) -> Resolved:  # fmt: skip
    """The parameters of the block as they would be rendered now: in its last iteration, or, with
    ``at_block``, as if they stood there. Raises NotFound for an unknown instance or block,
    InvalidArgument for a block without parameters, or one in a loop that has not come to it.
    """
    row = only(instances.read_instances(tx, [instance_id]), instance_id, tenant_id)
    run = office.run(tx, row, instances.now(tx))
    node = _node(run, block)
    place = _place(tx, run, node if at_block is None else _node(run, at_block))
    member = _INPUTS.get(node.schema.type)
    if member is None:
        raise InvalidArgument(f"block {block[:60]!r} is a {node.schema.type}: it has no parameters")
    roots = ROOTS | LATER_ROOTS | node.variables
    found: list[Explanation] = []
    dialect, block_there = run.published.sequence.dialect, run.index[node.id]
    work = _Work(block_there, node.raw.get(member), dialect, roots, place, found)
    office.loader.carry_out(tx, [(run, work)])
    return Resolved(str(place), node.schema.type, found[-1])


@dataclass(frozen=True, slots=True)
class _Work:
    """Renders once to have every value loaded, hides them, and explains."""

    block: Block
    template: Any
    dialect: Dialect
    roots: Container[str]
    place: NodeKey
    found: list[Explanation]

    def __call__(self, run: Run) -> None:
        error = run.error(self.place)
        with suppress(ExpressionError):  # it is explained below
            whole = compile_template(self.template, self.dialect, self.roots)
            scope_of(run, self.block).render(whole, self.place, error)
        known = run.known
        known.values.update({ref: hide(value) for ref, value in known.values.items()})
        scope = scope_of(run, self.block)
        self.found.append(
            explain.explain(
                self.template,
                self.dialect,
                lambda template: scope.render(template, self.place, error),
                self.roots,
            )
        )


def _node(run: Run, block: str) -> Node:
    wanted = escape_id(block)
    for node in written(run.published.sequence).nodes:
        if node.id == wanted:
            return node
    raise NotFound(f"block {block[:60]!r} of sequence {run.published.name!r}")


def _place(tx: Tx, run: Run, node: Node) -> NodeKey:
    """The node of the block that was entered last; that of round 1 if it never was."""
    rows = [r for r in steps.steps_of(tx, run.row.id, limit=MOST_STEPS) if r.block_id == node.id]
    if rows:
        return rows[-1].key
    live = [key for key in run.snapshot.frames if key.block_id == node.id]
    if live:
        return max(live)
    if run.index.loops[node.id]:
        raise InvalidArgument(
            f"block {node.given!r} stands in a loop that has not come to it yet: name one of the "
            "blocks that were entered in at_block"
        )
    return NodeKey(node.id)
