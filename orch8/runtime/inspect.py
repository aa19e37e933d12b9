"""inspect: what an instance is doing, did, and why. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from orch8.blocks.interrupt import SLA
from orch8.blocks.step import Step
from orch8.engine.lifecycle import StepState
from orch8.errors import NotFound
from orch8.runtime.office import Office, only
from orch8.runtime.performing import BREACHED
from orch8.storage import audit, instances, signals, steps, traces
from orch8.storage.rows import StepRow
from orch8.storage.transaction import Row, Tx

Shown = StepRow | Row  # a step that ended, or a trace
_HIDDEN: Final = frozenset({"@root", "@main", SLA})  # what every run has around its blocks


def shown(tx: Tx, instance_id: UUID, *, tenant_id: str | None) -> Row:
    """One instance as lists show it."""
    row = instances.shown_instance(tx, instance_id)
    if row is None or (tenant_id is not None and row.tenant_id != tenant_id):
        raise NotFound(f"instance {instance_id}")
    return row


def outputs(
    office: Office, tx: Tx, instance_id: UUID, *, tenant_id: str | None, limit: int = 1000
) -> list[Shown]:
    """The steps of an instance that completed, the oldest first, with their outputs, and the traces
    among them. Also those whose deadline passed; of a sequence that is one list of steps also the
    one that failed, until it is tried again.
    """
    row = only(instances.read_instances(tx, [instance_id]), instance_id, tenant_id)
    rows = [row for row in steps.steps_of(tx, instance_id, limit=limit) if is_output(row)]
    last = {(row.block_id, row.path): row.id for row in rows}
    index = office.library.get(tx, row.sequence_id).sequence.index
    flat = all(block.type == Step.type for block in index.values() if "@" not in block.id)
    ended = [
        row
        for row in rows
        if row.state == StepState.COMPLETED
        or (flat and row.state == StepState.FAILED and last[row.block_id, row.path] == row.id)
        or _is_breach(row)
    ]
    return in_order(ended, traces.traces_of(tx, instance_id, limit))


def _is_breach(row: StepRow) -> bool:
    """Whether the step failed because its deadline passed, which its output tells of."""
    output = row.output
    return isinstance(output, dict) and output.get("_error") == BREACHED


def in_order(ended: Sequence[StepRow], traced: Sequence[Row]) -> list[Shown]:
    """What steps put out and the traces, the oldest first."""
    places: list[tuple[Any, int, Shown]] = [(row.finished_at, 0, row) for row in ended]
    places += [(trace.created_at, 1 if trace.after else -1, trace) for trace in traced]
    return [shown for _, _, shown in sorted(places, key=lambda place: place[:2])]


def is_output(row: StepRow) -> bool:
    """Whether the row is that of a block which people know: what runs around them is not shown."""
    return row.block_id not in _HIDDEN and (row.handler != "@memo" or "@" not in row.block_id)


def timeline(
    tx: Tx, instance_id: UUID, *, tenant_id: str | None, limit: int = 1000
) -> dict[str, Any]:
    """What happened to an instance, in order: who did what, when, and why; and the evidence."""
    row = shown(tx, instance_id, tenant_id=tenant_id)
    return {
        "instance": row,
        "entries": audit.audit_of(tx, instance_id, limit=limit),
        "evidence": audit.evidence_of(tx, instance_id, limit=limit),
        "signals": signals.signals_of(tx, instance_id, limit=limit),
    }
