"""What the API shows, as values: sequences, instances, outputs, events, limits, matters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orch8.client.reading import Answer


@dataclass(frozen=True, kw_only=True)
class Published(Answer):
    """A version of a sequence that is published now."""

    id: str
    name: str
    version: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Sequence(Answer):
    """A published version; ``raw`` is its definition."""

    id: str
    tenant_id: str
    namespace: str
    name: str
    version: int
    status: str
    deprecated: bool
    created_at: datetime
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Instance(Answer):
    """One run of a sequence."""

    id: str
    tenant_id: str
    namespace: str
    sequence_id: str
    state: str  # scheduled, running, waiting, paused, completed, failed, cancelled
    cancelling: bool
    attention: Mapping[str, Any] | None  # why a person is needed
    outcome: str | None  # the name that an `end` block gave
    error: Mapping[str, Any] | None
    next_fire_at: datetime | None
    priority: str
    lane: str
    timezone: str
    metadata: Any
    context: Mapping[str, Any]
    round: int
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    idempotency_key: str | None = None
    parent_instance_id: str | None = None

    @property
    def ended(self) -> bool:
        """Whether it completed, failed or was cancelled."""
        return self.finished_at is not None


@dataclass(frozen=True, kw_only=True)
class Started(Instance):
    """The instance that stands for a request."""

    deduplicated: bool  # it was there before


@dataclass(frozen=True, kw_only=True)
class Retried(Answer):
    """An instance that goes on."""

    id: str
    state: str
    round: int


@dataclass(frozen=True, kw_only=True)
class Output(Answer):
    """What a step came to."""

    id: str
    instance_id: str
    block_id: str
    node_key: str
    state: str
    outcome: str | None
    output: Any
    error: Mapping[str, Any] | None
    attempt: int
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class Node(Answer):
    """A block of an instance; steps alone that were entered have a handler."""

    block_id: str
    node_key: str
    block_type: str
    parent_id: str | None
    state: str
    cancelling: bool
    handler: str | None = None


@dataclass(frozen=True, kw_only=True)
class Entry(Answer):
    """Who did what, when, and why."""

    id: str
    instance_id: str
    at: datetime
    actor: str
    action: str
    outcome: str
    reason: str | None
    node_key: str | None
    request_id: str | None
    details: Any


@dataclass(frozen=True, kw_only=True)
class Settled(Answer):
    """What a step came to, as a line of a timeline."""

    block_id: str
    node_key: str
    attempt: int
    outcome: str | None
    completed_at: datetime
    output: Any = None


@dataclass(frozen=True, kw_only=True)
class Transition(Answer):
    """A change of an instance's state."""

    from_state: str | None
    to_state: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Timeline(Answer):
    """An instance's story: a page of what its steps came to, and what else happened."""

    instance: Instance
    state_transitions: tuple[Transition, ...]
    entries: tuple[Settled, ...]
    has_more: bool
    audit: tuple[Entry, ...]
    evidence: tuple[Any, ...]
    signals: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Sent(Answer):
    """A signal that an instance has now."""

    signal_id: str
    instance_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Signal(Answer):
    """A signal that an instance was sent, and what consumed it."""

    id: str
    name: str
    payload: Any
    actor: str | None
    received_at: datetime
    consumed_at: datetime | None
    consumed_by: str | None


@dataclass(frozen=True, kw_only=True)
class Reached(Answer):
    """Whom a signal by correlation found, and who has it."""

    matched: int
    signals: tuple[Sent, ...]


@dataclass(frozen=True, kw_only=True)
class Heard(Answer):
    """What became of an attempt that evidence was given about."""

    state: str
    instance_id: str | None
    node_key: str | None


@dataclass(frozen=True, kw_only=True)
class Ingested(Answer):
    """What became of an event that was told."""

    event_id: str
    duplicate: bool
    satisfied: bool  # the wait that has it has all that it wants
    matched_wait: str | None = None


@dataclass(frozen=True, kw_only=True)
class Event(Answer):
    """An event; in a list its payload is not shown."""

    id: str
    tenant_id: str
    event_name: str
    producer_event_id: str
    correlation_key: str
    payload: Any
    status: str
    received_at: datetime


@dataclass(frozen=True, kw_only=True)
class Limit(Answer):
    """A stated rate limit: an operator's, which wins, or one that a sequence states."""

    tenant_id: str
    key: str
    source: str | None
    max: int | None
    window_seconds: float | None
    max_in_flight: int | None
    effective: bool


@dataclass(frozen=True, kw_only=True)
class Matter(Answer):
    """Something that a person may have to look at: a doubt, a parked step, an incident, a decision
    that waits for a second person.
    """

    kind: str
    id: str | None
    since: datetime
    needs_person: bool
    reason: str
    tenant_id: str
    instance_id: str
    node_key: str | None
    handler: str | None
    provider: str | None
    details: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Approval(Answer):
    """A step that waits for a person's answer: the ``value`` of one of its ``choices``."""

    instance_id: str
    node_key: str
    tenant_id: str
    namespace: str
    sequence_name: str
    block_id: str
    prompt: str
    choices: tuple[Mapping[str, str], ...]
    waiting_since: datetime
    deadline: datetime | None
    escalation_handler: str | None
    allow_comment: bool
    metadata: Any


@dataclass(frozen=True, kw_only=True)
class Decided(Answer):
    """What became of a decision: carried out, or proposed to a second person (``proposed_by``)."""

    id: str
    state: str
    proposed_by: str | None = None
