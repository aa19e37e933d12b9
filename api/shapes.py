"""How rows look as JSON: instances, outputs, nodes, audit entries, tasks, sequences."""

from __future__ import annotations

from typing import Any

import orjson

from orch8.engine.keys import NodeKey
from orch8.runtime.inspect import Shown
from orch8.runtime.pull import PullTask
from orch8.runtime.routes import queue_of
from orch8.runtime.tasks import COMPLETED, PENDING, TaskView, heard_at
from orch8.storage.rows import StepRow
from orch8.storage.transaction import Row

# Shown without what comes when it is absent (CONTRACT 9.1).
_OMITTED = ("idempotency_key", "parent_instance_id", "session_id")
# Actions that say which state an instance shows from then on, as clients of the contract name it.
_TRANSITIONS = {
    f"instance.{state}": {"to_state": state}
    for state in ("completed", "failed", "cancelled", "paused")
} | {
    "instance.resumed": {"from_state": "paused"},
    "instance.held": {"to_state": "waiting"},
    "instance.released": {"from_state": "waiting"},
}


def instance(row: Row) -> dict[str, Any]:
    """An instance as ``shown_instance`` reads it."""
    shown: dict[str, Any] = row._asdict()
    name, version = shown.pop("sequence_name"), shown.pop("sequence_version")
    shown["sequence"] = {"id": row.sequence_id, "name": name, "version": version}
    if shown["context"] is None:
        shown["context"] = {"data": {}, "config": {}}
    for member in _OMITTED:
        if shown[member] is None:
            del shown[member]
    return shown | (shown.pop("terms") or {})


def output(instance_id: Any, row: Shown) -> dict[str, Any]:
    """What a step came to, or a trace or mark, which looks as if a step had put it out."""
    if not isinstance(row, StepRow):
        return {
            "id": row.id,
            "instance_id": instance_id,
            "block_id": row.block_id,
            "node_key": None,
            "state": "completed",
            "outcome": None,
            "output": row.output,
            "output_ref": None,
            "output_size": len(orjson.dumps(row.output)),
            "error": None,
            "attempt": row.attempt,
            "created_at": row.created_at,
        }
    return {
        "id": row.id,
        "instance_id": row.instance_id,
        "block_id": _given_id(row),
        "node_key": row.node_key,
        "state": row.state,
        "outcome": row.outcome,
        "output": row.output,
        "output_ref": None,
        "output_size": len(orjson.dumps(row.output)),
        "error": row.error,
        "attempt": row.failures,
        "created_at": row.finished_at,
    }


def _given_id(row: StepRow) -> str:
    """The id of the row's block within its own namespace: on_failure/tidy is tidy."""
    return row.block_id.rpartition("/")[2]


def timeline_entry(row: StepRow, *, with_output: bool) -> dict[str, Any]:
    """What a step came to, as a line of a timeline."""
    shown = {
        "block_id": _given_id(row),
        "node_key": row.node_key,
        "attempt": row.failures,
        "outcome": row.outcome,
        "completed_at": row.finished_at,
        "is_sentinel": False,
    }
    return {**shown, "output": row.output} if with_output else shown


def node(instance_id: Any, found: dict[str, Any]) -> dict[str, Any]:
    """A node of the tree. Its id is its node key: a node has no row of its own."""
    return {
        "id": found["node_key"],
        "instance_id": instance_id,
        "parent_id": found["parent"],
        "branch_index": None,
        "started_at": None,
        "completed_at": None,
        **{name: value for name, value in found.items() if name not in {"id", "parent"}},
        "step_id": found.get("id"),
    }


def audit_entry(row: Row, of: Row) -> dict[str, Any]:
    """An entry of the audit log of the instance ``of``."""
    shown: dict[str, Any] = row._asdict()
    body = shown.pop("body")
    shown |= {
        "instance_id": of.id,
        "tenant_id": of.tenant_id,
        "details": body,
        "created_at": row.at,
        **event_of(row),
    }
    if isinstance(body, dict) and isinstance(body.get("from_state"), str):
        shown["from_state"] = body["from_state"]
    return shown


def event_of(row: Row) -> dict[str, Any]:
    """What an entry of the audit log is about, as clients of the contract name it: a change of
    state is a state_transition, everything else is called by its action.
    """
    shown: dict[str, Any] = {"event_type": row.action}
    if row.action in _TRANSITIONS:
        shown = {"event_type": "state_transition", **_TRANSITIONS[row.action]}
    if row.node_key is not None:
        shown["block_id"] = NodeKey.parse(row.node_key).block_id
    return shown


def listed_task(found: TaskView, lease: float) -> dict[str, Any]:
    """A task as lists show it; ``lease`` is how long, in seconds, a worker has one unheard."""
    row = found.row
    shown = task(found)
    if found.state == PENDING:
        shown |= {"worker_id": None, "claimed_at": None}
    else:
        shown |= {"heartbeat_at": heard_at(row, lease), "completed_at": row.finished_at}
    return {
        **shown,
        "state": found.state,
        "output": row.output if found.state == COMPLETED else None,
        "error_message": found.problem,
        "error_retryable": found.retryable,
    }


def task(found: PullTask | TaskView) -> dict[str, Any]:
    """A claimed step as its worker gets it (CONTRACT 19.1)."""
    row = found.row
    progress = row.progress or {}
    shown = {
        "id": row.id,
        "instance_id": row.instance_id,
        "block_id": row.block_id,
        "node_key": row.node_key,
        "handler_name": row.asking or row.handler,
        "params": found.params,
        "context": found.context,
        "outputs": found.outputs,
        "attempt": row.failures,
        "dispatch": row.dispatches,
        "generation": row.generation,
        "idempotency_key": row.idempotency_key,
        "timeout_ms": found.timeout_ms,
        "state": "claimed",
        "worker_id": row.worker,
        "claimed_at": row.last_dispatched_at,
        "heartbeat_at": None,
        "claim_epoch": row.epoch,
        "checkpoint_seq": int(progress.get("seq", 0)),
        "completed_at": None,
        "output": None,
        "error_message": None,
        "error_retryable": None,
        "created_at": row.created_at,
    }
    queue = queue_of(row.lane)
    if queue is not None:
        shown["queue_name"] = queue
    if "checkpoint" in progress:
        shown["resume_checkpoint"] = progress["checkpoint"]
    return shown


def sequence(row: Row) -> dict[str, Any]:
    """A published version: the definition as it was sent, and what orch8 knows of it."""
    return {
        **row.body,
        "id": row.id,
        "tenant_id": row.tenant_id,
        "namespace": row.namespace,
        "name": row.name,
        "version": row.version,
        "status": row.status,
        "deprecated": row.deprecated,
        "created_at": row.body.get("created_at", row.created_at),
        "sha256": bytes(row.sha256).hex(),
    }
