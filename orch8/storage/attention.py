"""Attention: what a person may have to look at, and what people decided about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from orch8.storage.transaction import Row, Tx, dumps

KINDS: Final = ("doubt", "parked", "incident", "decision")
STATES: Final = ("open", "resolved")

# Each branch has the same columns. `ref` tells matters of the same moment apart.
_DOUBTS: Final = """
SELECT CASE WHEN s.state = 'parked' AND s.generation = d.generation AND d.resolved_at IS NULL
        THEN 'parked' ELSE 'doubt' END AS kind,
    {at} AS at, 'doubt/' || d.instance_id || '/' || d.node_key || '/' || d.generation AS ref,
    NULL::uuid AS id, d.tenant_id, d.instance_id, d.node_key, d.handler, d.provider,
    d.opened_at, d.resolved_at AS closed_at, d.resolved_by AS closed_by, d.reason,
    jsonb_build_object('generation', d.generation, 'effect', d.effect, 'verdict', d.verdict,
        'idempotency_key', d.idempotency_key, 'money', d.money) AS body
FROM doubts d LEFT JOIN steps s USING (instance_id, node_key)
WHERE d.resolved_at IS {ended}"""
# Parked for another reason than a doubt: it could not be claimed or settled, or never be sent.
_PARKED: Final = """
SELECT 'parked' AS kind, {at} AS at, 'parked/' || s.id AS ref, NULL::uuid AS id, s.tenant_id,
    s.instance_id, s.node_key, s.handler, NULL::text AS provider, {at} AS opened_at,
    NULL::timestamptz AS closed_at, NULL::text AS closed_by,
    COALESCE(s.attention ->> 'reason', 'parked') AS reason,
    jsonb_build_object('generation', s.generation, 'effect', s.effect,
        'idempotency_key', s.idempotency_key, 'money', s.money) AS body
FROM steps s
WHERE s.attention IS NOT NULL AND s.state = 'parked' AND NOT EXISTS (
    SELECT FROM doubts d WHERE d.instance_id = s.instance_id AND d.node_key = s.node_key
        AND d.generation = s.generation AND d.resolved_at IS NULL)"""
_INCIDENTS: Final = """
SELECT 'incident' AS kind, {at} AS at, 'incident/' || n.id AS ref, n.id, n.tenant_id,
    n.instance_id, n.node_key, s.handler, (SELECT d.provider FROM doubts d
        WHERE d.instance_id = n.instance_id AND d.node_key = n.node_key
        ORDER BY d.generation DESC LIMIT 1) AS provider,
    n.opened_at, n.closed_at, n.closed_by, n.kind AS reason,
    jsonb_build_object('observed', n.body, 'closing_reason', n.reason) AS body
FROM incidents n LEFT JOIN steps s USING (instance_id, node_key)
WHERE n.closed_at IS {ended}"""
_DECISIONS: Final = """
SELECT 'decision' AS kind, {at} AS at, 'decision/' || p.id AS ref, p.id, p.tenant_id,
    p.instance_id, p.node_key, s.handler, (SELECT d.provider FROM doubts d
        WHERE d.instance_id = p.instance_id AND d.node_key = p.node_key
        ORDER BY d.generation DESC LIMIT 1) AS provider,
    p.proposed_at AS opened_at, p.decided_at AS closed_at, p.decided_by AS closed_by,
    p.reason, jsonb_build_object('decision', p.decision, 'state', p.state, 'epoch', p.epoch,
        'provider_ref', p.provider_ref, 'proposed_by', p.proposed_by, 'note', p.note) AS body
