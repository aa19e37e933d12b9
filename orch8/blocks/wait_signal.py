"""wait_signal: a step that waits for a signal to its instance."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from orch8.blocks.fields import Anything, Object, Span, Text
from orch8.blocks.schema import Base, Draft, read
from orch8.blocks.step import LeafSchema, Step, read_leaf

ON_TIMEOUT = ("continue", "fail")


class SignalSchema(Base):
    """The params of the handler ``wait_signal``."""

    signal = Anything(required=True)
    timeout = Span(positive=True)
    on_timeout = Text(blank=False)
    match = Object()


class WaitSignalSchema(SignalSchema, LeafSchema):
    """``{"type": "wait_signal", "signal": "paid", "timeout": "3d", "on_timeout": "continue"}``."""

    type = "wait_signal"
    block = Step

    def canonical(
        self, raw: Mapping[str, Any], inside: Mapping[str, list[dict[str, Any]]]
    ) -> dict[str, Any]:
        params = {name: value for name, value in raw.items() if name in _PARAMS}
        rest = {name: value for name, value in raw.items() if name not in _PARAMS}
        return {**rest, "type": "step", "handler": "wait_signal", "params": params}

    def build(self, draft: Draft) -> Step:
        params = _params(draft, draft.values, "")
        return Step(handler="wait_signal", params=draft.template(params, ""), **read_leaf(draft))


_SCHEMA = SignalSchema()
_PARAMS = frozenset(_SCHEMA.fields)


def check_params(draft: Draft) -> None:
    """Note what is wrong with the params of a step whose handler is ``wait_signal``."""
    given = draft.values.get("params", {})
    if not isinstance(given, dict):
        draft.problem("/params", "params must be an object", 'with "signal"', shape=True)
        return
    values, problems = read(_SCHEMA, given)
    for each in problems:
        draft.problem(
            f"/params{each.pointer}", each.message, each.hint, code=each.code, shape=each.shape
        )
    _params(draft, values, "/params")


def _params(draft: Draft, values: Mapping[str, Any], pointer: str) -> dict[str, Any]:
    """The params as the runtime reads them: durations in their JSON form."""
    signal = values.get("signal")
    if isinstance(signal, list):
        hint = "today: one name; wait for several in the branches of a race"
        message = "a list of signals is not supported yet"
        draft.problem(f"{pointer}/signal", message, hint, code="not_yet")
    elif signal is not None and not (isinstance(signal, str) and signal.strip()):
        hint = 'such as "invoice.paid"'
        draft.problem(f"{pointer}/signal", "signal must be a name", hint, shape=True)
    on_timeout = values.get("on_timeout", "fail")
    if on_timeout not in ON_TIMEOUT:
        typo = get_close_matches(on_timeout, ON_TIMEOUT, n=1)
        draft.problem(
            f"{pointer}/on_timeout",
            f"on_timeout {on_timeout[:40]!r} is not supported" + ("" if typo else " yet"),
            f'write "{typo[0]}"' if typo else 'write "continue" or "fail", and a router behind it',
            code="invalid" if typo else "not_yet",
        )
    given = {"signal": signal, "on_timeout": on_timeout, "match": values.get("match")}
    if "timeout" in values:
        given["timeout"] = values["timeout"].to_json()
    return {name: value for name, value in given.items() if value is not None}
