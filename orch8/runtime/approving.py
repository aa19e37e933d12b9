"""approving: what a step that lacks its answer does: it looks for it, goes on, ends, or waits.

An answer is a signal ``human_input:<block>`` whose payload names one of the choices. What a signal
of that name says otherwise is consumed and ignored; one for a step that is not there yet stays in
the inbox. The audit log tells who answered what, when, and with which comment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from orch8.blocks.approval import EVENT, HUMAN_INPUT, YES, Approval
from orch8.blocks.step import Step
from orch8.blocks.wait_for_event import read_wanted
from orch8.engine.keys import NodeKey, unescape_id
from orch8.engine.lifecycle import StepState
from orch8.engine.outcome import CANCELLED, COMPLETED, failed
from orch8.engine.scope import CONTEXT, Part
from orch8.handlers.builtin import Pure
from orch8.handlers.registry import HANDLERS
from orch8.runtime import event_waits
from orch8.runtime.answering import send_again
from orch8.runtime.consent import ANSWERED, ASKED
from orch8.runtime.run import ENGINE, Run
from orch8.runtime.visible import scope_of
from orch8.storage.rows import StepRow

SIGNALS: Final = Part("signals")
MARK: Final = "_orch8_human_gate"
LONGEST_COMMENT: Final = 500
MY_TURN: Final = timedelta(milliseconds=50)  # until which a wait for events tries to begin again


def look(run: Run, row: StepRow) -> None:
    """The step has its answer and its handler is due, or its time is up, or it waits on."""
    block = run.block(row)
    assert isinstance(block, Step)
    approval = block.approval
    if run.cancelling(row.key):
        run.end(row, CANCELLED)
        return
    if approval is None:  # the version that the instance was migrated to asks nobody
        _call(run, row)
        return
    events = None
    if row.waits_for == EVENT:
        events = event_waits.standing(run, row) or _begin(run, row, block)
        if events is None:
            _wait(run, row, run.now + MY_TURN * run.moment.rate)
            return
    until = _until(run, row, approval)
    for signal in _own(run, row):
        run.changes.consumed.append((signal.id, run.now, row.node_key))
        value = approval.accepted(signal.payload)
        if value is not None:
            _go_on(run, row, value, actor=signal.actor, comment=_comment(signal.payload))
            return
        reason = f"the signal {signal.name} names none of its choices"
        run.audit("step.answer_ignored", "refused", row, actor=signal.actor, reason=reason)
    if events is not None and events.satisfied:
        _go_on(run, row, YES.value, comment="the events that it waited for have come")
    elif _automatic(run):
        _go_on(run, row, approval.choices[0].value, comment="answered by itself: a dry run")
    elif until is not None and until <= run.now:
        _time_is_up(run, row, approval)
    else:
        _wait(run, row, until)


def answered(run: Run, name: str, waiting: Iterable[str]) -> None:
    """The first of the ``waiting`` nodes that a signal of this name answers for has looked for its
    answer. One that is not asked yet, or is being looked at by a worker, finds it itself.
    """
    for key in map(NodeKey.parse, sorted(waiting)):
        if name in _names(key):
            row = run.step(key)
            if row.state == StepState.WAITING:
                look(run, row)
                return


def _names(key: NodeKey) -> tuple[str, str]:
    """The signals that answer for a node: for its block, or for this one of its iterations."""
    return f"{HUMAN_INPUT}{unescape_id(key.block_id)}", f"{HUMAN_INPUT}{key}"


def _own(run: Run, row: StepRow) -> list[Any]:
    taken = {consumed[0] for consumed in run.changes.consumed}
    names = _names(row.key)
    return [s for s in run.known.get(SIGNALS) if s.name in names and s.id not in taken]


def _begin(run: Run, row: StepRow, block: Step) -> event_waits.Standing | None:
    params = None
    if block.params is not None:
        params = scope_of(run, block).render(block.params, row.key, run.error(row.key))
    return event_waits.begin(run, row, read_wanted(params))


def _until(run: Run, row: StepRow, approval: Approval) -> datetime | None:
    """When the time for an answer is over; it began when the step was asked for the first time."""
    if ASKED not in (row.progress or {}):
        timeout = approval.timeout
        until = None if timeout is None else run.now + timedelta(seconds=timeout)
        asked = {
            "at": run.now.isoformat(), "until": until and until.isoformat(),
            "first": approval.choices[0].value,
        }  # fmt: skip
        row.progress = {**(row.progress or {}), ASKED: asked}
        run.audit("step.asked", "success", row, reason=approval.prompt[:LONGEST_COMMENT] or None)
    text = row.progress[ASKED]["until"]
    return None if text is None else datetime.fromisoformat(text)


def _automatic(run: Run) -> bool:
    """Whether this is a dry run that answers by itself. A real one never does, whatever it says."""
    runtime = run.known.get(CONTEXT).get("runtime")
    given = runtime if isinstance(runtime, Mapping) else {}
    return given.get("dry_run") is True and given.get("dry_run_auto_approve") is True


def _comment(payload: Mapping[str, Any]) -> str | None:
    comment = payload.get("comment")
    return comment[:LONGEST_COMMENT] if isinstance(comment, str) and comment.strip() else None


def _go_on(
    run: Run, row: StepRow, value: str, *, actor: str = ENGINE, comment: str | None = None
) -> None:
    """The answer is shown, is in the context, and the handler is due."""
    block = run.block(row)
    assert isinstance(block, Step)
    assert block.approval is not None
    if row.waits_for == EVENT:
        event_waits.go_on(run, row)
    run.trace(row.block_id, {"value": value, MARK: True})
    _keep(run, block.approval.store_as or unescape_id(row.block_id), value)
    given = {
        "value": value, "by": actor, "at": run.now.isoformat(),
        "context_version": run.row.context_version,
    }  # fmt: skip
    others = {name: kept for name, kept in (row.progress or {}).items() if name != ASKED}
    row.progress = {**others, ANSWERED: given}
    body = {"handler": row.handler, "value": value}
    run.audit("step.answered", "success", row, actor=actor, reason=comment, body=body)
    _call(run, row)


def _call(run: Run, row: StepRow) -> None:
    """The step's handler is due; whoever settles this may go on with it at once."""
    send_again(run, row, timedelta())
    run.arrivals.append(row)


