"""hooks: the steps that a sequence names for its end, on_failure and on_cancel (CONTRACT 12.11).

They are built-ins that are done at once, since they run in the transaction that ends the instance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from orch8.blocks.step import Step
from orch8.definition.build import Building
from orch8.definition.findings import Findings
from orch8.definition.outline import Node, outline
from orch8.definition.sequence import Limits
from orch8.errors import Problem

HOOKS: Final = ("on_failure", "on_cancel")
AT_ONCE: Final = frozenset(
    {
        "noop", "log", "fail", "assert", "transform", "set_state", "get_state", "delete_state",
        "merge_state", "start_sequence", "emit_event", "query_instance",
    }
)  # fmt: skip
# Members of a step that say when or how often it is called: here it is done once, at once.
_IDLE: Final = (
    "delay", "retry", "timeout", "deadline", "send_window", "rate_limit_key", "rate_limits",
    "schedule", "not_before", "align", "spread", "queue_name", "output_schema", "fence",
)  # fmt: skip


def hooks(body: Mapping[str, Any], main: Building, limits: Limits) -> dict[str, tuple[Step, ...]]:
    """The steps of each hook; what is wrong with them is noted with the rest. Each hook has a
    namespace of its own, and the ids in it begin with its name: ``on_failure/tidy``.
    """
    seen, found = len(main.found.nodes), {}
    for name in HOOKS:
        if not isinstance(body.get(name), list):
            continue  # the header says so
        rest = replace(limits, blocks=max(limits.blocks - seen, 0))
        own = outline(body[name], None, main.findings, rest, f"/{name}")
        seen += len(own.nodes)
        own.ids = main.found.ids  # what they may read
        building = Building(own, main.findings)
        building.build()
        main.roots |= building.roots
        for node in own.top:
            _check(node, main.findings)
        steps = (node.block for node in own.top)
        found[name] = tuple(
            replace(step, id=f"{name}/{step.id}") for step in steps if isinstance(step, Step)
        )
    return {name: steps for name, steps in found.items() if steps}


def _check(node: Node, findings: Findings) -> None:
    handler = node.values.get("handler", "")
    if node.schema.type != "step":
        hint = "put other blocks into a sequence of their own, and start it with start_sequence"
        message = f"{node.owner}only steps run once the instance has ended"
        findings.problem(Problem(f"{node.pointer}/type", message, hint))
    elif handler and handler not in AT_ONCE:
        hint = (
            f"use one of {', '.join(sorted(AT_ONCE))}; "
            "start_sequence starts a sequence that may call and wait"
        )
        message = f"{node.owner}{handler[:60]!r} calls or waits, and the instance has ended"
        findings.problem(Problem(f"{node.pointer}/handler", message, hint))
    for name in _IDLE:
        if node.raw.get(name) is not None:
            remark = f"{node.owner}{name} changes nothing here: the step is done once, at once"
            findings.warn(Problem(f"{node.pointer}/{name}", remark, "leave it out", "ignored"))
