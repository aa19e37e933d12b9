"""Remarks on definitions that are legal but look wrong. They never refuse anything."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final

from orch8.blocks import (
    end,
    for_each,
    loop,
    race,
    router,
    saga,
    step,
    try_catch,
)
from orch8.blocks.absent import ABSENT
from orch8.definition.findings import UNLIMITED, Findings, closest, near
from orch8.definition.outline import Node, Outline
from orch8.engine.duration import Duration
from orch8.errors import Problem

# What the built-in handlers read (CONTRACT 18); None is anything.
BUILTIN_PARAMS: Final[dict[str, frozenset[str] | None]] = {
    "noop": frozenset(),
    "log": frozenset({"message", "level"}),
    "sleep": frozenset({"duration_ms"}),
    "fail": frozenset({"message", "retryable", "code"}),
    "http_request": frozenset({"url", "method", "body", "headers", "timeout_ms"}),
    "set_state": frozenset({"key", "value"}),
    "get_state": frozenset({"key"}),
    "delete_state": frozenset({"key"}),
    "merge_state": frozenset({"values"}),
    "emit_event": frozenset({"trigger_slug", "data", "meta", "dedupe_key", "dedupe_scope"}),
    "send_signal": frozenset({"instance_id", "signal_type", "payload"}),
    "query_instance": frozenset({"instance_id"}),
    "tool_call": frozenset(
        {"url", "method", "tool_name", "arguments", "headers", "timeout_ms", "response_as"}
    ),
    "transform": None,
    "assert": frozenset({"condition", "message"}),
    "self_modify": frozenset({"blocks", "position"}),
    "wait": frozenset({"duration", "until"}),
    "wait_signal": frozenset({"signal", "timeout", "on_timeout", "match"}),
    "wait_for_event": frozenset({"events", "correlation_key", "join", "count"}),
    "human_review": frozenset({"reviewer", "instructions", "review_data"}),
}
# Names of users' own handlers like to end as that one does.
_MISSPELT: Final = BUILTIN_PARAMS.keys() - {"human_review"}
_TEMPLATE: Final = re.compile(r"\{\{.*?\}\}")
_ALWAYS: Final = frozenset({"true", "1", "not false", "!false"})

Remark = tuple[str, str, str, str]  # pointer within the block, message, hint, code


def lint(found: Outline, findings: Findings, stated: Collection[str] = ()) -> None:
    """Every remark on every block is in ``findings``; keys in ``stated`` have a limit elsewhere."""
    limited = _limited_keys(found)
    for node in found.nodes:
        for check in _CHECKS.get(type(node.block), ()):
            for pointer, message, hint, code in check(node, node.block):
                at = node.pointer + pointer
                findings.warn(Problem(at, node.owner + message, hint, code))
        if isinstance(node.block, step.Step):
            _unlimited(node, limited, stated, findings)
        for slot, below in node.chains:
            _after_the_end(below, findings)
            if not below and slot.json == [] and not _says_nothing(node.block, slot.name):
                at = node.pointer + slot.pointer
                findings.warn(Problem(at, f"{node.owner}no blocks here", "", "empty"))
    _after_the_end(found.top, findings)


def _says_nothing(block: Any, slot: str) -> bool:
    """Whether no blocks are meant there: an empty default says that nothing is to happen, and an
    empty catch has a remark of its own.
    """
    default = isinstance(block, router.Router) and slot == "default"
    return default or isinstance(block, try_catch.TryCatch)


def _router(node: Node, block: Any) -> Iterator[Remark]:
    if block.default is None:
        hint = 'add a route with "default": true, even an empty one'
        yield "/routes", "when no route matches, nothing happens", hint, "no_default"
    routes = node.values.get("routes", ())
    for i, route in enumerate(routes):
        last = i == len(routes) - 1
        if route.get("default") and not last:
            hint = "write the default last"
            yield f"/routes/{i}", "the routes after the default are tried before it", hint, "order"
        elif _always(route.get("condition")) and (not last or block.default is not None):
            hint = "this condition always holds"
            yield (
                f"/routes/{i}/condition",
                "nothing after this route is reached",
                hint,
                "unreachable",
            )


def _loop(node: Node, block: Any) -> Iterator[Remark]:
    bounded = "max_iterations" in node.values or block.break_on is not None
    if not bounded and (block.condition is None or _always(node.values.get("condition"))):
        hint = "add until, a condition or max_iterations"
        yield "", "only the default of 1000 iterations ends this loop", hint, "unbounded"


def _for_each(node: Node, _block: Any) -> Iterator[Remark]:
    if "max_iterations" not in node.values:
        hint = "set max_iterations, or put the items into slices"
        yield "", "items after the 1000th are left out", hint, "default_bound"


def _race(_node: Node, block: Any) -> Iterator[Remark]:
    if len(block.branches) == 1:
        yield "/branches", "a race of one branch", "add another, or leave the race out", "lint"


def _try_catch(_node: Node, block: Any) -> Iterator[Remark]:
    if block.catch is not None and not block.catch.blocks:
        yield "", "the catch is empty: every failure is swallowed", "at least log it", "empty"
    if block.catch is None and block.finally_ is None:
        yield "", "neither catch nor finally: the block changes nothing", "", "lint"


def _saga(_node: Node, block: Any) -> Iterator[Remark]:
    if not block.steps:
        yield "/steps", "a saga without steps does nothing", "", "empty"


def _step(node: Node, block: Any) -> Iterator[Remark]:
    known = BUILTIN_PARAMS.get(block.handler)
    params = node.values.get("params")
    if known is not None and isinstance(params, dict):
        for name in params.keys() - known:
            meant = closest(name, known)
            hint = f"did you mean {meant}?" if meant else f"it reads {', '.join(sorted(known))}"
            yield "/params", f"{block.handler} does not read {name[:60]!r}", hint, "unknown_param"
    if block.handler in ABSENT:
        hint = f"register an address for it: PUT /handlers/{block.handler}"
        yield "/handler", f"{block.handler!r} is not part of orch8: the step fails", hint, "handler"
    elif meant := _resembled(block.handler):
        hint = f"did you mean the built-in {meant}? else ignore this"
        yield "/handler", f"{block.handler!r} resembles a built-in handler", hint, "handler"
    if block.timeout is not None and block.timeout > _seconds(block.deadline):
        hint = "make the deadline longer than the timeout of one call"
        yield "/timeout", "timeout is longer than the deadline", hint, "lint"
    timed = block.delay or block.schedule or block.not_before or block.align or block.send_window
    waits = timed or block.spread or params
    if block.handler == "wait" and not waits:
        hint = 'add "delay": {"days": 3}'
        yield "", "this wait does not wait", hint, "lint"


_CHECKS: Final[dict[type | None, tuple[Callable[[Node, Any], Iterator[Remark]], ...]]] = {
    router.Router: (_router,),
    loop.Loop: (_loop,),
    for_each.ForEach: (_for_each,),
    race.Race: (_race,),
    try_catch.TryCatch: (_try_catch,),
    saga.Saga: (_saga,),
    step.Step: (_step,),
}


def _seconds(deadline: Duration | None) -> float:
    if deadline is None or deadline.months:
        return math.inf
    return deadline.total_ms() / 1000


@lru_cache(maxsize=1024)
def _resembled(handler: str) -> str | None:
    if handler in BUILTIN_PARAMS:
        return None
    return next((name for name in sorted(_MISSPELT) if near(handler, name)), None)


def _always(condition: str | None) -> bool:
    return condition is not None and condition.strip().strip("{}").strip() in _ALWAYS


def _limited_keys(found: Outline) -> set[str]:
    return {
        node.values["rate_limit_key"]
        for node in found.nodes
        if "rate_limit_key" in node.values
        and ("rate_limit" in node.values or "max_in_flight" in node.values)
    } | {
        each["key"]
        for node in found.nodes
        for each in node.values.get("rate_limits", ())
        if each and "key" in each and ("max" in each or "max_in_flight" in node.values)
    }


def _unlimited(node: Node, limited: set[str], stated: Collection[str], findings: Findings) -> None:
    named = [("/rate_limit_key", "rate_limit_key", node.values.get("rate_limit_key"))]
    for i, each in enumerate(node.values.get("rate_limits", ())):
        named.append((f"/rate_limits/{i}/key", "the key", (each or {}).get("key")))
    for pointer, what, key in named:
        if key is not None and key not in limited and not _has_limit(key, stated):
            message = f"{node.owner}{what} {key[:60]!r} has no limit here"
            hint = "state its max and window_seconds, or set them with /rate-limits"
            findings.warn(Problem(node.pointer + pointer, message, hint, UNLIMITED))


def _has_limit(key: str, stated: Collection[str]) -> bool:
    """Whether a key, or one that its template may come to, is among those that are stated. Each
    place of a template stands for one part of a key, as colons part it.
    """
    parts = _TEMPLATE.split(key)
    wanted = re.compile("[^:]+".join(map(re.escape, parts)))
    return any(wanted.fullmatch(each) for each in stated)


def _after_the_end(chain: list[Node], findings: Findings) -> None:
    for node, following in pairwise(chain):
        ends = isinstance(node.block, end.End) or getattr(node.block, "handler", None) == "fail"
        if ends and node.block is not None and node.block.when is None:
            message = f"{following.owner}never reached: {node.given!r} ends this branch"
            findings.warn(Problem(following.pointer, message, "move it up", "unreachable"))
            return
