"""inspect: what an instance is doing, did, and why. Reads only."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from orch8.blocks.interrupt import SLA
from orch8.engine.keys import NodeKey
from orch8.engine.snapshot import Snapshot
from orch8.errors import NotFound
from orch8.runtime.office import Office, only
from orch8.storage import audit, instances, signals, steps
from orch8.storage.rows import StepRow
from orch8.storage.transaction import Row, Tx

_HIDDEN: Final = frozenset({"@root", "@main", SLA})  # what every run has around its blocks


def shown(tx: Tx, instance_id: UUID, *, tenant_id: str | None) -> Row:
    """One instance as lists show it."""
    row = instances.shown_instance(tx, instance_id)
    if row is None or (tenant_id is not None and row.tenant_id != tenant_id):
        raise NotFound(f"instance {instance_id}")
    return row


def outputs(
    tx: Tx, instance_id: UUID, *, tenant_id: str | None, limit: int = 1000
) -> list[StepRow]:
    """The steps of an instance that ended, the oldest first, with their outputs."""
    shown(tx, instance_id, tenant_id=tenant_id)
    ended = [
        row for row in steps.steps_of(tx, instance_id, limit=limit) if row.finished_at is not None
    ]
    return [
        row
        for row in ended
        if row.block_id not in _HIDDEN and (row.handler != "@memo" or "@" not in row.block_id)
    ]


def tree(
    office: Office, tx: Tx, instance_id: UUID, *, tenant_id: str | None, limit: int = 10_000
) -> list[dict[str, Any]]:
    """Every node that was entered and is known: the live frames, and a node for each step's row.

    Members: node_key, block_id, block_type, parent (node key), state, and for steps handler,
    attempt, started_at, completed_at, due_at, error.
    """
    row = only(instances.read_instances(tx, [instance_id]), instance_id, tenant_id)
    index = office.library.get(tx, row.sequence_id).sequence.index
    snapshot = Snapshot.from_json(row.snapshot)
    nodes: dict[str, dict[str, Any]] = {}
    for key, frame in snapshot.frames.items():
        if key.block_id in _HIDDEN:
            continue
        nodes[str(key)] = {
            "node_key": str(key), "block_id": key.block_id, "block_type": index[key.block_id].type,
            "parent": str(frame.parent) if frame.parent else None,
            "state": "cancelling" if frame.cancelling else "running",
        }  # fmt: skip
    for step in steps.steps_of(tx, instance_id, limit=limit):
        if "@" in step.block_id:
            continue
        key = NodeKey(step.block_id, tuple(step.path), step.round)
        node = nodes.setdefault(
            str(key), {"node_key": str(key), "block_id": step.block_id, "parent": None}
        )
        node |= {
            "id": step.id, "block_type": index[step.block_id].type, "state": step.state,
            "handler": step.handler, "attempt": step.failures, "dispatches": step.dispatches,
            "started_at": step.created_at, "completed_at": step.finished_at,
            "due_at": step.due_at or step.held_due_at, "error": step.error,
            "attention": step.attention,
        }  # fmt: skip
    return list(nodes.values())


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
