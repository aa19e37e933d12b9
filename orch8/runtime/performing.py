"""What a claimed step does inside the transaction that settles it: built-ins, timers, time-outs.

Durable built-ins are part of the machine: what they do and what they leave behind is one commit.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from orch8.blocks.step import Effect, Step
from orch8.blocks.sub_sequence import SubSequence
from orch8.engine.lifecycle import StepState
from orch8.engine.outcome import COMPLETED, Answer, Outcome, Status, Verdict
from orch8.errors import ExpressionError
from orch8.handlers.builtin import Pure
from orch8.handlers.registry import HANDLERS
from orch8.handlers.stubs import stub
from orch8.runtime.answering import answer, park
from orch8.runtime.approving import look
from orch8.runtime.builtins import DURABLE
from orch8.runtime.cached import recalled
from orch8.runtime.doubts import in_doubt
from orch8.runtime.offering import note, tell
from orch8.runtime.routes import LOOK, Kind
from orch8.runtime.run import Run
from orch8.runtime.visible import scope_of
from orch8.storage.rows import StepRow
from orch8.storage.task_events import RECLAIMED, TIMED_OUT

BREACHED: Final = "sla_deadline_breached"  # what the output of a step says whose deadline passed


def perform(run: Run, row: StepRow) -> None:
    """A due step that calls nobody has done its part: it ended, or it waits on."""
    if row.deadline_at is not None and run.now >= row.deadline_at:
        _breach(run, row)
        return
    route = run.route(row)
    kind = route.kind
    try:
        if route is LOOK:
            look(run, row)
            return
        if kind is not Kind.DURABLE and (known := recalled(run, row)) is not None:
            answer(run, row.key, known)
            return
        if kind is Kind.PULL:
            run.offer(row)
            return
        if kind.calls_out:  # since it was claimed it has an address
            row.state, row.lane = StepState.SCHEDULED, run.lane(row)
            run.schedule(row, run.now)
            return
        params = _params(run, row)
        if kind is Kind.PURE:
            builtin = route.builtin
            assert isinstance(builtin, Pure)
            answer(run, row.key, builtin.run(_ready(run, row, params)))
        elif kind is Kind.STUB:
            output = stub(row.handler, params)
            run.end(row, COMPLETED, output=output, verdict=Verdict.SUCCEEDED)
        else:
            DURABLE[row.handler](run, row, params)
    except ExpressionError as problem:
        run.end(row, Outcome(Status.FAILED, {"message": problem.detail, "code": problem.code}))


def _params(run: Run, row: StepRow) -> Any:
    block = run.block(row)
    template = block.input if isinstance(block, SubSequence) else block.params
    if template is None:
        return None
    return scope_of(run, block).render(template, row.key, run.error(row.key))


def mapped(params: Any) -> Mapping[str, Any]:
    """The parameters as built-ins take them."""
    return params if isinstance(params, Mapping) else {} if params is None else {"value": params}


def _ready(run: Run, row: StepRow, params: Any) -> Mapping[str, Any]:
    given = mapped(params)
    if row.handler != "assert":
        return given
    block = run.block(row)
    assert isinstance(block, Step)
    condition = given.get("condition")
    if block.assertion is not None:
        holds = run.scope.truthy(block.assertion, row.key, run.error(row.key))
        return {**given, "condition": condition, "condition_result": holds}
    return {**given, "condition_result": bool(condition)}


def _breach(run: Run, row: StepRow, *, in_flight: bool = False) -> None:
    limit = _deadline(run, row)
    late = run.now - row.deadline_at if row.deadline_at else timedelta()
    output = {
        "_error": BREACHED,
        "_deadline_ms": round(limit.total_seconds() * 1000),
        "_elapsed_ms": round((limit + late).total_seconds() * 1000),
    }
    if in_doubt(row) or in_flight:
        park(run, row, "outcome_unknown", Verdict.UNKNOWN)
        return
    _escalate(run, row, output)
    error = {"message": "the step's deadline passed", "code": "deadline", "details": output}
    run.end(row, Outcome(Status.FAILED, error), output=output, verdict=Verdict.FAILED)


def _deadline(run: Run, row: StepRow) -> timedelta:
    """How long the step may take from when it begins."""
    block = run.block(row)
    if not isinstance(block, Step) or block.deadline is None:
        return timedelta()
    return block.deadline.after(row.created_at, run.zone) - row.created_at


def _escalate(run: Run, row: StepRow, breach: Mapping[str, Any]) -> None:
    """The built-in that the step names for this case has run; whatever it comes to, the step fails
    (CONTRACT 15).
    """
    block = run.block(row)
    wanted = block.on_deadline_breach if isinstance(block, Step) else None
    builtin = HANDLERS.get(wanted.handler) if wanted is not None else None
    if wanted is None or not isinstance(builtin, Pure):
        return
    more = {
        "_breach_block_id": row.block_id,
        "_breach_instance_id": str(row.instance_id),
        "_breach_elapsed_ms": breach["_elapsed_ms"],
        "_breach_deadline_ms": breach["_deadline_ms"],
    }
    try:
        params = None if wanted.params is None else run.scope.render(wanted.params, row.key, None)
        given = params if isinstance(params, Mapping) else {}
        came = builtin.run({**given, **more}).verdict.value
    except ExpressionError as problem:
        came = problem.detail
    run.audit("step.escalated", came[:100], row, reason=f"{wanted.handler} ran for the deadline")


def expire(run: Run, row: StepRow) -> None:
    """The time of a pull step's worker, or of the step, is over. A silent worker's call is in doubt
    and is offered again under the same key; the crash of a worker uses up no attempt.
    """
    if row.deadline_at is not None and run.now >= row.deadline_at:
        note(run, row, TIMED_OUT, "the step's deadline passed")
        repeatable = Effect(row.effect).repeatable
        _breach(run, row, in_flight=row.state == StepState.RUNNING and not repeatable)
    elif row.expires_at is not None and run.now >= row.expires_at:
        error = {"message": "no worker completed the step in time", "code": "timeout"}
        note(run, row, TIMED_OUT, error["message"])
        verdict = Verdict.UNKNOWN if row.dispatches else Verdict.FAILED_SAFE
        answer(run, row.key, Answer(verdict, error=error))
    else:
        row.crashes += 1
        run.observe(
            row, "claim_lost", Verdict.UNKNOWN, {"worker": row.worker, "crashes": row.crashes}
        )
        run.audit("step.claim_lost", "unknown", row, reason=f"worker {row.worker} is silent")
        note(run, row, RECLAIMED, f"worker {row.worker} is silent")
        row.state, row.worker, row.lease_until = StepState.WAITING, None, None
        row.outcome = Verdict.UNKNOWN.value
        run.schedule(row, run.now)
        tell(run, row)
