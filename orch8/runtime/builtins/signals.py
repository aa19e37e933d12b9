"""wait_signal: a step that waits for a signal to its instance."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from orch8.engine.lifecycle import StepState
from orch8.engine.outcome import COMPLETED, Verdict, failed
from orch8.engine.scope import Part
from orch8.errors import ExpressionError
from orch8.runtime.builtins.timers import until_of
from orch8.runtime.run import Run
from orch8.storage.rows import StepRow


def wait_signal(run: Run, row: StepRow, params: Any) -> None:
    """wait_signal: consumes the oldest matching signal, also one that came before the wait."""
    given = params or {}
    name = given.get("signal")
    if not isinstance(name, str) or not name:
        raise ExpressionError(
            f"wait_signal: signal came to {name!r}; it must be the name of a signal"
        )
    taken = {consumed[0] for consumed in run.changes.consumed}
    for signal in run.known.get(Part("signals")):
        if (
            signal.name == name
            and signal.id not in taken
            and matches(given.get("match"), signal.payload)
        ):
            run.changes.consumed.append((signal.id, run.now, row.node_key))
            output = {
                "signal": name,
                "payload": signal.payload,
                "received_at": signal.received_at.isoformat(),
            }
            run.end(row, COMPLETED, output=output, verdict=Verdict.SUCCEEDED, actor=signal.actor)
            return
    if "until" not in (row.progress or {}):
        until = until_of(run, row, given, "timeout", None)
        row.progress = {**(row.progress or {}), "until": until.isoformat() if until else None}
    until = datetime.fromisoformat(row.progress["until"]) if row.progress["until"] else None
    if until is not None and until <= run.now:
        if given.get("on_timeout", "fail") == "continue":
            run.end(
                row,
                COMPLETED,
                output={"signal": None, "timed_out": True},
                verdict=Verdict.SUCCEEDED,
            )
        else:
            run.end(row, failed(f"signal {name!r} did not come in time", code="timeout"))
        return
    row.state, row.waits_for, row.claimed_by = StepState.WAITING, f"signal:{name}", None
    if until is None and row.deadline_at is None:
        row.due_at = row.held_due_at = None
    else:
        run.schedule(row, min(moment for moment in (until, row.deadline_at) if moment is not None))


def matches(wanted: Any, payload: Any) -> bool:
    """Whether the payload has every member that ``match`` names, with that value."""
    if wanted is None:
        return True
    if not isinstance(wanted, Mapping) or not isinstance(payload, Mapping):
        return bool(wanted == payload)
    return all(name in payload and payload[name] == value for name, value in wanted.items())
