"""What is checked of interrupts once every block of the definition is known."""

from __future__ import annotations

from orch8.blocks.step import Step
from orch8.definition.findings import Findings, closest
from orch8.definition.outline import Node, Outline
from orch8.engine.keys import escape_id
from orch8.errors import Problem


def check_interrupts(found: Outline, findings: Findings) -> None:
    """Whatever they wake is a wait; what they take from others, or never do, is remarked on."""
    blocks = {node.id: node for node in found.nodes}
    certain: dict[str, Node] = {}  # what takes every signal of a name
    for node in found.interrupts:
        _check_wakes(node, blocks, found, findings)
        signal = node.values.get("signal", "")
        if signal in certain:
            hint = "the first interrupt that matches takes a signal: give that one a match"
            message = f"{node.owner}{certain[signal].pointer} takes every such signal before it"
            findings.warn(Problem(f"{node.pointer}/signal", message, hint, "unreachable"))
        elif "match" not in node.values:
            certain[signal] = node
    for node in found.nodes:
        waits_for = _waits_for(node)
        if waits_for in certain:
            hint = "wait for another signal, or give the interrupt a match"
            message = f"{node.owner}the interrupt takes every signal {waits_for!r} before it"
            findings.warn(Problem(node.pointer, message, hint, "unreachable"))


def _check_wakes(node: Node, blocks: dict[str, Node], found: Outline, findings: Findings) -> None:
    for i, given in enumerate(node.values.get("wake", ())):
        if not isinstance(given, str):
            continue  # a problem of its own
        target = blocks.get(escape_id(given)) if given in found.ids else None
        if target is not None and getattr(target.block, "handler", None) == "wait":
            continue
        if given in found.ids:
            message, hint = f"block {given[:60]!r} is no wait", "only a wait can be woken"
        else:
            meant = closest(given, found.ids)
            message = f"{given[:60]!r} names no block"
            hint = f"did you mean {meant}?" if meant else "write the id of a wait"
        findings.problem(
            Problem(f"{node.pointer}/wake/{i}", node.owner + message, hint, "unknown_block")
        )


def _waits_for(node: Node) -> str | None:
    """The signal that a block waits for by its own name, if it is one that waits for any."""
    if not isinstance(node.block, Step) or node.block.handler != "wait_signal":
        return None
    params = node.values.get("params")
    given = node.values if node.schema.type == "wait_signal" else params
    signal = given.get("signal") if isinstance(given, dict) else None
    return signal if isinstance(signal, str) else None
