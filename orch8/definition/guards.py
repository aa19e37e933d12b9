"""Checks on guards: one that ends a loop stands in one, one with a budget has what it counts."""

from __future__ import annotations

from typing import Final

from orch8.blocks.guard import BREAK, GuardSchema
from orch8.definition.findings import Findings
from orch8.definition.outline import Node, Outline
from orch8.errors import Problem

# Blocks that simply end when the chain inside them does: a break goes through them.
_OPEN: Final = frozenset({"router", "ab_split"})


def check_guards(found: Outline, findings: Findings) -> None:
    """Every guard with on_exhausted "break" that no loop takes is a problem; a budget that no step
    of the sequence counts against is a remark, since other sequences may.
    """
    guards = [node for node in found.nodes if isinstance(node.schema, GuardSchema)]
    if not guards:
        return
    parents = {child: node for node in found.nodes for _, below in node.chains for child in below}
    counts = any(_counts(node) for node in found.nodes)
    for node in guards:
        if node.values.get("on_exhausted") == BREAK:
            _check_break(node, parents, findings)
        if node.values.get("network_budget") and not counts:
            hint = 'give the steps that charge "effect": "money" and a "money" with an "instrument"'
            message = f"{node.owner}no step here counts against this budget"
            at = f"{node.pointer}/network_budget"
            findings.warn(Problem(at, message, hint, "uncounted"))


def _check_break(node: Node, parents: dict[Node, Node], findings: Findings) -> None:
    above = parents.get(node)
    while above is not None and above.schema.type in _OPEN:
        above = parents.get(above)
    if above is None or above.schema.type != "loop":
        inside = f"it stands in {above.schema.type}" if above else "it stands in no loop"
        hint = 'put it into the body of a loop, or use "fail" or "continue"'
        message = f"{node.owner}there is no loop to end: {inside}"
        findings.problem(Problem(f"{node.pointer}/on_exhausted", message, hint))


def _counts(node: Node) -> bool:
    money = node.values.get("money")
    return node.values.get("effect") == "money" and bool(money and money.get("instrument"))