FROM decisions p LEFT JOIN steps s USING (instance_id, node_key)
WHERE p.state {ended}"""
_PARKED_SINCE: Final = "COALESCE((s.attention ->> 'since')::timestamptz, s.created_at)"
_OPEN: Final = (
    _DOUBTS.format(at="d.opened_at", ended="NULL"),
    _PARKED.format(at=_PARKED_SINCE),
    _INCIDENTS.format(at="n.opened_at", ended="NULL"),
    _DECISIONS.format(at="p.proposed_at", ended="= 'open'"),
)
_ENDED: Final = (
    _DOUBTS.format(at="d.resolved_at", ended="NOT NULL"),
    _INCIDENTS.format(at="n.closed_at", ended="NOT NULL"),
    _DECISIONS.format(at="p.decided_at", ended="<> 'open'"),
)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which matters a list shows; what is None does not narrow it. ``older_than``: open, or ended,
    for at least that long. ``after`` is the (at, ref) of the last one seen.
    """

    tenant_id: str | None = None
    state: str = "open"
    kinds: tuple[str, ...] = KINDS
    provider: str | None = None
    handler: str | None = None
    older_than: timedelta | None = None
    after: tuple[datetime, str] | None = None


def matters(tx: Tx, wanted: Wanted, *, limit: int) -> list[Row]:
    """What is open, the oldest first; or what has ended, the latest end first.

    Columns: kind, at (what it is sorted by), ref, id (of an incident or a decision), tenant_id,
    instance_id, node_key, handler, provider, opened_at, closed_at, closed_by, reason, body.
    """
    is_open = wanted.state == "open"
    order = "ASC" if is_open else "DESC"
    where = ["m.kind = ANY(%(kinds)s)"]
    for condition, value in (
        ("m.tenant_id = %(tenant)s", wanted.tenant_id),
        ("m.provider = %(provider)s", wanted.provider),
        ("m.handler = %(handler)s", wanted.handler),
        ("m.at <= clock_timestamp() - %(age)s", wanted.older_than),
        (f"(m.at, m.ref) {'>' if is_open else '<'} (%(at)s, %(ref)s)", wanted.after),
    ):
        if value is not None:
            where.append(condition)
    parts = "\nUNION ALL\n".join(
        f"(SELECT * FROM ({branch}) m WHERE {' AND '.join(where)}"
        f" ORDER BY m.at {order}, m.ref {order} LIMIT %(limit)s)"
        for branch in (_OPEN if is_open else _ENDED)
    )
    at, ref = wanted.after or (None, None)
    params = {
        "kinds": list(wanted.kinds), "tenant": wanted.tenant_id, "provider": wanted.provider,
        "handler": wanted.handler, "age": wanted.older_than, "at": at, "ref": ref, "limit": limit,
    }  # fmt: skip
    return tx.rows(f"{parts}\nORDER BY at {order}, ref {order} LIMIT %(limit)s", params)


# -- one attempt ---------------------------------------------------------------------------------
def doubts_of(tx: Tx, instance_id: UUID, node_key: str) -> list[Row]:
    """Every doubt there was about a node's attempts, by generation."""
    sql = """SELECT generation, provider, effect, idempotency_key, reason, opened_at, resolved_at,
                resolved_by, verdict
             FROM doubts WHERE instance_id = %(i)s AND node_key = %(k)s
             ORDER BY generation LIMIT 100"""
    return tx.rows(sql, {"i": instance_id, "k": node_key})


def doubts_of_instance(tx: Tx, instance_id: UUID, limit: int) -> list[Row]:
    """Every doubt there was about the attempts of an instance."""
    sql = """SELECT node_key, generation, handler, idempotency_key, opened_at, resolved_at,
                resolved_by, verdict
             FROM doubts WHERE instance_id = %(i)s ORDER BY node_key, generation LIMIT %(limit)s"""
    return tx.rows(sql, {"i": instance_id, "limit": limit})


