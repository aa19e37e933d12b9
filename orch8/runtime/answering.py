"""What follows from an answer: the ruling on it, as rows and events of its run."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from orch8.blocks.step import Effect, Step
from orch8.engine.keys import NodeKey
from orch8.engine.lifecycle import StepState
from orch8.engine.outcome import COMPLETED, Answer, Verdict
from orch8.engine.retry import RetryPolicy
from orch8.errors import ExpressionError
from orch8.runtime.routes import Kind
from orch8.runtime.ruling import (
    DEFAULT_KEY_TTL,
    PUSH_DEFAULT,
    Again,
    Case,
    Complete,
    Keep,
    Park,
    Ruling,
    rule,
)
from orch8.runtime.run import ENGINE, Run
from orch8.storage.rows import StepRow
from orch8.storage.transaction import storable

NO_RETRY = RetryPolicy()
CELERY_WAIT = (
    300.0  # seconds in which a task of the user's Celery completes its step, unless it says
)
_QUIET = frozenset({Verdict.SUCCEEDED})
_NO_EFFECT = frozenset({Verdict.FAILED_SAFE, Verdict.NOT_SENT, Verdict.REFUSED})


def answer(run: Run, key: NodeKey, got: Answer, *, actor: str = ENGINE) -> None:
    """The answer to a step's present dispatch has taken effect."""
    row = run.step(key)
    block = run.block(row)
    got = _checked(run, row, got)
    if got.verdict not in _QUIET:
        run.observe(row, "answer", got.verdict, {"error": got.error, **got.evidence})
    if got.verdict is Verdict.SUCCEEDED:  # nearly always, and then nothing else matters
        ruling: Ruling = Complete(COMPLETED, got.output)
    else:
        got = _still_unknown(row, got)
        ruling = rule(_case(run, row, block, got), got)
    row.claimed_by = row.lease_until = None
    match ruling:
        case Complete(outcome, output):
            run.end(row, outcome, output=output, verdict=got.verdict, actor=actor)
        case Again(after, counted, fresh):
            again(run, row, after, counted=counted, fresh=fresh, got=got, actor=actor)
        case Keep(reason):
            row.state, row.waits_for, row.outcome = StepState.WAITING, reason, got.verdict.value
            row.due_at = None
            if row.pull:  # a task of the user's Celery: without word it is sent again
                wait = (block.timeout if isinstance(block, Step) else None) or CELERY_WAIT
                row.expires_at = run.now + timedelta(seconds=wait)
            run.audit("step.pending", "unknown", row, actor=actor)
        case Park(reason):
            park(run, row, reason, got.verdict.value)


def again(
    run: Run, row: StepRow, after: timedelta, *, counted: bool, fresh: bool, got: Answer, actor: str
) -> None:
    """The step is scheduled for another dispatch."""
    row.failures += counted
    row.outcome = got.verdict.value
    row.error = got.error
    if fresh:
        row.generation += 1
        row.idempotency_key = row.fingerprint = row.request = row.first_dispatched_at = None
        row.dispatches = 0
    row.worker = None
    if run.route(row).kind is Kind.PULL:
        run.offer(row, run.now + after)
    else:
        row.state, row.expires_at = StepState.SCHEDULED, None
        run.schedule(row, run.now + after)
    reason = str((got.error or {}).get("message", got.verdict))[:500]
    run.audit(
        "step.retry" if counted else "step.resend", "deferred", row, actor=actor, reason=reason
    )


def park(run: Run, row: StepRow, reason: str, verdict: str | None) -> None:
    """The step needs a person: it is neither failed nor forgotten."""
    row.state, row.outcome = StepState.PARKED, verdict
    row.due_at = row.held_due_at = row.claimed_by = row.lease_until = row.expires_at = None
    row.limit_key = row.queued_at = None
    row.attention = {"reason": reason, "since": run.now.isoformat()}
    run.audit("step.parked", "unknown", row, reason=reason)


def policy_of(run: Run, row: StepRow) -> RetryPolicy:
    """The step's own retry policy, or the default of its kind of handler."""
    block = run.block(row)
    if isinstance(block, Step) and block.retry is not None:
        return block.retry
    return PUSH_DEFAULT if run.route(row).kind is Kind.PUSH else NO_RETRY


def _case(run: Run, row: StepRow, block: Any, got: Answer) -> Case:
    settings = run.around.settings
    ttl = (
        block.key_ttl if isinstance(block, Step) and block.key_ttl is not None else DEFAULT_KEY_TTL
    )
    timeout = (
        block.timeout if isinstance(block, Step) and block.timeout else settings.handler_timeout
    )
    return Case(
        effect=Effect(row.effect),
        policy=policy_of(run, row),
        failures=row.failures,
        dispatches=row.dispatches,
        first_dispatched_at=row.first_dispatched_at,
        now=run.now,
        timeout=timeout,
        entropy=run.around.entropy(),
        key_ttl=ttl,
        cancelling=run.cancelling(row.key),
        retry_if=_retry_if(run, row, block, got),
    )


def _retry_if(run: Run, row: StepRow, block: Any, got: Answer) -> bool | None:
    if not isinstance(block, Step) or block.retry_if is None or got.verdict is Verdict.SUCCEEDED:
        return None
    try:
        return run.scope.truthy(
            block.retry_if, row.key, got.error or {"message": got.verdict.value}
        )
    except ExpressionError:
        return False


def _still_unknown(row: StepRow, got: Answer) -> Answer:
    """The answer, unless it only says that this dispatch had no effect while an earlier one of the
    same attempt may have had it: then the attempt is as unknown as before, and its key is sent
    again.
    """
    in_doubt = row.outcome == Verdict.UNKNOWN and not Effect(row.effect).repeatable
    return replace(got, verdict=Verdict.UNKNOWN) if in_doubt and got.verdict in _NO_EFFECT else got


def _checked(run: Run, row: StepRow, got: Answer) -> Answer:
    """The answer, unless its output is not what the step says it must be: then whether it happened
    is unknown for what may have an effect, and a failure for the rest.
    """
    output = storable(got.output)
    if output is not got.output:
        got = replace(got, output=output)
    schema = run.published.sequence.output_schemas.get(row.block_id)
    if schema is None or got.verdict is not Verdict.SUCCEEDED:
        return got
    problem = next(iter(schema.iter_errors(got.output)), None)
    if problem is None:
        return got
    error = {
        "message": f"output failed output_schema validation: {problem.message[:300]}",
        "code": "invalid_output",
        "details": {"pointer": "".join(f"/{part}" for part in problem.absolute_path)},
    }
    verdict = Verdict.FAILED if Effect(row.effect).repeatable else Verdict.UNKNOWN
    return Answer(verdict, None, error, evidence=got.evidence)
