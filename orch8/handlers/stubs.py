"""Stubs: what the steps of a dry run put out in place of doing what they would do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

# Built-ins that call nobody, but change something outside of their instance's own course.
ACTING: Final = frozenset({"emit_event", "send_signal", "self_modify", "start_sequence"})

Given = Mapping[str, Any]
Shape = tuple[dict[str, Any], dict[str, Any]]  # what it would do; the members of a real output


def stub(handler: str, params: Any) -> dict[str, Any]:
    """The output of a step that would have called ``handler``: what with, under ``would``, and the
    members of a real output, as far as they are known without it.
    """
    given = params if isinstance(params, Mapping) else {}
    shape = _SHAPES.get(handler)
    would, known = ({"params": params}, {}) if shape is None else shape(given)
    return {"dry_run": True, "handler": handler, "would": would, **known}


def _http_request(given: Given) -> Shape:
    return _call(given, "GET"), {"status": None, "body": None}


def _tool_call(given: Given) -> Shape:
    tool = given.get("tool_name", "unknown")
    return _call(given, "POST"), {"tool_name": tool, "result": None}


def _emit_event(given: Given) -> Shape:
    would = {"trigger_slug": given.get("trigger_slug"), "data": given.get("data", {})}
    return would, {"instance_id": None, "sequence_name": None, "deduped": False}


def _send_signal(given: Given) -> Shape:
    would = {name: given.get(name) for name in ("instance_id", "signal_type", "payload")}
    return would, {"signal_id": None}


def _self_modify(given: Given) -> Shape:
    blocks, position = given.get("blocks"), given.get("position")
    count = len(blocks) if isinstance(blocks, list) else 0
    known = {"_self_modify": True, "blocks": blocks, "position": position, "injected_count": 0}
    return {"inject": count, "position": position}, known


def _start_sequence(given: Given) -> Shape:
    name = given.get("sequence_name") or given.get("sequence")
    would = {"sequence": name, "version": given.get("version"), "input": given.get("input")}
    return would, {"instance_id": None, "sequence": name}


def _call(given: Given, method: str) -> dict[str, Any]:
    return {"url": given.get("url"), "method": given.get("method", method)}


_SHAPES: Final[Mapping[str, Callable[[Given], Shape]]] = {
    "http_request": _http_request,
    "tool_call": _tool_call,
    "emit_event": _emit_event,
    "send_signal": _send_signal,
    "self_modify": _self_modify,
    "start_sequence": _start_sequence,
}
