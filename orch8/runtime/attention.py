"""attention: what is in doubt, side by side with its evidence, and what happens to it by itself."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import orjson

from orch8.blocks.money import OnUnknown
from orch8.blocks.step import Step
from orch8.engine.lifecycle import LIVE, StepState
from orch8.errors import Conflict, NotFound, Orch8Error
from orch8.runtime.decisions import Actor, check_reason, two_people
from orch8.runtime.doubts import UNRESOLVED
from orch8.runtime.fencing import FENCE
from orch8.runtime.horizon import key_ttl, on_unknown
from orch8.runtime.office import Office, only
from orch8.runtime.redact import redact
from orch8.runtime.resolve import Decision, cannot_ask, why_not
from orch8.runtime.run import Run
from orch8.storage import attention, fences, instances, signals, steps
from orch8.storage.attention import Wanted
from orch8.storage.breakers import WAITING
from orch8.storage.changes import Changes, write
from orch8.storage.cipher import Cipher
from orch8.storage.fences import Hold
from orch8.storage.rows import AuditEntry, StepRow
from orch8.storage.transaction import Row, Tx

EVIDENCE: Final = 500  # rows of evidence, and of history, that are shown of one attempt
WAITERS: Final = 100
Shown = dict[str, Any]


def matters(tx: Tx, wanted: Wanted, *, limit: int) -> list[tuple[Row, Shown]]:
    """Everything that a person may have to look at, the oldest first, or what was, the latest end
    first: each as the storage read it, for cursors, and as it is shown.
    """
    rows = attention.matters(tx, wanted, limit=limit)
    keys = {(row.instance_id, row.node_key) for row in rows if row.node_key is not None}
    found = {(step.instance_id, step.node_key): step for step in steps.read_steps(tx, keys)}
    return [(row, _matter(row, found.get((row.instance_id, row.node_key)))) for row in rows]


def attempt(
    office: Office, tx: Tx, instance_id: UUID, node_key: str, *, tenant_id: str | None
) -> Shown:
    """One attempt with everything that helps to decide about it: what was sent, what was observed,
    which words may belong to it, what was decided so far, who waits behind its fence, and which
    decisions are possible now.
    """
    instance = only(instances.read_instances(tx, [instance_id]), instance_id, tenant_id)
    row = next(iter(steps.read_steps(tx, [(instance_id, node_key)])), None)
    if row is None:
        raise NotFound(f"step {node_key!r} of instance {instance_id}")
    try:
        run: Run | None = office.run(tx, instance, instances.now(tx))
    except Orch8Error:  # a version that this process cannot read: that may be why it is parked
        run = None
    policy = _policy(run, row)
    told = policy["on_unknown"]["signals"] if policy and policy["on_unknown"] else {}
    doubts = attention.doubts_of(tx, instance_id, node_key)
    return {
        **_identity(row),
        "provider": next((each.provider for each in reversed(doubts)), None),
        "sequence": {"name": run.published.name, "version": run.published.version} if run else None,
        "instance_state": instance.state,
        "cancelling": instance.cancelling,
        "needs_person": row.state == StepState.PARKED,
        "epoch": row.epoch,
        "step": _step(row),
        "next": next_move(row),
        "policy": policy,
        "request": _request(row, office.around.cipher),
        "doubts": [each._asdict() for each in doubts],
        "evidence": [
            each._asdict() | {"body": redact(each.body)}
            for each in attention.evidence_at(tx, instance_id, node_key, EVIDENCE)
        ],
        "signals": _words(tx, row, told),
        "incidents": [
            each._asdict() | {"body": redact(each.body)}
            for each in attention.incidents_of(tx, instance_id, node_key)
        ],
        "decisions": [
            each._asdict() | {"output": redact(each.output)}
            for each in attention.decisions_of(tx, instance_id, node_key)
        ],
        "fence": fence_of(tx, row.tenant_id, row.fence) if row.fence is not None else None,
        "history": [
            each._asdict() for each in attention.history_at(tx, instance_id, node_key, EVIDENCE)
        ],
        "two_people": two_people(tx, row),
        "decide": _possible(run, row),
    }


def next_move(row: StepRow | None) -> Shown:
    """What the engine does about a step by itself, and ``at`` when; None: not by a clock."""
    if row is None:
        return {"does": "nothing: its instance has been deleted", "at": None}
    if row.state == StepState.PARKED:
        return {"does": "nothing: a person has to decide", "at": None}
    if row.state not in LIVE:
        return {"does": f"nothing: the step is {row.state}", "at": None}
    asked = f"asks {row.asking}" if row.asking else "sends it"
    if row.state == StepState.RUNNING:
        return {"does": f"{asked}: the answer is on its way, or its lease ends", "at": None}
    if row.limit_key is not None and row.due_at is None and row.held_due_at is None:
        return {"does": f"{asked} when the rate limit {row.limit_key} lets it through", "at": None}
    if row.waits_for == FENCE:
        does = f"waits for the fence {row.fence}, and looks again"
    elif row.waits_for == WAITING:
        does = f"waits for the circuit breaker of {row.handler}, and asks again"
    elif row.asking:
        does = f"asks {row.asking} again" if row.outcome in UNRESOLVED else f"asks {row.asking}"
    elif row.state == StepState.WAITING and not row.pull:
        return {"does": "waits for word from outside: a webhook, or a signal", "at": row.expires_at}
    elif row.state == StepState.WAITING:
        return {"does": "waits for a worker to take it, or to answer", "at": row.expires_at}
    else:
        does = "sends the same key again" if row.dispatches else "sends it"
    if row.due_at is None and row.held_due_at is not None:
        return {"does": f"{does}, once the instance is resumed", "at": row.held_due_at}
    return {"does": does, "at": row.due_at}


# -- incidents -----------------------------------------------------------------------------------
def close_incident(tx: Tx, incident_id: UUID, actor: Actor, *, tenant_id: str | None) -> Row:
    """Somebody has looked at the incident and says what it came to."""
    check_reason(actor.reason)
    found = attention.lock_incident(tx, incident_id)
    if found is None or tenant_id not in (None, found.tenant_id):
        raise NotFound(f"incident {incident_id}")
    if found.closed_at is not None:
        raise Conflict(f"incident {incident_id} was closed already, by {found.closed_by}")
    closed = attention.close_incident(tx, incident_id, actor=actor.name, reason=actor.reason)
    body = {"incident_id": str(incident_id), "kind": found.kind}
    entry = AuditEntry(
        found.tenant_id, actor.name, "incident.closed", "success", found.instance_id,
        found.node_key, reason=actor.reason, request_id=actor.request_id, body=body,
    )  # fmt: skip
    write(tx, Changes(audit=[entry]))
    return closed


# -- fences --------------------------------------------------------------------------------------
def fence_of(tx: Tx, tenant_id: str, fence: str) -> Shown:
    """Who has a fence, and who waits behind it, the longest first."""
    holder = fences.holder(tx, tenant_id, fence)
    behind = fences.waiting(tx, tenant_id, fence, limit=WAITERS)
    return {
        "tenant_id": tenant_id,
        "fence": fence,
        "holder": None if holder is None else holder._asdict(),
        "waiting": [each._asdict() for each in behind],
    }


def override_fence(tx: Tx, tenant_id: str, fence: str, actor: Actor) -> Shown:
    """The fence is taken off its holder, and who waits longest may move money: the fence as it was.

    Nothing is decided about the holder's own attempt; its call may still take effect.
    """
    check_reason(actor.reason)
    before = fence_of(tx, tenant_id, fence)
    holder = before["holder"]
    if holder is None:
        raise NotFound(f"fence {fence!r}: nobody has it")
    fences.release(tx, [Hold(tenant_id, fence, holder["instance_id"], holder["node_key"])])
    body = {
        "fence": fence, "since": holder["since"].isoformat(), "settled": holder["settled"],
        "waiting": [f"{each['instance_id']}/{each['node_key']}" for each in before["waiting"]],
    }  # fmt: skip
    entry = AuditEntry(
        tenant_id, actor.name, "fence.overridden", "success", holder["instance_id"],
        holder["node_key"], reason=actor.reason, request_id=actor.request_id, body=body,
    )  # fmt: skip
    write(tx, Changes(audit=[entry]))
    return before


# -- how it is shown -----------------------------------------------------------------------------
def _matter(row: Row, step: StepRow | None) -> Shown:
    is_open = row.closed_at is None
    return {
        "kind": row.kind,
        "id": row.id,
        "since": row.opened_at,
        "needs_person": is_open and row.kind != "doubt",
        "reason": row.reason,
        "tenant_id": row.tenant_id,
        "instance_id": row.instance_id,
        "node_key": row.node_key,
        "handler": row.handler,
        "provider": row.provider,
        "details": redact(row.body),
        "step": None if step is None else _step(step),
        "next": next_move(step) if is_open and row.node_key is not None else None,
        "closed_at": row.closed_at,
        "closed_by": row.closed_by,
    }


def _identity(row: StepRow) -> Shown:
    return {
        "tenant_id": row.tenant_id, "instance_id": row.instance_id, "node_key": row.node_key,
        "block_id": row.block_id, "handler": row.handler, "effect": row.effect,
    }  # fmt: skip


def _step(row: StepRow) -> Shown:
    return {
        "state": row.state,
        "outcome": row.outcome,
        "attention": row.attention,
        "waits_for": row.waits_for,
        "asking": row.asking,
        "next_at": row.due_at or row.held_due_at,
        "epoch": row.epoch,
        "generation": row.generation,
        "dispatches": row.dispatches,
        "failures": row.failures,
        "crashes": row.crashes,
        "idempotency_key": row.idempotency_key,
        "provider_ref": row.provider_ref,
        "money": redact(row.money),
        "fence": row.fence,
        "first_dispatched_at": row.first_dispatched_at,
        "last_dispatched_at": row.last_dispatched_at,
        "error": redact(row.error),
    }


def _policy(run: Run | None, row: StepRow) -> Shown | None:
    """What the definition says about the step in doubt; None when it cannot be read."""
    block = run.index.get(row.block_id) if run is not None else None
    if run is None or not isinstance(block, Step):
        return None
    known = on_unknown(run, row)
    return {
        "effect": row.effect,
        "provider": block.provider,
        "fence": row.fence,
        "on_fence": block.on_fence.value,
        "key_ttl_seconds": key_ttl(run, row),
        "on_unknown": _on_unknown(known),
    }


def _on_unknown(known: OnUnknown) -> Shown:
    return {
        "policy": known.policy.value,
        "then": known.then.value,
        "handler": known.handler,
        "schedule_seconds": [each.total_seconds() for each in known.schedule],
        "settle_delay_seconds": known.settle_delay,
        "confirmations": known.confirmations,
        "signals": {name: verdict.value for name, verdict in known.signals.items()},
    }


def _request(row: StepRow, cipher: Cipher) -> Shown | None:
    """What was sent: parameters without secrets, and the digest by which a provider's log can be
    compared; None when the request was not kept.
    """
    if row.request is None:
        return None
    kept = cipher.open_request(row)
    try:
        body = orjson.loads(kept)
    except orjson.JSONDecodeError:
        body = None
    params = body.get("params") if isinstance(body, dict) and "params" in body else body
    return {
        "params": redact(params),
        "bytes": len(kept),
        "sha256": hashlib.sha256(kept).hexdigest(),
    }


def _words(tx: Tx, row: StepRow, told: Mapping[str, str]) -> list[Shown]:
    """The signals that the step's on_unknown names, and those since its first dispatch that nobody
    has consumed.
    """
    sent_at = row.first_dispatched_at
    return [
        each._asdict() | {"payload": redact(each.payload), "means": told.get(each.name)}
        for each in signals.signals_of(tx, row.instance_id)
        if each.name in told
        or (each.consumed_at is None and sent_at is not None and each.received_at >= sent_at)
    ]


def _possible(run: Run | None, row: StepRow) -> Shown:
    """Each decision with why it cannot be taken now; None: it can."""
    refusal = why_not(row)
    if refusal is None and run is None:
        refusal = "this process cannot read the version that the instance runs"
    found: Shown = {decision.value: refusal for decision in Decision}
    if refusal is None and run is not None:
        found[Decision.ASK_AGAIN.value] = cannot_ask(run, row)
    return found
