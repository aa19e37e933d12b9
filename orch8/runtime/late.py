"""late: an answer under an old claim, which changes nothing that is settled or sent again."""

from __future__ import annotations

from orch8.engine.lifecycle import LIVE, StepState
from orch8.engine.outcome import Answer
from orch8.runtime.doubts import UNRESOLVED, contradiction, told
from orch8.storage import steps
from orch8.storage.changes import Changes
from orch8.storage.rows import Evidence, StepRow
from orch8.storage.transaction import Tx


def heard_late(tx: Tx, claimed: StepRow, came: object, changes: Changes) -> StepRow | None:
    """The answer is evidence. It resolves its attempt, the row of which is returned, if that is
    open and has not been sent again. If it contradicts what is recorded, that is an incident;
    nothing is overwritten.
    """
    if not isinstance(came, Answer) or claimed.asking is not None:
        return None
    changes.evidence.append(late_evidence(claimed, came))
    now = next(iter(steps.read_steps(tx, [(claimed.instance_id, claimed.key)])), None)
    if now is None:
        return None
    if resolves(now, claimed, came):
        return now
    against = contradiction(now, claimed.generation, came.verdict)
    if against is not None:
        changes.incidents.append(against)
        changes.audit.append(told(against))
    return None


def late_evidence(row: StepRow, came: Answer) -> Evidence:
    """What is kept of an answer under an old claim; ``row`` is the row as it was claimed then."""
    body = {"error": came.error, "late": True, **came.evidence}
    return Evidence(
        row.tenant_id, row.instance_id, row.node_key, row.epoch, "late_answer", came.verdict, body
    )  # fmt: skip


def resolves(now: StepRow, claimed: StepRow, came: Answer) -> bool:
    """Whether a late answer says how the present attempt ended: it is open, its outcome unknown,
    and it is not being sent again right now.
    """
    same = (now.idempotency_key, now.generation) == (claimed.idempotency_key, claimed.generation)
    idle = now.state in LIVE and (now.state != StepState.RUNNING or now.asking is not None)
    return same and idle and now.outcome in UNRESOLVED and came.verdict not in UNRESOLVED
