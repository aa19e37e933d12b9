"""wait: a step that does nothing but become due."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orch8.blocks.due import read_delay
from orch8.blocks.fields import Object, Span, Text, escape
from orch8.blocks.schema import Base, Draft, read
from orch8.blocks.step import LeafSchema, Step, read_leaf

PARAMS = frozenset({"duration", "until"})
_RENAMED = {"duration": "delay", "until": "not_before"}


class WaitSchema(LeafSchema):
    """``{"type": "wait", "delay": {"days": 3}}``, ``until`` a moment, or by a ``schedule``."""

    type = "wait"
    block = Step

    duration = Span()
    until = Text(blank=False)
    anchor = Object(later="use a schedule, which has an anchor of its own")

    def canonical(
        self, raw: Mapping[str, Any], inside: Mapping[str, list[dict[str, Any]]]
    ) -> dict[str, Any]:
        renamed = {_RENAMED.get(name, name): value for name, value in raw.items()}
        return {**renamed, "type": "step", "handler": "wait"}

    def build(self, draft: Draft) -> Step:
        values = draft.values
        for short, long in _RENAMED.items():
            if short in values and long in values:
                draft.problem(f"/{short}", f"{short} and {long} say the same: keep one")
        if "duration" in values and "schedule" in values:
            draft.problem("/schedule", "duration and schedule both say how long: keep one")
        if draft.raw.keys().isdisjoint(_SAYS_WHEN):
            hint = 'such as "delay": {"days": 3}'
            draft.problem("", "wait needs a delay, a duration, a schedule or until", hint)
        leaf = read_leaf(draft)
        if "duration" in values:
            leaf["delay"] = read_delay(draft, {"duration": values["duration"]}, "/duration")
        if "until" in values:
            leaf["not_before"] = draft.template(values["until"], "/until")
        return Step(handler="wait", **leaf)


_SAYS_WHEN = frozenset(
    {
        "delay", "duration", "schedule", "until", "not_before", "align", "send_window", "cutoff",
        "anchor", "spread",
    }
)  # fmt: skip


def check_params(draft: Draft) -> None:
    """Note what is wrong with the params of a step whose handler is ``wait``."""
    params = draft.values.get("params")
    if not isinstance(params, dict):
        return
    for name in params.keys() - PARAMS:
        if not draft.contract:
            hint = 'write "delay" beside "handler"'
            draft.problem(f"/params/{escape(name)}", f"wait does not read {name[:60]!r}", hint)
    duration = params.get("duration")
    if duration is not None and not (isinstance(duration, str) and "{{" in duration):
        _, problems = read(_PARAMS_SCHEMA, {"duration": duration})
        for each in problems:
            draft.problem(f"/params{each.pointer}", each.message, each.hint, code=each.code)


class _ParamsSchema(Base):
    duration = Span()


_PARAMS_SCHEMA = _ParamsSchema()
