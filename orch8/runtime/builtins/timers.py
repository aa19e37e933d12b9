"""wait and sleep: steps that are durable timers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from orch8.engine.duration import parse_duration
from orch8.engine.lifecycle import StepState
from orch8.engine.outcome import COMPLETED, Verdict
from orch8.errors import ExpressionError
from orch8.runtime.run import Run
from orch8.storage.rows import StepRow


def wait(run: Run, row: StepRow, params: Any) -> None:
    """wait: the step was not due before its delay was over, unless it was woken."""
    if isinstance(row.progress, Mapping) and row.progress.get("woken"):
        output = {"waited_until": run.now.isoformat(), "woken": True}
        run.end(row, COMPLETED, output=output, verdict=Verdict.SUCCEEDED)
        return
    until = until_of(run, row, params, "duration", "until")
    if until is not None and until > run.now:
        row.state = StepState.SCHEDULED
        run.schedule(row, until)
        return
    run.end(row, COMPLETED, output={"waited_until": run.now.isoformat()}, verdict=Verdict.SUCCEEDED)


def sleep(run: Run, row: StepRow, params: Any) -> None:
    """sleep: a durable timer that shows as running and holds no worker."""
    ms = (params or {}).get("duration_ms", 100)
    if "until" not in (row.progress or {}):
        if isinstance(ms, bool) or not isinstance(ms, int) or ms < 0:
            raise ExpressionError(
                f"duration_ms came to {ms!r}; it must be a whole number of milliseconds"
            )
        until = run.now + timedelta(milliseconds=ms)
        row.progress = {**(row.progress or {}), "until": until.isoformat()}
    until = datetime.fromisoformat(row.progress["until"])
    if until > run.now:
        row.state = StepState.SLEEPING
        run.schedule(row, until)
        return
    run.end(row, COMPLETED, output={"slept_ms": ms}, verdict=Verdict.SUCCEEDED)


def until_of(run: Run, row: StepRow, params: Any, span: str, moment: str | None) -> datetime | None:
    """The moment that the params name, or the end of their duration since the step was entered."""
    given = params if isinstance(params, Mapping) else {}
    if moment is not None and given.get(moment) is not None:
        try:
            until = datetime.fromisoformat(str(given[moment]))
        except ValueError:
            raise ExpressionError(
                f"{moment} came to {given[moment]!r}; it must be a timestamp"
            ) from None
        return until if until.tzinfo else until.replace(tzinfo=run.zone)
    if given.get(span) is None:
        return None
    try:
        return parse_duration(given[span]).after(row.created_at, run.zone)
    except ValueError as problem:
        raise ExpressionError(f"{span}: {problem}") from None
