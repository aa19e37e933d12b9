"""Everything one transaction changes, and the one statement that makes it so.

Output, audit entry and next state are one statement in one transaction, or none of them. Rows are
handed over as JSON recordsets: one round trip, whatever their number.
"""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from operator import itemgetter
from typing import Any
from uuid import UUID

from orch8.errors import BusinessKeyTaken
from orch8.storage import breakers, derived, event_waits, fences, places
from orch8.storage.alarms import ARM, Alarm, alarm_rows
from orch8.storage.breakers import Felt
from orch8.storage.budgets import COUNT, JUDGE, Counted, Judged, counted_rows, judged_rows
from orch8.storage.derived import Repointed
from orch8.storage.emissions import EMIT, Emission, emission_rows
from orch8.storage.event_waits import EventWait, WaitOver
from orch8.storage.fences import Hold
from orch8.storage.halts import Halt, halt
from orch8.storage.ids import uuid7
from orch8.storage.instance_parts import ADVANCE, CREATE, advanced_rows, created_rows
from orch8.storage.instances import state_place
from orch8.storage.kept import KEPT, by_key
from orch8.storage.months import span, within
from orch8.storage.outbox import TELL, Notice, notice_rows
from orch8.storage.places import Place
from orch8.storage.pushes import PUSH, Push, push_rows
from orch8.storage.rows import AuditEntry, Doubt, Evidence, Incident, InstanceRow, StepRow
from orch8.storage.steps import encoded
from orch8.storage.task_events import NOTE, TaskEvent, event_rows
from orch8.storage.traces import TRACE, Trace, trace_rows
from orch8.storage.transaction import Tx, dumps

_TYPES = {
    "instance_id": "uuid", "id": "uuid", "claimed_by": "uuid", "path": "integer[]",
    "round": "smallint", "generation": "smallint", "epoch": "integer", "dispatches": "integer",
    "failures": "integer", "crashes": "integer", "deferrals": "integer",
    "context_version": "integer", "pull": "boolean", "due_at": "timestamptz",
    "held_due_at": "timestamptz", "expires_at": "timestamptz", "deadline_at": "timestamptz",
    "lease_until": "timestamptz", "first_dispatched_at": "timestamptz", "queued_at": "timestamptz",
    "created_at": "timestamptz", "finished_at": "timestamptz", "attention": "jsonb",
    "progress": "jsonb", "output": "jsonb", "error": "jsonb", "last_dispatched_at": "timestamptz",
    "money": "jsonb",
}  # fmt: skip
_COLUMNS = tuple(f.name for f in fields(StepRow))
_PLAIN = tuple(c for c in _COLUMNS if c != "request")
_FIXED = {"instance_id", "node_key", "id", "tenant_id", "block_id", "path", "round", "created_at"}
_AUDIT_NAMES = tuple(f.name for f in fields(AuditEntry))
_EVIDENCE_NAMES = tuple(f.name for f in fields(Evidence))
_DOUBT_NAMES = tuple(f.name for f in fields(Doubt))
_INCIDENT_NAMES = tuple(f.name for f in fields(Incident))
# What settling a step writes; every other change of a row goes the long way.
_SETTLED = (
    "state", "outcome", "output", "error", "finished_at", "failures", "due_at", "claimed_by",
    "attention", "provider_ref",
)  # fmt: skip

