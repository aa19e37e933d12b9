"""effects: a receipt for each call that may have changed the world, from what is stored of it.

Nothing is written for them: a step's row is the receipt of its present attempt, and a doubt that of
an earlier one. Resolving one that is in doubt is the decision of a person (`runtime/decisions.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID, uuid5

from orch8.engine.keys import NodeKey
from orch8.engine.lifecycle import LIVE, StepState
from orch8.engine.outcome import Status, Verdict
from orch8.errors import Conflict, InvalidArgument, NotFound, Problem
from orch8.handlers.registry import HANDLERS
from orch8.runtime import decisions
from orch8.runtime.decisions import Decided
from orch8.runtime.office import Office, only
from orch8.runtime.resolve import Decision, Judgement
from orch8.storage import attention, instances, steps
from orch8.storage.rows import StepRow
from orch8.storage.transaction import Row, Tx

MOST: Final = 1000  # steps of one instance
MOST_DOUBTS: Final = 10_000  # of a tenant, among which a receipt is looked for
_RECEIPTS: Final = UUID("6f7263f8-5265-5c65-b970-747300000000")  # the namespace of their ids


class State(StrEnum):
    """How far an effect is."""

    PLANNED = "planned"
    PREPARED = "prepared"
    DISPATCHED = "dispatched"
    COMMITTED = "committed"
    UNKNOWN = "unknown"
    VERIFIED = "verified"  # it was in doubt, and somebody else than its own answer told
    ABANDONED = "abandoned"  # it surely did not happen
    COMPENSATED = "compensated"


# The kinds of effects that built-in handlers have; those of others are workers'.
KINDS: Final[Mapping[str, str]] = {
    "http_request": "http", "tool_call": "http", "mcp_call": "http",
    "llm_call": "model", "agent": "model", "embed": "model",
    "emit_event": "message", "send_signal": "message",
    "memory_store": "storage", "memory_delete": "storage", "blob_put": "storage",
    "self_modify": "custom",
}  # fmt: skip
WORKER: Final = "worker"
# Carried out in the transaction that settles them, so never dispatched.
_WITHIN: Final = frozenset({"emit_event", "send_signal", "self_modify"})
_REFERENCES: Final = ("provider_receipt_id", "receipt_id", "request_id")
_DECIDES: Final[Mapping[State, Decision]] = {
    State.COMMITTED: Decision.HAPPENED,
    State.VERIFIED: Decision.HAPPENED,
    State.ABANDONED: Decision.FAIL,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One attempt of one step, as clients of the contract name its parts."""

    id: UUID
    tenant_id: str
    instance_id: UUID
    node_key: str
    block_id: str
    handler: str
    kind: str
    state: State
    epoch: int
    attempt: int
    idempotency_key: str | None
    request_sha256: str | None
    provider_receipt_id: str | None
    created_at: datetime
    updated_at: datetime

    @property
    def destination_fingerprint(self) -> str:
        """The same for all effects that go to the same handler of a tenant."""
        return hashlib.sha256(f"{self.tenant_id}/{self.handler}".encode()).hexdigest()


def receipt_id(instance_id: UUID, node_key: str, generation: int) -> UUID:
    """The id of the receipt of one attempt, always the same."""
    return uuid5(_RECEIPTS, f"{instance_id}/{node_key}/{generation}")


def effects(tx: Tx, instance_id: UUID, *, tenant_id: str | None) -> list[Receipt]:
    """The receipts of an instance, the oldest first. Raises NotFound."""
    only(instances.read_instances(tx, [instance_id]), instance_id, tenant_id)
    rows = steps.steps_of(tx, instance_id, limit=MOST)
    return receipts(rows, attention.doubts_of_instance(tx, instance_id, MOST))


def receipts(rows: Iterable[StepRow], doubts: Sequence[Row]) -> list[Receipt]:
    """The receipts of steps' present attempts, and of earlier ones that were in doubt."""
    by_attempt = {(each.node_key, each.generation): each for each in doubts}
    found = []
    for row in rows:
        kind = kind_of(row.handler)
        if kind is None:
            continue
        for generation in range(1, row.generation):
            doubt = by_attempt.get((row.node_key, generation))
            if doubt is not None:
                found.append(_earlier(row, kind, doubt))
        state = state_of(row, by_attempt.get((row.node_key, row.generation)))
        if state is not None:
            found.append(_present(row, kind, state))
    return sorted(found, key=lambda each: each.created_at)


