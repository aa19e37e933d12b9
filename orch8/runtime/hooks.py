"""hooks: what a sequence does when an instance of it failed or was cancelled.

It is done by the transaction that ends the instance, once for each end, on every path: whoever sees
the end sees this, too. What goes wrong with it is in the audit log and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from orch8.blocks.step import Step
from orch8.engine.keys import NodeKey
from orch8.engine.lifecycle import LIVE, StepState
from orch8.engine.outcome import COMPLETED, Outcome, Status, Verdict, failed
from orch8.errors import Orch8Error
from orch8.handlers.builtin import Durable, Pure
from orch8.handlers.registry import HANDLERS
from orch8.runtime import interceptors
from orch8.runtime.builtins import DURABLE
from orch8.runtime.builtins.children import MAX_DEPTH
from orch8.runtime.performing import mapped
from orch8.runtime.run import Run
from orch8.runtime.showing import ends_now
from orch8.storage.changes import Changes
from orch8.storage.rows import StepRow

_HOOKS: Final = {Status.FAILED: "on_failure", Status.CANCELLED: "on_cancel"}


def concluded(run: Run) -> Changes:
    """Everything to be written about the run, with what its sequence, and those of its children,
    do at such an end. Raises NeedsValues.
    """
    runs = [run]
    for each in runs:  # which grows meanwhile
        if each.published.hooked and ends_now(each):
            _conclude(each)
        runs += each.children
    return run.collect()


def _conclude(run: Run) -> None:
    outcome = run.snapshot.outcome
    assert outcome is not None
    interceptors.ended(run, outcome)
    for step in run.published.sequence.hooks.get(_HOOKS.get(outcome.status, ""), ()):
        _carry_out(run, step, outcome)


def _carry_out(run: Run, step: Step, outcome: Outcome) -> None:
    key, at = NodeKey(step.id, (), run.row.round), NodeKey(run.index.root.id, (), run.row.round)
    row = StepRow(
        run.row.id, str(key), run.around.new_id(), run.row.tenant_id, step.id, step.handler, "none",
        StepState.RUNNING, run.row.lane, run.now, round=key.round,
    )  # fmt: skip
    try:
        if step.when is not None and not run.scope.truthy(step.when, at, outcome.error):
            return
        run.entered[key] = row
        given = None if step.params is None else run.scope.render(step.params, at, outcome.error)
        _perform(run, step, row, given, at, outcome)
    except Orch8Error as problem:
        run.entered[key] = row
        run.end(row, failed(problem.detail, code=problem.code))
    if row.state in LIVE:
        run.end(row, failed(f"{step.handler} cannot wait once the instance has ended"))


def _perform(
    run: Run, step: Step, row: StepRow, given: Any, at: NodeKey, outcome: Outcome
) -> None:  # fmt: skip
    builtin = HANDLERS.get(step.handler)
    if isinstance(builtin, Pure):
        params: Mapping[str, Any] = mapped(given)
        if step.assertion is not None:
            holds = run.scope.truthy(step.assertion, at, outcome.error)
            params = {**params, "condition_result": holds}
        came = builtin.run(params)
        well = came.verdict is Verdict.SUCCEEDED
        ended = COMPLETED if well else Outcome(Status.FAILED, came.error)
        run.end(row, ended, output=came.output, verdict=came.verdict)
    elif isinstance(builtin, Durable) and run.row.depth < MAX_DEPTH:
        DURABLE[step.handler](run, row, given)
    else:
        run.end(row, failed(f"{step.handler} cannot run once the instance has ended"))
