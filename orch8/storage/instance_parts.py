"""The parts about instances of the statement that writes all changes of a transaction."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from orch8.storage.kept import by_key
from orch8.storage.months import within
from orch8.storage.rows import InstanceRow

_ADVANCED: Final = (
    "id", "snapshot", "state", "updated_at", "cancelling", "paused_at", "paused_as", "attention",
    "outcome", "error", "round", "context_version", "finished_at", "executed",
)  # fmt: skip
ADVANCE: Final = f"""advanced AS (
    UPDATE instances i SET snapshot = r.snapshot, state = r.state, updated_at = r.updated_at,
        cancelling = r.cancelling, paused_at = r.paused_at, paused_as = r.paused_as,
        attention = r.attention, outcome = r.outcome, error = r.error, round = r.round,
        context_version = r.context_version, finished_at = r.finished_at, executed = r.executed
    FROM json_to_recordset(%(advanced)s::json) AS r(id uuid, snapshot jsonb, state text,
        updated_at timestamptz, cancelling boolean, paused_at timestamptz, paused_as text,
        attention jsonb, outcome text, error jsonb, round smallint, context_version integer,
        finished_at timestamptz, executed integer)
    WHERE {by_key("i.id", "r.id")} AND {within("i.id")})"""
# A key that is taken keeps its instance; the rest of the statement then lacks the new one.
CREATE: Final = """new AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(created)s::json) AS r(id uuid, tenant_id text, namespace text,
        sequence_id uuid, state text, snapshot jsonb, lane text, priority text, timezone text,
        metadata jsonb, idempotency_key text, request_sha256 text, fork_id uuid,
        parent_instance_id uuid, parent_node_key text, depth smallint, created_at timestamptz,
        updated_at timestamptz, finished_at timestamptz, outcome text, error jsonb,
        context_version integer, session_id uuid, dry_run boolean, terms jsonb)),
keyed AS (
    INSERT INTO instance_keys (tenant_id, key, instance_id)
    SELECT tenant_id, idempotency_key, id FROM new WHERE idempotency_key IS NOT NULL
    ORDER BY tenant_id, idempotency_key
    ON CONFLICT (tenant_id, key) DO NOTHING RETURNING instance_id),
created AS (
    INSERT INTO instances (id, tenant_id, namespace, sequence_id, state, snapshot, lane, priority,
        timezone, metadata, idempotency_key, request_sha256, fork_id, parent_instance_id,
        parent_node_key, depth, created_at, updated_at, finished_at, outcome, error,
        context_version, session_id, dry_run, terms)
    SELECT id, tenant_id, namespace, sequence_id, state, snapshot, lane, priority, timezone,
        metadata, idempotency_key, decode(request_sha256, 'hex'), fork_id, parent_instance_id,
        parent_node_key, depth, created_at, updated_at, finished_at, outcome, error,
        context_version, session_id, dry_run, terms
    FROM new WHERE idempotency_key IS NULL OR id IN (SELECT instance_id FROM keyed)
    RETURNING id)"""


def advanced_rows(rows: Iterable[InstanceRow]) -> list[dict[str, Any]]:
    """The instances as ADVANCE takes them."""
    return [_present(row, _ADVANCED) for row in rows]


def created_rows(rows: Iterable[InstanceRow]) -> list[dict[str, Any]]:
    """The instances as CREATE takes them."""
    return [_created(row) for row in rows]


def _present(row: InstanceRow, names: Iterable[str]) -> dict[str, Any]:
    values = row.__dict__
    return {name: values[name] for name in names if values[name] is not None}


def _created(row: InstanceRow) -> dict[str, Any]:
    out = _present(row, row.__dict__)
    if row.request_sha256 is not None:
        out["request_sha256"] = bytes(row.request_sha256).hex()
    return out
