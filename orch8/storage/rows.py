"""The rows of the hot tables as values. Times are aware datetimes, JSON is Python values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

from orch8.engine.expressions.values import timestamp
from orch8.engine.keys import NodeKey


@dataclass
class StepRow:
    """A leaf that was entered, with its current attempt. Mutable: a transaction's working copy."""

    instance_id: UUID
    node_key: str
    id: UUID
    tenant_id: str
    block_id: str
    handler: str
    effect: str
    state: str
    lane: str
    created_at: datetime
    path: tuple[int, ...] = ()
    round: int = 1
    due_at: datetime | None = None
    held_due_at: datetime | None = None
    pull: bool = False
    waits_for: str | None = None
    expires_at: datetime | None = None
    deadline_at: datetime | None = None
    epoch: int = 0
    claimed_by: UUID | None = None
    worker: str | None = None
    lease_until: datetime | None = None
    generation: int = 1
    dispatches: int = 0
    failures: int = 0
    crashes: int = 0
    deferrals: int = 0
    idempotency_key: str | None = None
    fingerprint: str | None = None
    request: bytes | None = None
    first_dispatched_at: datetime | None = None
    context_version: int | None = None
    limit_key: str | None = None
    queued_at: datetime | None = None
    attention: Any = None
    progress: Any = None
    outcome: str | None = None
    output: Any = None
    error: Any = None
    finished_at: datetime | None = None
    fence: str | None = None
    asking: str | None = None
    last_dispatched_at: datetime | None = None
    provider_ref: str | None = None
    money: Any = None

    @cached_property
    def key(self) -> NodeKey:
        """The node key, as a value."""
        return NodeKey(self.block_id, tuple(self.path), self.round)

    def copy(self) -> StepRow:
        """A working copy; dataclasses.replace takes ten times as long, and this is the hot path."""
        made = object.__new__(StepRow)
        made.__dict__.update(self.__dict__)
        return made


@dataclass(frozen=True)
class InstanceRow:
    """One run of a sequence, as it was read under its lock."""

    id: UUID
    tenant_id: str
    namespace: str
    sequence_id: UUID
    state: str
    snapshot: Any
    lane: str
    priority: str
    timezone: str
    created_at: datetime
    updated_at: datetime
    cancelling: bool = False
    paused_at: datetime | None = None
    paused_as: str | None = None  # the state that it shows while it is paused, if another
    attention: Any = None
    outcome: str | None = None
    error: Any = None
    context_version: int = 1
    metadata: Any = None
    idempotency_key: str | None = None
    request_sha256: bytes | None = None
    fork_id: UUID | None = None
    round: int = 1
    parent_instance_id: UUID | None = None
    parent_node_key: str | None = None
    depth: int = 0
    finished_at: datetime | None = None
    session_id: UUID | None = None
    dry_run: bool = False
    terms: Any = None  # what was asked for besides: a concurrency key, a budget
    executed: int | None = None  # steps that ended, counted where something depends on it

    def but(self, **changes: Any) -> InstanceRow:
        """The same row with these members changed (dataclasses.replace takes ten times as long)."""
        made = object.__new__(InstanceRow)
        made.__dict__.update(self.__dict__)
        made.__dict__.update(changes)
        return made


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who did what, when, to what, and why. ``body`` is small and holds no payload of a handler."""

    tenant_id: str
    actor: str
    action: str
    outcome: str
    instance_id: UUID | None = None
    node_key: str | None = None
    sequence_id: UUID | None = None
    reason: str | None = None
    request_id: str | None = None
    body: Any = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was observed of a call that did not simply succeed."""

    tenant_id: str
    instance_id: UUID
    node_key: str
    epoch: int
    kind: str
    verdict: str | None
    body: Any


@dataclass(frozen=True, slots=True)
class Doubt:
    """An attempt that was sent and whose end is not known, or, with ``resolved_by``, was not."""

    tenant_id: str
    instance_id: UUID
    node_key: str
    generation: int
    handler: str = ""
    provider: str | None = None
    effect: str = ""
    idempotency_key: str | None = None
    money: Any = None
    reason: str = ""
    resolved_by: str | None = None
    verdict: str | None = None


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that a person must look at: nothing is done about it by itself."""

    tenant_id: str
    instance_id: UUID
    node_key: str | None
    kind: str
    body: Any


@dataclass(frozen=True, slots=True)
class Moment:
    """Business time as the database tells it, and how fast it runs against real time."""

    at: datetime
    rate: float = 1.0


def with_outcome(
    output: Any,
    outcome: str | None,
    started_at: datetime | None = None,
    finished_at: datetime | None = None,
) -> Any:
    """``output`` as expressions see it: an object says what its ``outcome`` is, and when the step
    was entered and ended, unless it says so itself. So does one that left nothing behind: a payment
    must not look unpaid because its answer had no body.
    """
    if output is None and outcome is not None:
        output = {}
    if not isinstance(output, dict):
        return output
    more = {
        "outcome": outcome,
        "started_at": started_at and timestamp(started_at),
        "finished_at": finished_at and timestamp(finished_at),
    }
    return {name: value for name, value in more.items() if value is not None} | output
