"""sub_sequence: an instance of another sequence; its end is this block's end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from orch8.blocks.fields import Anything, Text
from orch8.blocks.schema import BlockSchema, Draft
from orch8.engine.block import Leaf

if TYPE_CHECKING:
    from orch8.engine.expressions import Template


@dataclass(frozen=True, kw_only=True)
class SubSequence(Leaf):
    """A child instance whose ``context.data`` is the rendered ``input``; its outputs are this
    block's output.
    """

    type: ClassVar[str] = "sub_sequence"

    sequence_name: str
    version: int | None = None
    input: Template | None = None


class SubSequenceSchema(BlockSchema):
    """``{"type": "sub_sequence", "sequence_name": "kyc", "version": 2, "input": {...}}``."""

    type = "sub_sequence"
    block = SubSequence

    sequence_name = Text(blank=False)
    sequence = Text(blank=False)
    version = Anything()
    input = Anything()
    on_child_failed = Text(later="the child's failure is this block's: put it in a try_catch")

    def canonical(
        self, raw: Mapping[str, Any], inside: Mapping[str, list[dict[str, Any]]]
    ) -> dict[str, Any]:
        renamed = {"sequence_name" if k == "sequence" else k: v for k, v in raw.items()}
        return {k: v for k, v in renamed.items() if (k, v) != ("version", "latest")}

    def build(self, draft: Draft) -> SubSequence:
        values = draft.values
        name = values.get("sequence_name", values.get("sequence"))
        if "sequence_name" not in draft.raw and "sequence" not in draft.raw:
            hint = "the name of the sequence to run"
            draft.problem("/sequence_name", "sequence_name is required", hint, shape=True)
        elif "sequence_name" in draft.raw and "sequence" in draft.raw:
            draft.problem("/sequence", "sequence and sequence_name say the same: keep one")
        return SubSequence(
            id=draft.id,
            when=draft.when,
            sequence_name=name or "",
            version=_version(draft, values.get("version")),
            input=draft.template(values.get("input"), "/input"),
        )


def _version(draft: Draft, given: Any) -> int | None:
    if given is None or given == "latest":
        return None
    if isinstance(given, bool) or not isinstance(given, int):
        hint = "leave it out for the newest one"
        draft.problem("/version", "version must be a whole number", hint, shape=True)
        return None
    if given < 1:
        draft.problem("/version", "version must be > 0")
    return given
