"""resolve: a person says what became of a step that nobody else can tell of."""

from __future__ import annotations

from enum import StrEnum
from typing import Any
from uuid import UUID

from orch8.blocks.step import Step
from orch8.engine.lifecycle import StepState
from orch8.engine.outcome import Outcome, Status, Verdict
from orch8.errors import Conflict, NotFound, Unprocessable
from orch8.handlers.classify import spoken
from orch8.runtime.answering import answer
from orch8.runtime.office import Office, only
from orch8.runtime.ruling import DEFAULT_KEY_TTL, key_holds
from orch8.runtime.run import Run
from orch8.runtime.signal import change
from orch8.storage import instances, steps
from orch8.storage.rows import InstanceRow, StepRow
from orch8.storage.transaction import Tx


class Decision(StrEnum):
    """What a person found out about a call, and wants done."""

    HAPPENED = "happened"  # it was carried out: the output is what it came to
    RETRY = "retry"  # it was surely not carried out: send it again
    FAIL = "fail"  # it was surely not carried out: the step fails


def resolve(
    office: Office, tx: Tx, instance_id: UUID, node_key: str, decision: Decision, *,
    tenant_id: str | None, actor: str, reason: str, output: Any = None,
    request_id: str | None = None,
) -> InstanceRow:  # fmt: skip
    """A parked step, or one whose answer is pending, ends or goes on as decided; who decided and
    why stands in the audit log. A repeated call keeps its idempotency key while the provider surely
    knows it, and gets a new one after that: only a person may say that it did not happen.
    """
    if not reason.strip():
        raise Unprocessable("reason is required: say how you know")
    found, moment = instances.lock_instances(tx, [instance_id])
    instance = only(found, instance_id, tenant_id)
    row = next(iter(steps.lock_steps(tx, [(instance_id, node_key)])), None)
    if row is None:
        raise NotFound(f"step {node_key!r} of instance {instance_id}")
    pending = row.state == StepState.WAITING and row.outcome == Verdict.PENDING
    if row.state != StepState.PARKED and not pending:
        raise Conflict(f"step {node_key!r} is {row.state}: only a parked or pending one is decided")

    def decide(run: Run) -> None:
        step = run.step(row.key)
        step.attention = None
        step.epoch += 1  # whatever still comes back of the call is evidence from now on
        run.audit(
            "step.resolved", decision, step, actor=actor, reason=reason, request_id=request_id
        )
        if decision is Decision.HAPPENED:
            answer(run, step.key, spoken(output, {"resolved_by": actor}), actor=actor)
        elif decision is Decision.FAIL:
            error = {"message": reason, "code": "resolved"}
            run.end(step, Outcome(Status.FAILED, error), verdict=Verdict.FAILED, actor=actor)
        else:
            _again(run, step)

    return change(office, tx, instance, moment, decide, [row]).row


def _again(run: Run, step: StepRow) -> None:
    block = run.block(step)
    ttl = block.key_ttl if isinstance(block, Step) and block.key_ttl else DEFAULT_KEY_TTL
    sent_at, timeout = step.first_dispatched_at, run.around.settings.handler_timeout
    if sent_at is not None and not key_holds(sent_at, ttl, run.now, timeout):
        step.generation += 1
        step.idempotency_key = step.fingerprint = step.request = step.first_dispatched_at = None
        step.dispatches = 0
    step.state, step.outcome, step.crashes, step.failures = StepState.SCHEDULED, None, 0, 0
    if run.route(step).kind.calls_out:
        run.schedule(step, run.now)
    else:
        run.offer(step)