_NONE = "NULL::uuid AS id, false AS keyed WHERE false"
_KEY_NAMES = "tenant_id key instance_id lasting"
_PAIR_NAMES = "instance_id tenant_id pairs"

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
    WHERE {by_key("s.instance_id", "r.instance_id")} AND s.node_key = r.node_key
        AND {within("s.instance_id")})"""
_UPDATE = f"""rewritten AS (
    UPDATE steps s SET {_assign(_UPDATED)}, request = decode(r.request, 'base64')
    FROM json_to_recordset(%(rewritten)s::json)
        AS r(instance_id uuid, node_key text, request text, {_record(_UPDATED)})
    WHERE s.instance_id = r.instance_id AND s.node_key = r.node_key
        AND {within("s.instance_id")})"""
_INSERT = f"""entered AS (
    INSERT INTO steps ({_NAMES})
    SELECT {_VALUES} FROM json_to_recordset(%(entered)s::json)
        AS r(request text, {_record(_PLAIN)}))"""
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
# row is changed, and whether it is paused is read. With i.id = r.instance_id the planner may find
# steps by i.id alone and sift them: with few steps an instance that looks as good.
_WAKE = f"""woken AS (
    UPDATE steps s SET due_at = CASE WHEN i.paused_at IS NULL THEN orch8_now() END,
        held_due_at = CASE WHEN i.paused_at IS NULL THEN NULL ELSE orch8_now() END
    FROM json_to_recordset(%(woken)s::json) AS r(instance_id uuid, node_key text)
    JOIN instances i ON {by_key("i.id", "r.instance_id")}
    WHERE s.instance_id = r.instance_id AND s.node_key = r.node_key
        AND s.state IN ('waiting', 'scheduled') AND {within("i.id", "s.instance_id")})"""
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
# Taken in one order, so that two batches never wait for each other in a circle.
_TAKE = """taken AS (
    INSERT INTO business_keys (tenant_id, key, instance_id, lasting)
    SELECT tenant_id, key, instance_id, lasting FROM json_to_recordset(%(business_keys)s::json)
        AS r(tenant_id text, key text, instance_id uuid, lasting boolean)
    ORDER BY tenant_id, key
    ON CONFLICT (tenant_id, key) DO NOTHING RETURNING instance_id)"""
_FREE = """keys_freed AS (
    DELETE FROM business_keys b USING json_to_recordset(%(freed_keys)s::json) AS r(id uuid)
    WHERE b.instance_id = r.id AND NOT b.lasting)"""
_CORRELATE = """uncorrelated AS (
    DELETE FROM correlations c USING json_to_recordset(%(correlated)s::json)
        AS r(instance_id uuid, pairs jsonb)
    WHERE c.instance_id = r.instance_id AND r.pairs ->> c.name IS DISTINCT FROM c.value),