def kind_of(handler: str) -> str | None:
    """The kind of effect that calls of a handler have; None for a built-in without one."""
    if handler in KINDS:
        return KINDS[handler]
    return None if handler in HANDLERS or handler.startswith("@") else WORKER


def state_of(row: StepRow, doubt: Row | None = None) -> State | None:
    """How far the effect of a step's present attempt is; None: nothing of it was sent.

    ``doubt`` tells how it was found out about, if it was in doubt.
    """
    if row.dispatches == 0 and (row.handler not in _WITHIN or row.state in LIVE):
        return None
    if row.state == StepState.COMPLETED:
        if row.outcome == Status.SKIPPED:
            return State.ABANDONED
        told = doubt is not None and doubt.resolved_by not in (None, "retry")
        return State.VERIFIED if told else State.COMMITTED
    if row.outcome in (Verdict.UNKNOWN, Verdict.IN_PROGRESS):
        return State.UNKNOWN
    if row.state not in LIVE:
        return State.ABANDONED
    waits = row.state == StepState.SCHEDULED and row.outcome != Verdict.PENDING
    return State.PREPARED if waits else State.DISPATCHED


def resolve(
    office: Office, tx: Tx, effect_id: UUID, judgement: Judgement, *, tenant_id: str
) -> Decided:
    """What became of an effect in doubt has been decided; or waits for a second person, as every
    decision about its amount does. Raises NotFound for an effect that was never in doubt, and
    Conflict for one that is not now.
    """
    for each in attention.recent_doubts(tx, tenant_id, MOST_DOUBTS):
        if receipt_id(each.instance_id, each.node_key, each.generation) == effect_id:
            break
    else:
        raise NotFound(f"effect {effect_id} among those of the tenant that are or were in doubt")
    row = next(iter(steps.read_steps(tx, [(each.instance_id, each.node_key)])), None)
    if row is None or row.generation != each.generation:
        raise Conflict("a newer attempt was made since: this effect is not in doubt any more")
    decided = replace(judgement, epoch=row.epoch)
    return decisions.decide(
        office, tx, each.instance_id, each.node_key, decided, tenant_id=tenant_id
    )


def decision_for(state: str) -> Decision:
    """The decision that setting an effect to a state stands for. Raises InvalidArgument for a state
    that nobody can set.
    """
    decision = _DECIDES.get(State(state))
    if decision is None:
        hint = "committed or verified: it happened; abandoned: it surely did not"
        problem = Problem("/state", f"an effect in doubt is not set to {state}", hint)
        raise InvalidArgument(f"an effect in doubt is not set to {state}: {hint}", errors=[problem])
    return decision


def _present(row: StepRow, kind: str, state: State) -> Receipt:
    began = row.first_dispatched_at or row.created_at
    return Receipt(
        id=receipt_id(row.instance_id, row.node_key, row.generation),
        tenant_id=row.tenant_id, instance_id=row.instance_id, node_key=row.node_key,
        block_id=row.block_id, handler=row.handler, kind=kind, state=state, epoch=row.epoch,
        attempt=row.generation - 1, idempotency_key=row.idempotency_key,
        request_sha256=row.fingerprint, provider_receipt_id=_reference(row), created_at=began,
        updated_at=row.finished_at or row.last_dispatched_at or began,
    )  # fmt: skip


def _earlier(row: StepRow, kind: str, doubt: Row) -> Receipt:
    happened = doubt.verdict in (Verdict.SUCCEEDED, Verdict.DECLINED)
    return Receipt(
        id=receipt_id(row.instance_id, row.node_key, doubt.generation),
        tenant_id=row.tenant_id, instance_id=row.instance_id, node_key=row.node_key,
        block_id=NodeKey.parse(row.node_key).block_id, handler=doubt.handler, kind=kind,
        state=State.COMMITTED if happened else State.ABANDONED, epoch=row.epoch,
        attempt=doubt.generation - 1, idempotency_key=doubt.idempotency_key, request_sha256=None,
        provider_receipt_id=None, created_at=doubt.opened_at,
        updated_at=doubt.resolved_at or doubt.opened_at,
    )  # fmt: skip


def _reference(row: StepRow) -> str | None:
    if row.provider_ref is not None:
        return row.provider_ref
    output: Any = row.output if isinstance(row.output, dict) else {}
    return next((str(output[name]) for name in _REFERENCES if output.get(name)), None)
