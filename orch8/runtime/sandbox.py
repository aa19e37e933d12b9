"""sandbox: what is different in a dry run: nobody is called, and nothing outside of it is changed.

A step that would call somebody is answered in its place, by a route of another kind; so it is
carried out like a built-in, without an intent, a fence, a budget or a token. What only waits, or
changes the instance itself, is done as ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from orch8.blocks.step import Effect
from orch8.handlers.stubs import ACTING
from orch8.runtime.routes import Kind, Route

if TYPE_CHECKING:
    from orch8.storage.rows import InstanceRow

DRY: Final = "dryrun:"  # what keys begin with that are no real run's
_MARKS: Final = ("dry_run", "dry_run_auto_approve")  # of context.runtime; only the engine sets them


def stubbed(route: Route, effect: str) -> Route:
    """How a dry run reaches a handler. A pull worker gets its task, and sees that it is none of a
    real run; but one that moves money gets none: a worker that does not look would move it.
    """
    match route.kind:
        case Kind.PURE:
            real = True
        case Kind.DURABLE:
            real = route.handler not in ACTING
        case Kind.PULL:
            real = not Effect(effect).frozen
        case _:
            real = False
    return route if real else replace(route, kind=Kind.STUB)


def marked(context: Any, *, dry_run: bool, auto_approve: bool = False) -> Any:
    """The context, with ``runtime`` saying of it what is true: whether it is a dry run's, and
    whether that one's gates open by themselves.
    """
    if not isinstance(context, dict):
        return context
    given = context.get("runtime")
    told = given if isinstance(given, Mapping) else {}
    if not dry_run and all(mark not in told for mark in _MARKS):
        return context
    others = {name: value for name, value in told.items() if name not in _MARKS}
    marks = dict(zip(_MARKS, (True, auto_approve), strict=True)) if dry_run else {}
    return {**context, "runtime": {**others, **marks}}


def seen(context: Any) -> dict[str, Any]:
    """What a worker sees of a dry run's context, whatever else its step hides from it: that it is
    one.
    """
    shown = context if isinstance(context, dict) else {}
    told = shown.get("runtime")
    return {**shown, "runtime": {**(told if isinstance(told, dict) else {}), "dry_run": True}}


def own_key(instance: InstanceRow, key: str) -> str:
    """A key of the definition's own making, as the instance uses it: a dry run's is no real one's,
    and a fork's not that of the instance that it was forked from.
    """
    if instance.fork_id is not None:
        key = f"{key}/{instance.id}"
    return f"{DRY}{key}" if instance.dry_run else key
