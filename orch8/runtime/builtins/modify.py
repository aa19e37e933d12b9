"""self_modify: a step that puts more blocks behind those of its own instance."""

from __future__ import annotations

from typing import Any

from orch8.engine.outcome import COMPLETED, Verdict, failed
from orch8.errors import ExpressionError, InvalidArgument
from orch8.runtime.because import Because
from orch8.runtime.graft import Injected, graft, note
from orch8.runtime.run import Run
from orch8.storage.rows import StepRow


def self_modify(run: Run, row: StepRow, params: Any) -> None:
    """self_modify: the blocks run behind all others, in the order in which they were injected, or
    at their position among the injected ones.
    """
    given = params if isinstance(params, dict) else {}
    blocks, position = given.get("blocks"), given.get("position")
    if not isinstance(blocks, list):
        raise ExpressionError(f"self_modify: blocks came to {blocks!r:.60}; it must be a list")
    if isinstance(position, bool) or not (position is None or isinstance(position, int)):
        raise ExpressionError(
            f"self_modify: position came to {position!r:.60}; it must be a whole number"
        )
    made = Injected((), run.published.injected)
    if blocks:
        try:
            made = graft(run, blocks, position)
        except InvalidArgument as refused:
            details = [each.to_json() for each in refused.errors[:20]]
            run.end(row, failed(refused.detail, code="invalid_blocks", details=details))
            return
        note(run, made, Because(actor=f"step:{row.node_key}"))
    output = {
        "_self_modify": True, "blocks": blocks, "position": position,
        "injected_count": len(made.ids),
    }  # fmt: skip
    run.end(row, COMPLETED, output=output, verdict=Verdict.SUCCEEDED)