def _keep(run: Run, name: str, value: str) -> None:
    """The context's data has the answer; data that is no object stays as it is."""
    context = run.known.get(CONTEXT)
    data = context.get("data")
    if data is None or isinstance(data, dict):
        run.set_context({**context, "data": {**(data or {}), name: value}})


def _time_is_up(run: Run, row: StepRow, approval: Approval) -> None:
    """The step fails, or it counts as done, its handler not called, and a built-in that it names
    for this case has run; whatever that comes to.
    """
    seconds, handler = approval.timeout or 0.0, approval.escalation_handler
    if handler is None:
        run.end(row, failed(f"nobody answered within {seconds:g} s", code="timeout"))
        return
    output = {
        "_escalated": True, "_escalation_handler": handler, "_timeout_seconds": int(seconds),
    }  # fmt: skip
    came = "not called: it is no built-in that is computed in place"
    builtin = HANDLERS.get(handler)
    if isinstance(builtin, Pure):
        message = f"step {row.node_key} of {row.instance_id}: nobody answered within {seconds:g} s"
        came = builtin.run({**output, "message": message}).verdict.value
    run.audit("step.escalated", came[:100], row, reason=f"{handler}: nobody answered in time")
    run.end(row, COMPLETED, output=output)


def _wait(run: Run, row: StepRow, until: datetime | None) -> None:
    row.state, row.claimed_by = StepState.WAITING, None
    due = until or row.deadline_at
    if due is None:
        row.due_at = row.held_due_at = None
    else:
        run.schedule(row, due)
