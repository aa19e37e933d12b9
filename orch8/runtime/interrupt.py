"""interrupt: a signal that the sequence declares takes effect at once; no wait sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import orjson

from orch8.blocks.interrupt import Interrupt, Path, Root
from orch8.engine.events import Interrupted
from orch8.engine.keys import NodeKey
from orch8.engine.lifecycle import StepState
from orch8.engine.scope import CONTEXT, Scope, StepRef
from orch8.errors import Conflict, ExpressionError
from orch8.runtime.builtins.signals import matches
from orch8.runtime.run import Run
from orch8.storage.transaction import dumps

if TYPE_CHECKING:
    from orch8.runtime.signal import SignalRequest

MOST_AT_ONCE: Final = 100  # runs of one interrupt's blocks beside each other


def interrupt(run: Run, request: SignalRequest) -> bool:
    """Whether an interrupt of the sequence takes the signal: the first one whose ``match`` holds.
    Then the context is set, the waits are due and the blocks are started. The audit log says which,
    and what could not be done, which does not keep the rest from being done. Raises Conflict when
    MOST_AT_ONCE runs of the interrupt's blocks are live.
    """
    root = run.index.root
    if not isinstance(root, Root):
        return False
    received = run.now.isoformat()
    event = {"name": request.name, "payload": request.payload, "received_at": received}
    at, scope = NodeKey(root.id, (), run.row.round), replace(run.scope, event=event)
    faults: list[str] = []
    for number, each in enumerate(root.interrupts):
        if each.signal == request.name and _matches(each, scope, at, request.payload, faults):
            _carry_out(run, number, each, scope, at, request, faults)
            return True
    for fault in faults:
        run.audit("interrupt.match", "failed", actor=request.actor, reason=fault)
    return False


def _matches(
    interrupt: Interrupt, scope: Scope, at: NodeKey, payload: Any, faults: list[str]
) -> bool:
    if interrupt.match is None:
        return True
    try:
        return matches(scope.render(interrupt.match, at, None), payload)
    except ExpressionError as problem:
        faults.append(f"match: {problem.detail}"[:500])
        return False


def _carry_out(
    run: Run, number: int, interrupt: Interrupt, scope: Scope, at: NodeKey, request: SignalRequest,
    faults: list[str],
) -> None:  # fmt: skip
    if request.id is not None:
        run.changes.consumed.append((request.id, run.now, f"interrupt:{number}"))
    done: dict[str, Any] = {"interrupt": number}
    if interrupt.set:
        done["set"] = _set(run, interrupt, scope, at, faults)
    if interrupt.wake:
        done["woken"] = _wake(run, interrupt)
    if interrupt.body is not None:
        done["blocks"] = _start(run, number, interrupt, scope.event or {})
    run.audit(
        f"signal.{request.name}"[:200],
        "failed" if faults else "success",
        actor=request.actor,
        reason="; ".join(faults)[:500] or request.reason,
        body=done,
        request_id=request.request_id,
    )


def _set(run: Run, interrupt: Interrupt, scope: Scope, at: NodeKey, faults: list[str]) -> list[str]:
    """The members that were set, in a new version of the context."""
    context = run.known.get(CONTEXT)
    before = data = dict(context.get("data") or {})
    done = []
    for path, template in interrupt.set:
        name = ".".join(("context", "data", *path))
        try:
            value = None if template is None else scope.render(template, at, None)
            data = _with(data, path, value)
        except ExpressionError as problem:
            faults.append(f"{name}: {problem.detail}"[:200])
        else:
            done.append(name)
    if data is before:
        return done
    text, most = dumps({**context, "data": data}), run.around.settings.max_context
    if len(text.encode()) > most:
        faults.append(f"the context would be larger than {most} bytes")
        return []
    run.set_context(orjson.loads(text))  # as it will be read back
    return done


def _with(data: Mapping[str, Any], path: Path, value: Any) -> dict[str, Any]:
    """The object with the member at ``path``; objects on the way to it are made."""
    name, *rest = path
    if not rest:
        return {**data, name: value}
    inner = data.get(name)
    if inner is not None and not isinstance(inner, dict):
        raise ExpressionError(f"{name} is no object, so {'.'.join(rest)} cannot be set in it")
    return {**data, name: _with(inner or {}, tuple(rest), value)}


def _wake(run: Run, interrupt: Interrupt) -> list[str]:
    """The waits that are due now, or when the instance is resumed."""
    keys = [key for key in run.snapshot.frames if key.block_id in interrupt.wake]
    run.known.require(StepRef(k) for k in keys if k not in run.entered and k not in run.touched)
    woken = []
    for key in keys:
        row = run.step(key)
        if row.state == StepState.SCHEDULED:  # one that a worker has is due anyway
            row.progress = {**(row.progress or {}), "woken": True}
            run.schedule(row, run.now)
            woken.append(row.node_key)
    return woken


def _start(run: Run, number: int, interrupt: Interrupt, event: Mapping[str, Any]) -> str:
    """What became of the blocks."""
    assert interrupt.body is not None
    before = run.snapshot
    live = sum(key.block_id == interrupt.body.id for key in before.frames)
    if live >= MOST_AT_ONCE:
        raise Conflict(
            f"the interrupt on {interrupt.signal!r} has {live} runs of its blocks live; send the "
            "signal again when one of them has ended"
        )
    run.fire(Interrupted(number, event))
    if run.snapshot is before:
        return "ignored: the run is ending"
    return "closing" if interrupt.closing else "started"
