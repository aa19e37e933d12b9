"""consent: whether a step still lacks the answer that it needs before its handler is called.

As long as it does, its ``waits_for`` says so, and whoever takes the step looks for the answer
(runtime/approving.py) instead of calling the handler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from orch8.blocks.approval import APPROVAL, EVENT, WAIT_FOR_EVENT
from orch8.blocks.step import Step
from orch8.engine.keys import NodeKey
from orch8.engine.scope import StepRef
from orch8.runtime import event_waits
from orch8.storage.rows import StepRow

if TYPE_CHECKING:
    from orch8.runtime.run import Run

ANSWERED: Final = "answered"  # in a step's progress: what was answered, by whom, when
ASKED: Final = "asked_since"  # in a step's progress: since when it has waited, and until when


def lacking(run: Run, row: StepRow, block: Any) -> bool:
    """Whether a step that was entered needs an answer. One that was given before the instance was
    retried still holds, unless the context has changed since: then it was about something else.
    """
    if not isinstance(block, Step) or block.approval is None:
        return False
    before = None
    if row.round > 1:
        before = run.known.get(StepRef(NodeKey(row.block_id, row.path, row.round - 1)))
    given = (before.progress or {}).get(ANSWERED) if before is not None else None
    holds = given is not None and given["context_version"] == run.row.context_version
    if holds and block.handler != WAIT_FOR_EVENT:
        row.progress = {**(row.progress or {}), ANSWERED: given}
        return False
    row.waits_for = EVENT if block.handler == WAIT_FOR_EVENT else APPROVAL
    return True


def given_up(run: Run, row: StepRow) -> None:
    """The step has ended without its answer: nobody is asked any more, and events that came for it
    are free for others.
    """
    if row.waits_for == EVENT:
        event_waits.give_up(run, row)
    row.waits_for = None
