"""reconcile: what a step's read handler found out about an attempt in doubt, and what follows.

The janitor's part of the state machine: the question is a claim like any other, in a lane of its
own, and its answer never is the step's own. That something happened is believed at once; that it
did not, only when everything that was sent has had the time to arrive, and when it is said more
than once (IN_DOUBT rule 7).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from orch8.engine.outcome import CANCELLED, Answer, Verdict
from orch8.handlers.classify import BY_OUTCOME
from orch8.runtime import budgets, doubts
from orch8.runtime.answering import answer, ask, park, send_again
from orch8.runtime.horizon import on_unknown, still_known, timeout_of
from orch8.runtime.keys import new_attempt
from orch8.runtime.run import Run
from orch8.storage.rows import StepRow

QUARANTINE: Final = timedelta(seconds=5)  # beyond a dispatch's time-out: a late worker may yet send
MOST_ABSENT: Final = 10  # attempts that were found not to have happened, before a person looks
_FOUND: Final = ("yes", "no", "cannot_tell")
_STILL_OPEN: Final = frozenset({Verdict.PENDING, Verdict.IN_PROGRESS, Verdict.UNKNOWN})


@dataclass(frozen=True, slots=True)
class Finding:
    """What a read handler says: ``found`` is yes, no or cannot_tell; ``why`` is for people."""

    found: str
    verdict: Verdict = Verdict.UNKNOWN
    output: Any = None
    provider_ref: str | None = None
    why: str | None = None


def heard(run: Run, row: StepRow, got: Answer) -> None:
    """The answer of a step's read handler has taken effect: the attempt is resolved, found not to
    have happened, asked about again, or parked once the schedule is over.
    """
    finding = read(got)
    body = {"found": finding.found, "provider_ref": finding.provider_ref, "why": finding.why}
    run.observe(row, "reconcile", finding.verdict, {**body, **got.evidence})
    row.provider_ref = finding.provider_ref or row.provider_ref
    settled = finding.found == "yes" and finding.verdict not in _STILL_OPEN
    if settled:
        reference = {"provider_ref": finding.provider_ref} if finding.provider_ref else {}
        error = {"message": finding.why or f"found: {finding.verdict}", "code": "reconciled"}
        answer(
            run,
            row.key,
            Answer(finding.verdict, finding.output, error, evidence=reference),
            by="reconcile",
        )
        return
    if finding.found == "no" and _counts(run, row):
        seen = (row.progress or {}).get("absent", 0) + 1
        row.progress = {**(row.progress or {}), "absent": seen}
        if seen >= on_unknown(run, row).confirmations:
            _absent(run, row)
            return
    _ask_again(run, row, finding)


def read(got: Answer) -> Finding:
    """What the read handler's answer says; anything that it does not say clearly it cannot tell."""
    # The attempt's outcome, which the answer names, may have been taken for the question's own.
    given = got.output if got.output is not None else (got.error or {}).get("details")
    if not isinstance(given, dict) or "found" not in given:
        why = (got.error or {}).get("message") or "its answer has no member found"
        return Finding("cannot_tell", why=str(why)[:500])
    found = given.get("found")
    if isinstance(found, bool):
        found = "yes" if found else "no"
    if found not in _FOUND:
        why = f"found is {found!r:.60}; it must be yes, no or cannot_tell"
        return Finding("cannot_tell", why=why)
    reference = given.get("provider_ref")
    reference = str(reference)[:255] if reference is not None else None
    if found != "yes":
        return Finding(found, provider_ref=reference, why=given.get("why"))
    named = given.get("outcome", Verdict.SUCCEEDED.value)
    verdict = Verdict.FAILED if named == "failed" else BY_OUTCOME.get(named)
    if verdict is None or verdict is Verdict.FAILED_SAFE:
        return Finding("cannot_tell", why=f"outcome {named!r:.60} says nothing that is known")
    return Finding("yes", verdict, given.get("output"), reference, given.get("why"))


def _counts(run: Run, row: StepRow) -> bool:
    """Whether an absence means something by now: the last dispatch has had its time to arrive, and
    the provider its time to show it.
    """
    return row.last_dispatched_at is None or run.now >= _settled_at(run, row)


def _settled_at(run: Run, row: StepRow) -> Any:
    assert row.last_dispatched_at is not None
    quarantine = timedelta(seconds=timeout_of(run, row)) + QUARANTINE
    delay = timedelta(seconds=on_unknown(run, row).settle_delay)
    return row.last_dispatched_at + max(quarantine, delay)


def _absent(run: Run, row: StepRow) -> None:
    """It surely did not happen: dispatched again, under the same key if the provider still knows
    it, else as a new attempt; a step that is being cancelled ends.
    """
    times = (row.progress or {}).get("absences", 0) + 1
    kept = {"absences": times, "previous_key": (row.progress or {}).get("previous_key")}
    row.asking = None
    if run.cancelling(row.key):
        run.end(row, CANCELLED, by="reconcile")
        return
    if times > MOST_ABSENT:
        park(run, row, "never_arrives", Verdict.UNKNOWN)
        return
    run.audit("step.absent", "success", row, reason="it did not happen; it is sent again")
    doubts.resolved(run, row, "reconcile", "not_happened")
    budgets.judge(run, row, Verdict.NOT_SENT)
    row.outcome = Verdict.FAILED_SAFE.value
    row.progress = kept
    if not still_known(run, row):
        new_attempt(row)
    send_again(run, row, timedelta())


def _ask_again(run: Run, row: StepRow, finding: Finding) -> None:
    wanted = on_unknown(run, row)
    progress = dict(row.progress or {})
    # A question that somebody's waiting brought about is none of the schedule.
    asked = progress.get("asked", 0) + (not progress.pop("hurried", False))
    row.progress = {**progress, "asked": asked, "asked_at": run.now.isoformat()}
    expecting = finding.found == "no"  # another look is bound to count
    if asked >= len(wanted.schedule) and not expecting:
        park(run, row, "reconcile_exhausted", Verdict.UNKNOWN)
        return
    after = wanted.schedule[min(asked, len(wanted.schedule) - 1)]
    if expecting and row.last_dispatched_at is not None:
        settles = max(_settled_at(run, row) - run.now, wanted.schedule[0])
        after = min(after, settles)
    ask(run, row, after, row.outcome or Verdict.UNKNOWN.value)
