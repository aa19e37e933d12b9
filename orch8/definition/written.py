"""The blocks of a sequence as they are written, in its long form, without those inside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from orch8.definition.findings import Findings
from orch8.definition.outline import Node, Outline, outline
from orch8.definition.sequence import Limits, Sequence

_CONDITIONS: Final = frozenset({"when", "condition", "break_on", "until", "retry_if"})
_OPEN: Final = "{{"


@dataclass(frozen=True, slots=True)
class Text:
    """A text of a block that is an expression (``condition``) or has some in braces."""

    pointer: str  # within the block
    text: str
    condition: bool


def written(sequence: Sequence) -> Outline:
    """The outline of a sequence that was accepted, its ids written out."""
    body = sequence.canonical
    most = Limits().problems
    findings = Findings(contract=sequence.form == "contract", lenient=True, most=most)
    return outline(body["blocks"], body.get("interrupts"), findings, Limits())


def texts_of(node: Node, found: Outline) -> Iterator[Text]:
    """The texts of the node's own members that are evaluated; not those of blocks inside it."""
    others = {id(each.raw) for each in found.nodes if each is not node}
    asserts = node.values.get("handler") == "assert"
    pending: list[tuple[str, str, Any]] = [("", "", node.raw)]
    while pending:
        pointer, name, value = pending.pop()
        if isinstance(value, str):
            condition = name in _CONDITIONS and (asserts or "/params" not in pointer)
            if condition or _OPEN in value:
                yield Text(pointer, value, condition)
        elif isinstance(value, dict) and id(value) not in others:
            below = [(f"{pointer}/{key}", key, each) for key, each in value.items()]
            pending.extend(reversed(below))
        elif isinstance(value, list):
            elements = [(f"{pointer}/{place}", name, each) for place, each in enumerate(value)]
            pending.extend(reversed(elements))