correlated AS (
    INSERT INTO correlations (tenant_id, name, value, instance_id)
    SELECT r.tenant_id, p.key, p.value, r.instance_id
    FROM json_to_recordset(%(correlated)s::json)
        AS r(instance_id uuid, tenant_id text, pairs jsonb), jsonb_each_text(r.pairs) p
    ON CONFLICT (tenant_id, name, value, instance_id) DO NOTHING)"""
# A doubt that comes back is open again, since when it first was.
_DOUBT = """doubted AS (
    INSERT INTO doubts (instance_id, node_key, generation, tenant_id, handler, provider, effect,
        idempotency_key, money, reason)
    SELECT instance_id, node_key, generation, tenant_id, handler, provider, effect,
        idempotency_key, money, reason
    FROM json_to_recordset(%(doubted)s::json) AS r(instance_id uuid, node_key text,
        generation smallint, tenant_id text, handler text, provider text, effect text,
        idempotency_key text, money jsonb, reason text)
    ON CONFLICT (instance_id, node_key, generation) DO UPDATE SET reason = excluded.reason,
        resolved_at = NULL, resolved_by = NULL, verdict = NULL)"""
_RESOLVE = """undoubted AS (
    UPDATE doubts d SET resolved_at = clock_timestamp(), resolved_by = r.resolved_by,
        verdict = r.verdict
    FROM json_to_recordset(%(undoubted)s::json) AS r(instance_id uuid, node_key text,
        generation smallint, resolved_by text, verdict text)
    WHERE d.instance_id = r.instance_id AND d.node_key = r.node_key
        AND d.generation = r.generation AND d.resolved_at IS NULL)"""
_INCIDENT = """incidents_opened AS (
    INSERT INTO incidents (id, tenant_id, instance_id, node_key, kind, body)
    SELECT id, tenant_id, instance_id, node_key, kind, body
    FROM json_to_recordset(%(incidents)s::json) AS r(id uuid, tenant_id text, instance_id uuid,
        node_key text, kind text, body jsonb))"""


class Changes:
    """What a transaction will write, gathered first and written at its end.

    A list is made when it is first asked for: most transitions write to four of them, and each has
    a Changes of its own.
    """

    settled: list[StepRow]
    rewritten: list[StepRow]
    entered: list[StepRow]
    advanced: list[InstanceRow]
    created: list[InstanceRow]
    contexts: list[tuple[UUID, int, str, Any]]
    state: list[tuple[UUID, str, str, Any]]
    forgotten: list[tuple[UUID, str]]
    consumed: list[tuple[UUID, datetime, str]]
    woken: list[tuple[UUID, str]]
    audit: list[AuditEntry]
    evidence: list[Evidence]
    doubted: list[Doubt]
    undoubted: list[Doubt]
    incidents: list[Incident]
    business_keys: list[tuple[str, str, UUID, bool]]
    freed_keys: list[UUID]
    correlated: list[tuple[UUID, str, dict[str, str]]]
    counted: list[Counted]
    judged: list[Judged]
    told: list[Notice]
    traced: list[Trace]
    noted: list[TaskEvent]
    pushed: list[Push]
    waits: list[EventWait]
    taken: list[tuple[UUID, UUID]]  # events, each with the wait that has it
    waits_over: list[WaitOver]
    emitted: list[Emission]
    alarms: list[Alarm]
    let_go: list[Hold]  # fences, by a statement of their own; so all that follow
    repointed: list[Repointed]  # versions of instances' own
    left: list[Place]
    halted: list[Halt]
    felt: list[Felt]  # what answers said of their handlers

    def __init__(self, **given: list[Any]) -> None:
        self.__dict__.update(given)

    def __getattr__(self, name: str) -> list[Any]:
        if name not in Changes.__annotations__:
            raise AttributeError(name)
        made: list[Any] = []
        self.__dict__[name] = made
        return made

    def extend(self, other: Changes) -> None:
        """Take over everything that ``other`` will write."""
        for name, rows in other.__dict__.items():
            if rows:
                getattr(self, name).extend(rows)

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
    missing, must roll back, or its steps would stay behind. Raises BusinessKeyTaken when another
    instance took a business key meanwhile, or emitted something under the same key.
    """
    places.leave(tx, changes.left)  # before any other lock, as storage.places says
    fences.release(tx, changes.let_go)
    for moved in sorted(changes.repointed, key=lambda each: each.by.id):
        derived.repoint(tx, moved)
    parts: list[str] = []
    params: dict[str, Any] = _months(changes)

    def add(sql: str, name: str, rows: list[Any]) -> None:
        if rows:
            parts.append(sql)
            params[name] = dumps(rows)

    add(_SETTLE, "settled", [_columns(tx, row, _SETTLED) for row in changes.settled])
    rewritten = [_columns(tx, row, _UPDATED) | _request(row) for row in changes.rewritten]
    add(_UPDATE, "rewritten", rewritten)
    add(_INSERT, "entered", [_columns(tx, row, _PLAIN) | _request(row) for row in changes.entered])
    add(ADVANCE, "advanced", advanced_rows(changes.advanced))
    add(CREATE, "created", created_rows(changes.created))
    add(
        _CONTEXT,
        "contexts",
        [_context(tx, *each) for each in changes.contexts],
    )
    add(_STATE, "state", [_state(tx, *each) for each in changes.state])
    add(_FORGET, "forgotten", [_named(c, "instance_id key") for c in changes.forgotten])
    add(_CONSUME, "consumed", [_named(c, "id consumed_at consumed_by") for c in changes.consumed])
    add(_WAKE, "woken", [_named(c, "instance_id node_key") for c in changes.woken])
    add(_AUDIT, "audit", [_entry(entry, _AUDIT_NAMES) for entry in changes.audit])
    add(_EVIDENCE, "evidence", [_entry(entry, _EVIDENCE_NAMES) for entry in changes.evidence])
    add(_DOUBT, "doubted", [_members(doubt, _DOUBT_NAMES) for doubt in changes.doubted])
    add(_RESOLVE, "undoubted", [_members(doubt, _DOUBT_NAMES) for doubt in changes.undoubted])
    add(COUNT, "counted", counted_rows(changes.counted))
    add(JUDGE, "judged", judged_rows(changes.judged))
    add(TELL, "told", notice_rows(changes.told))
    add(TRACE, "traced", trace_rows(tx.cipher, changes.traced))
    add(NOTE, "noted", event_rows(changes.noted))
    add(PUSH, "pushed", push_rows(changes.pushed))
    for part in event_waits.parts(changes.waits, changes.taken, changes.waits_over):
        add(*part)
    add(EMIT, "emitted", emission_rows(changes.emitted))
    add(ARM, "alarms", alarm_rows(changes.alarms))
    add(_INCIDENT, "incidents", [_entry(each, _INCIDENT_NAMES) for each in changes.incidents])
    add(_TAKE, "business_keys", [_named(c, _KEY_NAMES) for c in changes.business_keys])
    add(_FREE, "freed_keys", [{"id": instance_id} for instance_id in changes.freed_keys])
    add(_CORRELATE, "correlated", [_named(c, _PAIR_NAMES) for c in changes.correlated])
    if not parts:
        return frozenset()
    made = "id, false AS keyed FROM created" if changes.created else _NONE
    tail = f"SELECT {made}"
    if changes.business_keys:
        tail = f"{tail} UNION ALL SELECT instance_id, true FROM taken"
    if changes.emitted:
        tail = f"{tail} UNION ALL SELECT instance_id, true FROM emitted"
    rows = tx.rows(KEPT.get(tuple(params)) or "WITH " + ",\n".join(parts) + f"\n{tail}", params)
    if sum(row.keyed for row in rows) < len(changes.business_keys) + len(changes.emitted):
        raise BusinessKeyTaken
    halt(tx, changes.halted)
    breakers.record(tx, changes.felt)  # which never come alone
    return frozenset(row.id for row in rows if not row.keyed)