def recent_doubts(tx: Tx, tenant_id: str, limit: int) -> list[Row]:
    """The attempts of a tenant that are in doubt, then those that were, the latest first."""
    shown = "instance_id, node_key, generation, resolved_by, verdict"
    sql = f"""(SELECT {shown} FROM doubts WHERE tenant_id = %(t)s AND resolved_at IS NULL
               ORDER BY opened_at DESC LIMIT %(limit)s)
              UNION ALL
              (SELECT {shown} FROM doubts WHERE tenant_id = %(t)s AND resolved_at IS NOT NULL
               ORDER BY resolved_at DESC LIMIT %(limit)s)"""
    return tx.rows(sql, {"t": tenant_id, "limit": limit})


def evidence_at(tx: Tx, instance_id: UUID, node_key: str, limit: int) -> list[Row]:
    """What was observed of a node's calls, the oldest first; of more than ``limit`` the latest."""
    sql = """SELECT * FROM (SELECT id, at, epoch, kind, verdict, body FROM evidence
                 WHERE instance_id = %(i)s AND node_key = %(k)s ORDER BY id DESC LIMIT %(limit)s) e
             ORDER BY id"""
    return tx.rows(sql, {"i": instance_id, "k": node_key, "limit": limit})


def history_at(tx: Tx, instance_id: UUID, node_key: str, limit: int) -> list[Row]:
    """A node's entries in the audit log, the oldest first; of more than ``limit`` the latest."""
    sql = """SELECT * FROM (SELECT id, at, actor, action, outcome, reason, body FROM audit_log
                 WHERE instance_id = %(i)s AND node_key = %(k)s ORDER BY id DESC LIMIT %(limit)s) e
             ORDER BY id"""
    return tx.rows(sql, {"i": instance_id, "k": node_key, "limit": limit})


# -- incidents -----------------------------------------------------------------------------------
def incidents_of(tx: Tx, instance_id: UUID, node_key: str) -> list[Row]:
    """The latest incidents of a node, the newest first."""
    sql = """SELECT id, kind, body, opened_at, closed_at, closed_by, reason FROM incidents
             WHERE instance_id = %(i)s AND node_key = %(k)s ORDER BY id DESC LIMIT 100"""
    return tx.rows(sql, {"i": instance_id, "k": node_key})


def lock_incident(tx: Tx, incident_id: UUID) -> Row | None:
    """An incident, locked: id, tenant_id, instance_id, node_key, kind, closed_at, closed_by."""
    sql = """SELECT id, tenant_id, instance_id, node_key, kind, closed_at, closed_by
             FROM incidents WHERE id = %(id)s FOR UPDATE"""
    return tx.one(sql, {"id": incident_id})


def close_incident(tx: Tx, incident_id: UUID, *, actor: str, reason: str) -> Row:
    """The incident is closed; the whole of it."""
    sql = """UPDATE incidents SET closed_at = clock_timestamp(), closed_by = %(actor)s,
                reason = %(reason)s WHERE id = %(id)s
             RETURNING id, tenant_id, instance_id, node_key, kind, body, opened_at, closed_at,
                closed_by, reason"""
    return tx.one(sql, {"id": incident_id, "actor": actor, "reason": reason})


# -- decisions by two people ---------------------------------------------------------------------
_DECISION: Final = """id, tenant_id, instance_id, node_key, epoch, decision, output, provider_ref,
    reason, proposed_by, proposed_at, state, decided_by, decided_at, note"""


def decisions_of(tx: Tx, instance_id: UUID, node_key: str) -> list[Row]:
    """What was proposed about a node, the newest first."""
    sql = f"""SELECT {_DECISION} FROM decisions
              WHERE instance_id = %(i)s AND node_key = %(k)s ORDER BY id DESC LIMIT 100"""
    return [_decided(tx, row) for row in tx.rows(sql, {"i": instance_id, "k": node_key})]


def read_decision(tx: Tx, decision_id: UUID) -> Row | None:
    """What was proposed, and what became of it."""
    sql = f"SELECT {_DECISION} FROM decisions WHERE id = %(id)s"
    row = tx.one(sql, {"id": decision_id})
    return None if row is None else _decided(tx, row)


