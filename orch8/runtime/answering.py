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
from orch8.money.evidence import Observation, judge
from orch8.runtime import breakers, cached, declines, doubts, interceptors
from orch8.runtime.doubts import UNRESOLVED
from orch8.runtime.horizon import key_ttl, on_unknown, timeout_of
from orch8.runtime.keys import new_attempt
from orch8.runtime.merging import merge
from orch8.runtime.pacing import spared
from orch8.runtime.placing import place
from orch8.runtime.routes import Kind
from orch8.runtime.ruling import (
    PUSH_DEFAULT,
    Again,
    Ask,
    Case,
    Complete,
    Keep,
    Park,
    Ruling,
    in_doubt,
    rule,
)
from orch8.runtime.run import ENGINE, JANITOR, Run
from orch8.storage.rows import StepRow
from orch8.storage.transaction import storable

NO_RETRY = RetryPolicy()
LONGEST_WHY = 1000  # characters
CELERY_WAIT = (
    300.0  # seconds in which a task of the user's Celery completes its step, unless it says
)
# So long a task that failed is nobody's at least: clients look for the instance to be scheduled.
GIVEN_BACK = timedelta(milliseconds=100)
_QUIET = frozenset({Verdict.SUCCEEDED})
_MAY_HAVE_RUN = frozenset({Verdict.UNKNOWN, Verdict.IN_PROGRESS})
_NO_EFFECT = frozenset({Verdict.FAILED_SAFE, Verdict.NOT_SENT, Verdict.REFUSED})


def answer(run: Run, key: NodeKey, got: Answer, *, actor: str = ENGINE, by: str = "retry") -> None:
    """The answer to a step's present dispatch has taken effect; ``by`` says how it came, which is
    how a doubt about the attempt was resolved.
    """
    row = run.step(key)
    block = run.block(row)
    got = _checked(run, row, _judged(block, got))
    if got.verdict not in _QUIET:
        run.observe(row, "answer", got.verdict, {"error": got.error, **got.evidence})
    row.provider_ref = got.evidence.get("provider_ref") or row.provider_ref
    if by == "retry":  # the call's own answer
        breakers.note(run, row, got)
    if got.verdict is Verdict.SUCCEEDED:  # nearly always, and then nothing else matters
        ruling: Ruling = Complete(COMPLETED, got.output)
        if got.evidence.get("fetch") and on_unknown(run, row).handler is not None:
            got = replace(got, verdict=Verdict.UNKNOWN)  # it exists: what it came to is fetched
            ruling = Ask(timedelta(), "exists")
    else:
        got = _still_unknown(row, got)
        ruling = spared(run, row, got) or rule(case_of(run, row, got), got)
    declines.note(run, row, got)
    row.claimed_by = row.lease_until = row.asking = None
    match ruling:
        case Complete(outcome, output):
            cached.keep(run, row, got)
            merge(run, row, outcome, output)
            run.end(row, outcome, output=output, verdict=got.verdict, actor=actor, by=by)
        case Again(after, counted, fresh):
            again(run, row, after, counted=counted, fresh=fresh, got=got, actor=actor, by=by)
        case Keep(reason):
            row.state, row.waits_for, row.outcome = StepState.WAITING, reason, got.verdict.value
            row.due_at = None
            if row.pull:  # a task of the user's Celery: without word it is sent again
                wait = (block.timeout if isinstance(block, Step) else None) or CELERY_WAIT
                row.expires_at = run.now + timedelta(seconds=wait)
            else:
                doubts.doubt(run, row, reason)
            run.audit("step.pending", "unknown", row, actor=actor)
        case Ask(after, reason):
            row.outcome, row.output = got.verdict.value, got.output
            ask(run, row, after, reason)
        case Park(reason):
            park(run, row, reason, got.verdict.value)


def again(
    run: Run, row: StepRow, after: timedelta, *, counted: bool, fresh: bool, got: Answer,
    actor: str, by: str = "retry",
) -> None:  # fmt: skip
    """The step is scheduled for another dispatch."""
    if run.published.watched:
        interceptors.attempted(run, row)
    row.failures += counted
    if got.verdict in UNRESOLVED:
        doubts.doubt(run, row, "outcome_unknown")
    else:
        doubts.resolved(run, row, by, got.verdict)
    row.outcome = got.verdict.value
    row.error = got.error
    if fresh:
        new_attempt(row)
    reason = str((got.error or {}).get("message", got.verdict))[:500]
    if row.pull and counted:
        after = max(after, GIVEN_BACK)
    send_again(run, row, after)
    run.audit(
        "step.retry" if counted else "step.resend", "deferred", row, actor=actor, reason=reason
    )


