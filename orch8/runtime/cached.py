"""cached: what a step with a cache_key put out is the output of later ones with the same key.

Per instance, and only of what succeeded (CONTRACT 13.5). What moves money is never taken from here,
and neither is the end of an attempt that was sent already.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from orch8.blocks.step import Effect
from orch8.engine.outcome import Answer, Verdict
from orch8.engine.scope import STATE
from orch8.errors import ExpressionError
from orch8.runtime.run import Run
from orch8.storage.rows import StepRow

PREFIX: Final = "_cache:"  # of the keys in an instance's state
LONGEST: Final = 500
_NOTED: Final = "cache_key"  # in a step's progress: the key under which its output will be kept


def recalled(run: Run, row: StepRow) -> Answer | None:
    """The answer of a step that is due, if it is known without a call: what is kept under its key,
    or that its key cannot be told. Else the row notes the key. Steps without one cost nothing.
    """
    block = run.index[row.block_id]
    template = getattr(block, "cache_key", None)
    if template is None or row.first_dispatched_at is not None or Effect(row.effect).frozen:
        return None
    try:
        key = _text(run.scope.render(template, row.key, run.error(row.key)))
    except ExpressionError as problem:
        error = {"message": problem.detail, "code": problem.code}
        return Answer(Verdict.REFUSED, error=error)
    kept = run.known.get(STATE) or {}
    if PREFIX + key in kept:
        return Answer(Verdict.SUCCEEDED, output=kept[PREFIX + key])
    row.progress = {**(row.progress or {}), _NOTED: key}
    return None


def keep(run: Run, row: StepRow, got: Answer) -> None:
    """What the step put out is kept under the key that it noted, if it did."""
    if row.progress is None or got.verdict is not Verdict.SUCCEEDED or _NOTED not in row.progress:
        return
    key = PREFIX + row.progress[_NOTED]
    run.changes.keep_state(run.row.id, key, run.row.tenant_id, got.output)
    run.known.replace(STATE, {**(run.known.get(STATE) or {}), key: got.output})


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    if value is None or not 0 < len(text) <= LONGEST or "\0" in text:
        raise ExpressionError(
            f"cache_key came to {text!r:.100}; it must be a text of 1 to {LONGEST} characters"
        )
    return text
