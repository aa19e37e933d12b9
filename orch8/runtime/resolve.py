"""resolve: what a person found out about an attempt, or wants done about it, takes effect."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import orjson

from orch8.blocks.step import Effect
from orch8.engine.lifecycle import StepState
from orch8.engine.outcome import CANCELLED, SKIPPED, Answer, Outcome, Status, Verdict
from orch8.errors import Conflict, InvalidArgument, NotFound, Problem
from orch8.handlers.classify import named_outcome, spoken
from orch8.runtime import budgets, doubts
from orch8.runtime.answering import answer, ask, send_again
from orch8.runtime.doubts import UNRESOLVED
from orch8.runtime.horizon import on_unknown, still_known
from orch8.runtime.keys import new_attempt
from orch8.runtime.office import Office, only
from orch8.runtime.run import Run
from orch8.runtime.signal import change
from orch8.storage import instances, steps
from orch8.storage.rows import InstanceRow, Moment, StepRow
from orch8.storage.transaction import Tx


class Decision(StrEnum):
    """What a person found out about an attempt, and wants done."""

    HAPPENED = "happened"  # it was carried out: the output is what it came to
    DECLINED = "declined"  # the provider said no for good
    RETRY = "retry"  # it was surely not carried out: send it again
    SKIP = "skip"  # it was surely not carried out: go on without it
    FAIL = "fail"  # it was surely not carried out: the step fails
    ASK_AGAIN = "ask_again"  # nobody knows yet: ask the provider now


PERSON: Final = "person"  # who resolved a doubt, for the table of doubts
_MADE: Final = frozenset({None, Verdict.SUCCEEDED, Verdict.REQUIRES_ACTION})
_UNDONE: Final = frozenset({Decision.RETRY, Decision.SKIP, Decision.FAIL})
_COUNTED: Final = frozenset({"asked", "asked_at", "absent", "absences"})  # by reconcile
_ENDED: Final = frozenset({StepState.COMPLETED, StepState.FAILED, StepState.CANCELLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A decision, who takes it and why. ``epoch``: that of the attempt as it was looked at; it is
    refused if the attempt has changed. ``more`` goes into the audit log besides.
    """

    decision: Decision
    actor: str
    reason: str
    output: Any = None
    provider_ref: str | None = None
    epoch: int | None = None
    request_id: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A step and its instance, both locked, and what time it is."""

    instance: InstanceRow
    row: StepRow
    moment: Moment


def lock(tx: Tx, instance_id: UUID, node_key: str, *, tenant_id: str | None) -> Attempt:
    """The attempt that a node is at: nobody else changes it before this transaction ends."""
    found, moment = instances.lock_instances(tx, [instance_id])
    instance = only(found, instance_id, tenant_id)
    row = next(iter(steps.lock_steps(tx, [(instance_id, node_key)])), None)
    if row is None:
        raise NotFound(f"step {node_key!r} of instance {instance_id}")
    return Attempt(instance, row, moment)


def why_not(row: StepRow) -> str | None:
    """Why nothing is to be decided about a step, if that is so: it is not in doubt, or its call is
    in flight.
    """
    if row.state == StepState.PARKED:
        return None
    if row.state in _ENDED:
        return f"it is {row.state}: only an attempt in doubt is decided"
    unresolved = row.outcome == Verdict.PENDING or (
        row.outcome in UNRESOLVED and not Effect(row.effect).repeatable
    )
    if not unresolved:
        return f"it is {row.state} and not in doubt: only an attempt in doubt is decided"
    if row.state == StepState.RUNNING:
        return "a call is in flight: wait for its answer, or for the end of its lease"
    return None


def check(office: Office, tx: Tx, attempt: Attempt, judgement: Judgement) -> None:
    """The decision is one that can be taken about the attempt as it is. Raises Conflict if not, and
    InvalidArgument for an output that the step could not have.
    """
    row = attempt.row
    refusal = why_not(row)
    if refusal is not None:
        raise Conflict(f"step {row.node_key!r} cannot be decided: {refusal}")
    if judgement.epoch is not None and judgement.epoch != row.epoch:
        raise Conflict(
            f"step {row.node_key!r} has changed since you looked at it (epoch {row.epoch}, not "
            f"{judgement.epoch}): look again"
        )
    if judgement.decision is Decision.HAPPENED:
        published = office.library.get(tx, attempt.instance.sequence_id)
        _check_output(published.sequence.output_schemas.get(row.block_id), judgement.output)


def carry_out(office: Office, tx: Tx, attempt: Attempt, judgement: Judgement) -> InstanceRow:
    """The decision has taken effect on an attempt that was checked, and the audit log says whose it
    was; the instance as it is now.
    """

    def work(run: Run) -> None:
        row = run.step(attempt.row.key)
        before = _shown(row)
        place = len(run.changes.audit)
        _apply(run, row, judgement)
        body = {"before": before, "after": _shown(row), **_said(judgement), **judgement.more}
        run.audit(
            "step.resolved", judgement.decision, row, actor=judgement.actor,
            reason=judgement.reason, request_id=judgement.request_id, body=body,
        )  # fmt: skip
        # Who decided is told before what followed from it.
        run.changes.audit.insert(place, run.changes.audit.pop())

    return change(office, tx, attempt.instance, attempt.moment, work, [attempt.row]).row


def cannot_ask(run: Run, row: StepRow) -> str | None:
    """Why the provider cannot be asked what became of the attempt, if that is so."""
    if run.cancelling(row.key) and row.dispatches == 0:
        return "it was never sent, and its instance is being cancelled"
    if on_unknown(run, row).handler is not None or still_known(run, row):
        return None
    return (
        "no read handler is named in on_unknown, and the provider may have forgotten the key of "
        f"{row.first_dispatched_at:%Y-%m-%d %H:%M} UTC: look at its dashboard and decide"
    )


def _apply(run: Run, row: StepRow, judgement: Judgement) -> None:
    decision = judgement.decision
    if decision is Decision.ASK_AGAIN:
        _ask_now(run, row)
        return
    row.epoch += 1  # whatever still comes back of the call is evidence from now on
    row.attention = row.asking = row.waits_for = row.worker = None
    row.provider_ref = judgement.provider_ref or row.provider_ref
    if decision in (Decision.HAPPENED, Decision.DECLINED):
        answer(run, row.key, _answer_of(judgement), actor=judgement.actor, by=PERSON)
    elif decision in _UNDONE and run.cancelling(row.key):
        _end(run, row, CANCELLED, judgement)  # it did not happen, and is not wanted any more
    elif decision is Decision.FAIL:
        error = {"message": judgement.reason, "code": "resolved"}
        _end(run, row, Outcome(Status.FAILED, error), judgement, Verdict.FAILED)
    elif decision is Decision.SKIP:
        _end(run, row, SKIPPED, judgement)
    else:
        _send_anew(run, row)


def _answer_of(judgement: Judgement) -> Answer:
    """What the provider would have said, in the words of the person who looked it up."""
    evidence = {"resolved_by": judgement.actor, "provider_ref": judgement.provider_ref}
    if judgement.decision is Decision.DECLINED:
        error = {"message": judgement.reason, "code": "declined"}
        return Answer(Verdict.DECLINED, judgement.output, error, evidence=evidence)
    return spoken(judgement.output, evidence)


def _check_output(schema: Any, output: Any) -> None:
    """The output says that it happened and is what the step's own would have to be: else the engine
    would take it for an answer that is unknown, and send the call again.
    """
    named = output.get("outcome") if isinstance(output, dict) else None
    if named is not None and named_outcome(output) not in _MADE:
        hint = 'leave it out, or take the decision "declined"'
        problem = Problem("/output/outcome", f"{str(named)[:60]!r} did not happen", hint)
        raise InvalidArgument("the output says that it did not happen", errors=[problem])
    found = None if schema is None else next(iter(schema.iter_errors(output)), None)
    if found is not None:
        pointer = "".join(f"/{part}" for part in found.absolute_path)
        problem = Problem(f"/output{pointer}", found.message[:300], "see the step's output_schema")
        raise InvalidArgument(
            f"output does not fit the step's output_schema: {problem.message}", errors=[problem]
        )


def _end(
    run: Run, row: StepRow, outcome: Outcome, judgement: Judgement, verdict: Verdict | None = None
) -> None:
    budgets.judge(run, row, Verdict.NOT_SENT)
    run.end(row, outcome, verdict=verdict, actor=judgement.actor, by=PERSON)


def _send_anew(run: Run, row: StepRow) -> None:
    """It is sent again: with its key while the provider surely knows it, with a new one after that,
    since only a person may say that it did not happen.
    """
    doubts.resolved(run, row, PERSON, Verdict.FAILED_SAFE)
    budgets.judge(run, row, Verdict.NOT_SENT)
    if not still_known(run, row):
        new_attempt(row)
    row.outcome, row.crashes, row.failures = None, 0, 0
    row.progress = _without_questions(row)
    send_again(run, row, timedelta())


def _ask_now(run: Run, row: StepRow) -> None:
    refusal = cannot_ask(run, row)
    if refusal is not None:
        raise Conflict(f"step {row.node_key!r} cannot be asked about: {refusal}")
    row.crashes = 0
    row.progress = _without_questions(row)
    if on_unknown(run, row).handler is not None and row.dispatches:
        ask(run, row, timedelta(), "asked_by_person")
    else:
        send_again(run, row, timedelta())


def _without_questions(row: StepRow) -> Any:
    """The step's progress, what its read handler was asked and found being counted anew."""
    return {k: v for k, v in (row.progress or {}).items() if k not in _COUNTED} or None


def _shown(row: StepRow) -> dict[str, Any]:
    return {
        "state": row.state, "outcome": row.outcome, "epoch": row.epoch,
        "generation": row.generation, "dispatches": row.dispatches,
        "idempotency_key": row.idempotency_key,
    }  # fmt: skip


def _said(judgement: Judgement) -> dict[str, Any]:
    """What the audit log keeps of a decision; of the output only a digest, being no payload's
    place.
    """
    said: dict[str, Any] = {"decision": judgement.decision}
    if judgement.provider_ref is not None:
        said["provider_ref"] = judgement.provider_ref
    if judgement.output is not None:
        raw = orjson.dumps(judgement.output, option=orjson.OPT_SORT_KEYS)
        said["output_sha256"] = hashlib.sha256(raw).hexdigest()
    return said