def _months(changes: Changes) -> dict[str, Any]:
    """The months of the rows that are updated, as parameters."""
    ids = [row.instance_id for row in (*changes.settled, *changes.rewritten)]
    ids += [row.id for row in changes.advanced]
    ids += [instance_id for instance_id, _ in changes.woken]
    return {**span(ids)} if ids else {}


def _columns(tx: Tx, row: StepRow, columns: tuple[str, ...]) -> dict[str, Any]:
    values = row.__dict__
    out = {c: values[c] for c in columns if values[c] is not None}
    out["instance_id"], out["node_key"] = row.instance_id, row.node_key
    if "output" in out:
        out["output"] = tx.cipher.seal_output(row)
    if "progress" in out:
        out["progress"] = tx.cipher.seal_progress(row, row.progress)
    return out


def _request(row: StepRow) -> dict[str, Any]:
    return {} if row.request is None else {"request": encoded(row.request)}


def _context(
    tx: Tx, instance_id: UUID, version: int, tenant_id: str, context: Any
) -> dict[str, Any]:
    body = tx.cipher.seal_context(instance_id, context)
    return {"instance_id": instance_id, "version": version, "tenant_id": tenant_id, "body": body}


def _state(tx: Tx, instance_id: UUID, key: str, tenant_id: str, value: Any) -> dict[str, Any]:
    sealed = tx.cipher.seal_value(value, state_place(instance_id, key))
    return {"instance_id": instance_id, "key": key, "tenant_id": tenant_id, "value": sealed}


def _named(values: tuple[Any, ...], names: str) -> dict[str, Any]:
    return dict(zip(names.split(), values, strict=True))


def _entry(entry: AuditEntry | Evidence | Incident, names: tuple[str, ...]) -> dict[str, Any]:
    return {"id": uuid7()} | _members(entry, names)


def _members(entry: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in names}
