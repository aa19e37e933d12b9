"""What a transaction notes of attempts whose end is not known, and of fences that steps let go of.

Values in, changes out: nothing here decides anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from orch8.blocks.step import Effect, Step
from orch8.engine.lifecycle import LIVE
from orch8.engine.outcome import Verdict
from orch8.storage.fences import Hold
from orch8.storage.rows import AuditEntry, Doubt, Incident, StepRow

if TYPE_CHECKING:
    from orch8.runtime.run import Run

UNRESOLVED: Final = frozenset({Verdict.UNKNOWN, Verdict.IN_PROGRESS, Verdict.PENDING})


def in_doubt(row: StepRow) -> bool:
    """Whether the step's present attempt may have had its effect: no deadline ends it then."""
    return row.outcome in UNRESOLVED and not Effect(row.effect).repeatable


def doubt(run: Run, row: StepRow, reason: str) -> None:
    """The step's present attempt is in doubt."""
    if Effect(row.effect).repeatable:
        return
    block = run.block(row)
    provider = block.provider if isinstance(block, Step) else None
    run.changes.doubted.append(
        Doubt(
            row.tenant_id, row.instance_id, row.node_key, row.generation, row.handler, provider,
            row.effect, row.idempotency_key, row.money, reason,
        )
    )  # fmt: skip


def resolved(run: Run, row: StepRow, by: str, verdict: str) -> None:
    """If the step's present attempt was in doubt, it is known now how it ended, and ``by`` what.

    Called before the row shows the new outcome.
    """
    if not in_doubt(row):
        return
    mine = (row.instance_id, row.node_key, row.generation)
    run.changes.doubted = [
        each
        for each in run.changes.doubted
        if (each.instance_id, each.node_key, each.generation) != mine
    ]
    run.changes.undoubted.append(Doubt(row.tenant_id, *mine, resolved_by=by, verdict=str(verdict)))


def let_go(run: Run, row: StepRow) -> None:
    """The step's fence is free once it has ended; one whose customer still has to act keeps it."""
    if row.fence is not None and row.state not in LIVE:
        waits = row.outcome == Verdict.REQUIRES_ACTION
        run.changes.let_go.append(
            Hold(row.tenant_id, row.fence, row.instance_id, row.node_key, settled=waits)
        )


def incident(run: Run, row: StepRow | None, kind: str, body: Any) -> None:
    """A person is to look at this; it stands in the audit log, too."""
    node_key = row.node_key if row is not None else None
    opened = Incident(run.row.tenant_id, run.row.id, node_key, kind, body)
    run.changes.incidents.append(opened)
    run.changes.audit.append(told(opened))


def contradiction(now: StepRow, generation: int, said: Verdict) -> Incident | None:
    """The incident of a word about an attempt of a step, of some generation, that contradicts what
    is recorded; None when it does not, or says nothing certain.
    """
    if said not in _CONCLUSIVE or Effect(now.effect).repeatable:
        return None
    recorded = now.outcome if generation == now.generation else _GIVEN_UP
    if generation == now.generation and (now.state in LIVE or _agree(recorded, said)):
        return None
    if recorded == _GIVEN_UP and said not in _CHARGED:
        return None
    body = {
        "said": said.value,
        "recorded": recorded,
        "generation": generation,
        "present_generation": now.generation,
        "idempotency_key": now.idempotency_key,
        "money": now.money,
    }
    return Incident(now.tenant_id, now.instance_id, now.node_key, "contrary_evidence", body)


def told(incident: Incident) -> AuditEntry:
    """The audit log's entry about an incident."""
    return AuditEntry(
        incident.tenant_id, "engine", f"incident.{incident.kind}", "unknown", incident.instance_id,
        incident.node_key, body=incident.body,
    )  # fmt: skip


def _agree(recorded: str | None, said: Verdict) -> bool:
    if recorded == said:
        return True
    # A customer who has acted since is no contradiction, and not having happened has many names.
    if recorded == Verdict.REQUIRES_ACTION:
        return True
    return said not in _CHARGED and recorded not in _CHARGED


_CHARGED: Final = frozenset({Verdict.SUCCEEDED})
_CONCLUSIVE: Final = frozenset(
    {Verdict.SUCCEEDED, Verdict.DECLINED, Verdict.FAILED, Verdict.REQUIRES_ACTION}
)
_GIVEN_UP: Final = "not_happened"  # an attempt that was given up for a new one with a new key
