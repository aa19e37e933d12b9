"""Everything one transaction changes, and the one statement that makes it so.

Output, audit entry and next state are one statement in one transaction, or none of them. Rows are
handed over as JSON recordsets: one round trip, whatever their number.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from datetime import datetime
from operator import itemgetter
from typing import Any
from uuid import UUID

from orch8.storage.ids import uuid7
from orch8.storage.rows import AuditEntry, Evidence, InstanceRow, StepRow
from orch8.storage.transaction import Tx, dumps

_TYPES = {
    "instance_id": "uuid", "id": "uuid", "claimed_by": "uuid", "path": "integer[]",
    "round": "smallint", "generation": "smallint", "epoch": "integer", "dispatches": "integer",
    "failures": "integer", "crashes": "integer", "deferrals": "integer",
    "context_version": "integer", "pull": "boolean", "due_at": "timestamptz",
    "held_due_at": "timestamptz", "expires_at": "timestamptz", "deadline_at": "timestamptz",
    "lease_until": "timestamptz", "first_dispatched_at": "timestamptz", "queued_at": "timestamptz",
    "created_at": "timestamptz", "finished_at": "timestamptz", "attention": "jsonb",
    "progress": "jsonb", "output": "jsonb", "error": "jsonb",
}  # fmt: skip
_COLUMNS = tuple(f.name for f in fields(StepRow))
_PLAIN = tuple(c for c in _COLUMNS if c != "request")
_FIXED = {"instance_id", "node_key", "id", "tenant_id", "block_id", "path", "round", "created_at"}
_AUDIT_NAMES = tuple(f.name for f in fields(AuditEntry))
_EVIDENCE_NAMES = tuple(f.name for f in fields(Evidence))
# What settling a step writes; every other change of a row goes the long way.
_SETTLED = (
    "state", "outcome", "output", "error", "finished_at", "failures", "due_at", "claimed_by",
    "attention",
)  # fmt: skip

_untouched = itemgetter(*(c for c in _COLUMNS if c not in _SETTLED))


def is_settlement(before: StepRow, after: StepRow) -> bool:
    """Whether a row has changed in nothing but what settling a step writes."""
    return bool(_untouched(before.__dict__) == _untouched(after.__dict__))


def _record(columns: tuple[str, ...]) -> str:
    return ", ".join(f"{c} {_TYPES.get(c, 'text')}" for c in columns)


def _assign(columns: tuple[str, ...]) -> str:
    return ", ".join(f"{c} = r.{c}" for c in columns)


_UPDATED = tuple(c for c in _PLAIN if c not in _FIXED)
_NAMES = ", ".join(_COLUMNS)
_VALUES = ", ".join(f"r.{c}" if c != "request" else "decode(r.request, 'base64')" for c in _COLUMNS)

_SETTLE = f"""settled AS (
    UPDATE steps s SET {_assign(_SETTLED)}
    FROM json_to_recordset(%(settled)s::json)
        AS r(instance_id uuid, node_key text, {_record(_SETTLED)})
    WHERE s.instance_id = r.instance_id AND s.node_key = r.node_key)"""
_UPDATE = f"""rewritten AS (
    UPDATE steps s SET {_assign(_UPDATED)}, request = decode(r.request, 'base64')
    FROM json_to_recordset(%(rewritten)s::json)
        AS r(instance_id uuid, node_key text, request text, {_record(_UPDATED)})
    WHERE s.instance_id = r.instance_id AND s.node_key = r.node_key)"""
_INSERT = f"""entered AS (
    INSERT INTO steps ({_NAMES})
    SELECT {_VALUES} FROM json_to_recordset(%(entered)s::json)
        AS r(request text, {_record(_PLAIN)}))"""
_ADVANCED = (
    "id", "snapshot", "state", "updated_at", "cancelling", "paused_at", "attention", "outcome",
    "error", "round", "context_version", "finished_at",
)  # fmt: skip
_ADVANCE = """advanced AS (
    UPDATE instances i SET snapshot = r.snapshot, state = r.state, updated_at = r.updated_at,
        cancelling = r.cancelling, paused_at = r.paused_at, attention = r.attention,
        outcome = r.outcome, error = r.error, round = r.round,
        context_version = r.context_version, finished_at = r.finished_at
    FROM json_to_recordset(%(advanced)s::json) AS r(id uuid, snapshot jsonb, state text,
        updated_at timestamptz, cancelling boolean, paused_at timestamptz, attention jsonb,
        outcome text, error jsonb, round smallint, context_version integer, finished_at timestamptz)
    WHERE i.id = r.id)"""
_CREATE = """created AS (
    INSERT INTO instances (id, tenant_id, namespace, sequence_id, state, snapshot, lane, priority,
        timezone, metadata, idempotency_key, request_sha256, fork_id, parent_instance_id,
        parent_node_key, depth, created_at, updated_at, finished_at, outcome, error,
        context_version)
    SELECT id, tenant_id, namespace, sequence_id, state, snapshot, lane, priority, timezone,
        metadata, idempotency_key, decode(request_sha256, 'hex'), fork_id, parent_instance_id,
        parent_node_key, depth, created_at, updated_at, finished_at, outcome, error, context_version
    FROM json_to_recordset(%(created)s::json) AS r(id uuid, tenant_id text, namespace text,
        sequence_id uuid, state text, snapshot jsonb, lane text, priority text, timezone text,
        metadata jsonb, idempotency_key text, request_sha256 text, fork_id uuid,
        parent_instance_id uuid, parent_node_key text, depth smallint, created_at timestamptz,
        updated_at timestamptz, finished_at timestamptz, outcome text, error jsonb,
        context_version integer)
    ON CONFLICT (tenant_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING id)"""
_CONTEXT = """contexts_kept AS (
    INSERT INTO contexts (instance_id, version, tenant_id, body)
    SELECT instance_id, version, tenant_id, body FROM json_to_recordset(%(contexts)s::json)
        AS r(instance_id uuid, version integer, tenant_id text, body jsonb))"""
_STATE = """state_kept AS (
    INSERT INTO instance_state (instance_id, key, tenant_id, value)
    SELECT instance_id, key, tenant_id, COALESCE(value, 'null')
    FROM json_to_recordset(%(state)s::json)
        AS r(instance_id uuid, key text, tenant_id text, value jsonb)
    ON CONFLICT (instance_id, key) DO UPDATE SET value = excluded.value)"""
_FORGET = """state_forgotten AS (
    DELETE FROM instance_state k USING json_to_recordset(%(forgotten)s::json)
        AS r(instance_id uuid, key text) WHERE k.instance_id = r.instance_id AND k.key = r.key)"""
_CONSUME = """consumed AS (
    UPDATE signals s SET consumed_at = r.consumed_at, consumed_by = r.consumed_by
    FROM json_to_recordset(%(consumed)s::json)
        AS r(id uuid, consumed_at timestamptz, consumed_by text) WHERE s.id = r.id)"""
# The parent of a finished child is another instance, which nobody may lock here: only its step's
# row is changed, and whether it is paused is read.
_WAKE = """woken AS (
    UPDATE steps s SET due_at = CASE WHEN i.paused_at IS NULL THEN orch8_now() END,
        held_due_at = CASE WHEN i.paused_at IS NULL THEN NULL ELSE orch8_now() END
    FROM json_to_recordset(%(woken)s::json) AS r(instance_id uuid, node_key text)
    JOIN instances i ON i.id = r.instance_id
    WHERE s.instance_id = r.instance_id AND s.node_key = r.node_key
        AND s.state IN ('waiting', 'scheduled'))"""
_AUDIT = """audited AS (
    INSERT INTO audit_log (id, tenant_id, actor, action, outcome, reason, instance_id, node_key,
        sequence_id, request_id, body)
    SELECT id, tenant_id, actor, action, outcome, reason, instance_id, node_key, sequence_id,
        request_id, body FROM json_to_recordset(%(audit)s::json) AS r(id uuid, tenant_id text,
        actor text, action text, outcome text, reason text, instance_id uuid, node_key text,
        sequence_id uuid, request_id text, body jsonb))"""
_EVIDENCE = """evidence_kept AS (
    INSERT INTO evidence (id, tenant_id, instance_id, node_key, epoch, kind, verdict, body)
    SELECT id, tenant_id, instance_id, node_key, epoch, kind, verdict, body
    FROM json_to_recordset(%(evidence)s::json) AS r(id uuid, tenant_id text, instance_id uuid,
        node_key text, epoch integer, kind text, verdict text, body jsonb))"""


@dataclass
class Changes:
    """What a transaction will write, gathered first and written at its end."""

    settled: list[StepRow] = field(default_factory=list)
    rewritten: list[StepRow] = field(default_factory=list)
    entered: list[StepRow] = field(default_factory=list)
    advanced: list[InstanceRow] = field(default_factory=list)
    created: list[InstanceRow] = field(default_factory=list)
    contexts: list[tuple[UUID, int, str, Any]] = field(default_factory=list)
    state: list[tuple[UUID, str, str, Any]] = field(default_factory=list)
    forgotten: list[tuple[UUID, str]] = field(default_factory=list)
    consumed: list[tuple[UUID, datetime, str]] = field(default_factory=list)
    woken: list[tuple[UUID, str]] = field(default_factory=list)
    audit: list[AuditEntry] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)

    def extend(self, other: Changes) -> None:
        """Take over everything that ``other`` will write."""
        for name, rows in other.__dict__.items():
            if rows:
                self.__dict__[name].extend(rows)

    def keep_state(self, instance_id: UUID, key: str, tenant_id: str, value: Any) -> None:
        """The value will be kept for the instance, whatever was to become of the key before."""
        self._drop_state(instance_id, key)
        self.state.append((instance_id, key, tenant_id, value))

    def forget_state(self, instance_id: UUID, key: str) -> None:
        """Nothing will be kept under the key, whatever was to become of it before."""
        self._drop_state(instance_id, key)
        self.forgotten.append((instance_id, key))

    def _drop_state(self, instance_id: UUID, key: str) -> None:
        # One statement can write a row only once.
        self.state = [kept for kept in self.state if kept[:2] != (instance_id, key)]
        self.forgotten = [gone for gone in self.forgotten if gone != (instance_id, key)]


def write(tx: Tx, changes: Changes) -> frozenset[UUID]:
    """Everything in ``changes`` is written; the ids of the instances that were created.

    An instance whose idempotency key exists already is not created: the caller, who finds its id
    missing, must roll back, or its steps would stay behind.
    """
    parts: list[str] = []
    params: dict[str, str] = {}

    def add(sql: str, name: str, rows: list[Any]) -> None:
        if rows:
            parts.append(sql)
            params[name] = dumps(rows)

    add(_SETTLE, "settled", [_columns(row, _SETTLED) for row in changes.settled])
    add(
        _UPDATE, "rewritten", [_columns(row, _UPDATED) | _request(row) for row in changes.rewritten]
    )
    add(_INSERT, "entered", [_columns(row, _PLAIN) | _request(row) for row in changes.entered])
    add(_ADVANCE, "advanced", [_present(row, _ADVANCED) for row in changes.advanced])
    add(_CREATE, "created", [_created(row) for row in changes.created])
    add(
        _CONTEXT,
        "contexts",
        [_named(c, "instance_id version tenant_id body") for c in changes.contexts],
    )
    add(_STATE, "state", [_named(c, "instance_id key tenant_id value") for c in changes.state])
    add(_FORGET, "forgotten", [_named(c, "instance_id key") for c in changes.forgotten])
    add(_CONSUME, "consumed", [_named(c, "id consumed_at consumed_by") for c in changes.consumed])
    add(_WAKE, "woken", [_named(c, "instance_id node_key") for c in changes.woken])
    add(_AUDIT, "audit", [_entry(entry, _AUDIT_NAMES) for entry in changes.audit])
    add(_EVIDENCE, "evidence", [_entry(entry, _EVIDENCE_NAMES) for entry in changes.evidence])
    if not parts:
        return frozenset()
    tail = "\nSELECT id FROM created" if changes.created else "\nSELECT NULL LIMIT 0"
    return frozenset(row[0] for row in tx.rows("WITH " + ",\n".join(parts) + tail, params))


def _columns(row: StepRow, columns: tuple[str, ...]) -> dict[str, Any]:
    values = row.__dict__
    out = {c: values[c] for c in columns if values[c] is not None}
    out["instance_id"], out["node_key"] = row.instance_id, row.node_key
    return out


def _request(row: StepRow) -> dict[str, Any]:
    return {} if row.request is None else {"request": base64.b64encode(row.request).decode()}


def _present(row: InstanceRow, names: Iterable[str]) -> dict[str, Any]:
    values = row.__dict__
    return {name: values[name] for name in names if values[name] is not None}


def _created(row: InstanceRow) -> dict[str, Any]:
    out = _present(row, row.__dict__)
    if row.request_sha256 is not None:
        out["request_sha256"] = bytes(row.request_sha256).hex()
    return out


def _named(values: tuple[Any, ...], names: str) -> dict[str, Any]:
    return dict(zip(names.split(), values, strict=True))


def _entry(entry: AuditEntry | Evidence, names: tuple[str, ...]) -> dict[str, Any]:
    return {"id": uuid7()} | {name: getattr(entry, name) for name in names}
