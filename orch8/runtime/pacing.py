"""Pacing: a call that the provider refused for its rate limit costs no attempt and keeps its key.

How long that goes on is bounded: by the step's deadline, and by a day from the first refusal, after
which a refusal counts as any other failure.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from orch8.blocks.step import Step
from orch8.engine.outcome import Answer, Verdict
from orch8.engine.retry import RetryPolicy, backoff
from orch8.handlers import pressure
from orch8.runtime.ruling import Again
from orch8.runtime.run import Run
from orch8.storage.rows import StepRow

LONGEST: Final = timedelta(days=1)
_TOO_MANY: Final = 429
_WAITS: Final = RetryPolicy(
    initial=timedelta(seconds=1), max_backoff=timedelta(minutes=1), jitter=0.5
)


def spared(run: Run, row: StepRow, got: Answer) -> Again | None:
    """How a step with a limit goes on that was refused for the provider's; None if it was not, or
    for too long. The row notes since when.
    """
    block = run.block(row)
    limited = isinstance(block, Step) and (block.rate_limits or block.max_in_flight is not None)
    said = got.evidence.get("http_status") == _TOO_MANY or got.evidence.get("rate_limited")
    refused = got.verdict is Verdict.FAILED_SAFE and said
    if not limited or not refused or row.asking is not None or run.cancelling(row.key):
        return None
    notes = (row.progress or {}).get("pushed_back", {})
    if notes.get("generation") != row.generation:
        notes = {"generation": row.generation, "since": run.now.isoformat(), "times": 0}
    if run.now - datetime.fromisoformat(notes["since"]) > LONGEST:
        return None
    times = notes["times"] + 1
    row.progress = {**(row.progress or {}), "pushed_back": {**notes, "times": times}}
    told = pressure.read(got.evidence)
    asked = (told.seconds if told is not None else None) or got.retry_after or 0.0
    wait = backoff(_WAITS, min(times, 20), run.around.entropy())
    return Again(max(wait, timedelta(seconds=min(asked, pressure.LONGEST))), counted=False)