def send_again(run: Run, row: StepRow, after: timedelta) -> None:
    """The step is due again after a while, wherever its handler is reached now."""
    row.worker = row.asking = row.waits_for = row.attention = None
    place(run, row, run.now + after)


def ask(run: Run, row: StepRow, after: timedelta, reason: str) -> None:
    """The step's read handler is asked after a while what became of the attempt. What it finds is
    for `runtime/reconcile.py`.
    """
    row.asking = on_unknown(run, row).handler
    assert row.asking is not None
    row.attention = row.worker = None
    begun = (row.progress or {}).get("asked")
    row.progress = {**(row.progress or {}), "asked": begun or 0}
    if run.route(row).kind is Kind.PULL:
        run.offer(row, run.now + after)
    else:
        row.pull, row.expires_at, row.lane = False, None, JANITOR
        row.state, row.waits_for = StepState.SCHEDULED, "reconcile"
        run.schedule(row, run.now + after)
    doubts.doubt(run, row, reason)
    if begun is None:
        run.audit("step.in_doubt", "unknown", row, reason=f"{reason}: {row.asking} will be asked")


def park(run: Run, row: StepRow, reason: str, verdict: str | None, why: str | None = None) -> None:
    """The step needs a person: it is neither failed nor forgotten. ``why`` is what to change."""
    row.state, row.outcome = StepState.PARKED, verdict
    row.due_at = row.held_due_at = row.claimed_by = row.lease_until = row.expires_at = None
    row.limit_key = row.queued_at = row.asking = None
    row.attention = {"reason": reason, "since": run.now.isoformat()}
    if why is not None:
        row.attention["why"] = why[:LONGEST_WHY]
    if row.dispatches:
        doubts.doubt(run, row, reason)
    run.audit("step.parked", "unknown", row, reason=f"{reason}: {why}"[:500] if why else reason)


def policy_of(run: Run, row: StepRow) -> RetryPolicy:
    """The step's own retry policy, or the default of its kind of handler."""
    block = run.block(row)
    if isinstance(block, Step) and block.retry is not None:
        return block.retry
    return PUSH_DEFAULT if run.route(row).kind is Kind.PUSH else NO_RETRY


def case_of(run: Run, row: StepRow, got: Answer) -> Case:
    """What is known of a step when an answer to it comes in."""
    return Case(
        effect=Effect(row.effect),
        policy=policy_of(run, row),
        failures=row.failures,
        # A process that died says nothing of the provider: only what was answered backs off.
        dispatches=max(row.dispatches - row.crashes, 1),
        first_dispatched_at=row.first_dispatched_at,
        now=run.now,
        timeout=timeout_of(run, row),
        entropy=run.around.entropy(),
        key_ttl=key_ttl(run, row),
        cancelling=run.cancelling(row.key),
        retry_if=_retry_if(run, row, run.block(row), got),
        on_unknown=on_unknown(run, row),
    )


def lost(run: Run, row: StepRow) -> Again | Ask | Park:
    """How an attempt is found out about whose dispatch may have been sent by a process that is
    gone: at once, if its key is to be sent again.
    """
    unknown = Answer(Verdict.UNKNOWN)
    return in_doubt(case_of(run, row, unknown), timedelta())


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
    doubted = row.outcome in _MAY_HAVE_RUN and not Effect(row.effect).repeatable
    return replace(got, verdict=Verdict.UNKNOWN) if doubted and got.verdict in _NO_EFFECT else got


def _judged(block: Any, got: Answer) -> Answer:
    """The answer, as the step's outcome_map sees it if it came without an HTTP status: the caller
    of an HTTP handler has done that.
    """
    rules = getattr(block, "outcome_map", ())
    if not rules or "http_status" in got.evidence:
        return got
    judged = judge(rules, Observation(200, got.output if got.error is None else got.error, {}))
    return got if judged is None else replace(got, verdict=judged.verdict)


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