def lock_decision(tx: Tx, decision_id: UUID) -> Row:
    """As read_decision, and the row is locked; the caller holds its instance's lock already."""
    sql = f"SELECT {_DECISION} FROM decisions WHERE id = %(id)s FOR UPDATE"
    return _decided(tx, tx.one(sql, {"id": decision_id}))


def insert_decision(tx: Tx, row: Mapping[str, Any]) -> Row:
    """A decision waits for a second person. ``row``: id, tenant_id, instance_id, node_key, epoch,
    decision, output, provider_ref, reason, proposed_by.
    """
    sql = f"""
    INSERT INTO decisions (id, tenant_id, instance_id, node_key, epoch, decision, output,
        provider_ref, reason, proposed_by)
    VALUES (%(id)s, %(tenant_id)s, %(instance_id)s, %(node_key)s, %(epoch)s, %(decision)s,
        %(output)s::jsonb, %(provider_ref)s, %(reason)s, %(proposed_by)s)
    RETURNING {_DECISION}"""
    place = decision_place(row["instance_id"], row["id"])
    output = dumps(tx.cipher.seal_value(row["output"], place))
    return _decided(tx, tx.one(sql, {**row, "output": output}))


def end_decision(tx: Tx, decision_id: UUID, state: str, *, actor: str, note: str | None) -> Row:
    """The decision is carried_out, withdrawn or stale; the whole of it."""
    sql = f"""UPDATE decisions SET state = %(state)s, decided_by = %(actor)s,
                decided_at = clock_timestamp(), note = %(note)s WHERE id = %(id)s
              RETURNING {_DECISION}"""
    params = {"id": decision_id, "state": state, "actor": actor, "note": note}
    return _decided(tx, tx.one(sql, params))


def decision_place(instance_id: UUID, decision_id: UUID) -> str:
    """Where the output that somebody proposed is kept."""
    return f"decisions/{instance_id}/{decision_id}"


def _decided(tx: Tx, row: Row) -> Row:
    place = decision_place(row.instance_id, row.id)
    return row._replace(output=tx.cipher.open_value(row.output, place))


def was_proposed(tx: Tx, instance_id: UUID, node_key: str, epoch: int) -> bool:
    """Whether somebody proposed a decision about the attempt as it stands now."""
    sql = """SELECT FROM decisions WHERE instance_id = %(i)s AND node_key = %(k)s
             AND epoch = %(epoch)s LIMIT 1"""
    return tx.one(sql, {"i": instance_id, "k": node_key, "epoch": epoch}) is not None


# -- the tenant's policy -------------------------------------------------------------------------
def policy_of(tx: Tx, tenant_id: str) -> Row | None:
    """A tenant's policy: two_person_above, updated_at, updated_by; None if it never stated one."""
    sql = """SELECT two_person_above, updated_at, updated_by FROM tenant_policies
             WHERE tenant_id = %(t)s"""
    return tx.one(sql, {"t": tenant_id})


def put_policy(tx: Tx, tenant_id: str, two_person_above: Mapping[str, int], actor: str) -> Any:
    """The tenant's policy is this from now on; the thresholds that held before."""
    # The row exists from here on and is locked, so that what is returned is what was replaced.
    tx.run(
        """INSERT INTO tenant_policies (tenant_id, updated_by) VALUES (%(t)s, %(by)s)
           ON CONFLICT DO NOTHING""",
        {"t": tenant_id, "by": actor},
    )
    before = tx.one(
        "SELECT two_person_above FROM tenant_policies WHERE tenant_id = %(t)s FOR UPDATE",
        {"t": tenant_id},
    )
    sql = """UPDATE tenant_policies SET two_person_above = %(above)s::jsonb,
                updated_at = clock_timestamp(), updated_by = %(by)s WHERE tenant_id = %(t)s"""
    tx.run(sql, {"t": tenant_id, "above": dumps(dict(two_person_above)), "by": actor})
    return before.two_person_above if before is not None else {}
