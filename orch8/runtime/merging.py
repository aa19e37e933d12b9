"""merging: what a pull worker put out goes into the context, where the contract says so (19.4).

Only in sequences of the contract's form: in the seed's form outputs are read as outputs.
"""

from __future__ import annotations

from typing import Any

from orch8.engine.expressions import Dialect
from orch8.engine.outcome import Outcome, Status
from orch8.engine.scope import CONTEXT
from orch8.runtime.routes import Kind
from orch8.runtime.run import Run
from orch8.storage.rows import StepRow
from orch8.storage.transaction import dumps


def merge(run: Run, row: StepRow, outcome: Outcome, output: Any) -> None:
    """The members of what a pull step put out stand in the context, before anything reads it.

    A context that would be too large stays as it is, and the audit log tells: the step is done all
    the same, and what it put out is kept as its output. Raises NeedsValues.
    """
    if not row.pull or outcome.status is not Status.COMPLETED:
        return
    if not isinstance(output, dict) or not output or not _merges(run, row):
        return
    context = run.known.get(CONTEXT)
    data = context.get("data")
    merged = {**context, "data": {**(data if isinstance(data, dict) else {}), **output}}
    size, most = len(dumps(merged).encode()), run.around.settings.max_context
    if size > most:
        reason = f"the context would have {size} bytes, the limit is {most}"
        run.audit("context.not_merged", "refused", row, reason=reason)
        return
    run.set_context(merged)


def _merges(run: Run, row: StepRow) -> bool:
    if run.published.sequence.dialect is not Dialect.CONTRACT:
        return False
    return run.around.route(row.tenant_id, row.handler).kind is Kind.PULL
