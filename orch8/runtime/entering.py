"""entering: a leaf that was entered gets its row, and its place to wait until it is due."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orch8.blocks.step import Effect, Step
from orch8.blocks.sub_sequence import SubSequence
from orch8.engine.keys import NodeKey
from orch8.engine.lifecycle import StepState
from orch8.engine.outcome import Outcome, Status, Verdict
from orch8.engine.scope import StepRef
from orch8.errors import ExpressionError
from orch8.runtime import consent
from orch8.runtime.due import due_at
from orch8.runtime.routes import Kind
from orch8.runtime.sandbox import stubbed
from orch8.storage.rows import StepRow

if TYPE_CHECKING:
    from orch8.runtime.run import Run

# An attempt that surely had no effect keeps its key when the instance is retried.
_KEEPS_KEY: Final = frozenset({Verdict.FAILED_SAFE, Verdict.NOT_SENT})


def enter(run: Run, key: NodeKey) -> Outcome | None:
    """A row for a leaf that was entered; an outcome instead if it cannot even be scheduled."""
    block = run.index[key.block_id]
    assert isinstance(block, Step | SubSequence)
    handler = block.handler if isinstance(block, Step) else "sub_sequence"
    route = run.around.route(run.row.tenant_id, handler)
    row = StepRow(
        run.row.id, str(key), run.around.new_id(), run.row.tenant_id, key.block_id, handler,
        "none", StepState.SCHEDULED, run.row.lane, run.now, path=key.path, round=key.round,
    )  # fmt: skip
    due = run.now
    if isinstance(block, Step):
        effect = block.effect or (Effect(route.effect) if route.effect else Effect.EXTERNAL)
        row.effect = effect.value
        row.lane = block.lane or row.lane
        try:
            due = due_at(run, block, key)
        except ExpressionError as problem:
            row.state, row.finished_at = StepState.FAILED, run.now
            row.error = {"message": problem.detail, "code": problem.code}
            run.entered[key] = row
            return Outcome(Status.FAILED, row.error)
        if block.deadline is not None:
            row.deadline_at = block.deadline.after(due, run.zone)
    if key.round > 1:
        _inherit(run, row, key)
    if run.row.dry_run:
        route = stubbed(route, row.effect)
    run.entered[key] = row
    run.arrivals.append(row)
    if consent.lacking(run, row, block):
        run.schedule(row, due)
    elif route.kind is Kind.PULL and getattr(block, "cache_key", None) is None:
        run.offer(row, due)
    else:
        row.pull = route.kind is Kind.CELERY  # its worker completes it by its id
        run.schedule(row, due)
    return None


def _inherit(run: Run, row: StepRow, key: NodeKey) -> None:
    """A step entered again keeps the key, and the frozen request, of an attempt that surely had
    no effect, unless the context has changed since: then it is another attempt.
    """
    before = run.known.get(StepRef(NodeKey(key.block_id, key.path, key.round - 1)))
    if (
        before is not None
        and before.outcome in _KEEPS_KEY
        and before.handler == row.handler
        and before.context_version == run.row.context_version
    ):
        row.idempotency_key, row.generation = before.idempotency_key, before.generation
        row.request, row.first_dispatched_at = before.request, before.first_dispatched_at
        row.fingerprint = before.fingerprint if before.request is not None else None
