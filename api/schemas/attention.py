"""What the routes of attention, decisions, incidents, fences and policies take and give."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.base import (
    Anything,
    Body,
    Choice,
    Number,
    Object,
    Query,
    Shown,
    Text,
    Whole,
    Words,
    described,
)
from orch8.blocks.fields import Span
from orch8.runtime.resolve import Decision
from orch8.storage.attention import KINDS, STATES

LONGEST = 200
MAX_PAGE = 500


class AttentionQuery(Query):
    """Which matters to list."""

    state = described(Choice(*STATES), "open (the default): the oldest first; resolved: the latest")
    kind = described(Words(*KINDS), "One or more, separated by commas")
    provider = Text(longest=LONGEST)
    handler = Text(longest=LONGEST)
    older_than = described(Span(fixed=True), "Open, or ended, for at least so long", "10m")
    limit = Number(least=1)
    cursor = described(Text(longest=2000), "next_cursor of the page before")


class FencesQuery(Query):
    """Which fences to list."""

    limit = Number(least=1)
    after = described(Text(longest=1000), "The name of the last fence of the page before")


class StepInDoubtSchema(Shown):
    """A step as it stands."""

    state = fields.String(required=True)
    outcome = fields.String(required=True, allow_none=True)
    attention = fields.Dict(required=True, allow_none=True)
    waits_for = fields.String(required=True, allow_none=True)
    asking = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "The handler that is asked what became of the attempt"},
    )
    next_at = fields.AwareDateTime(required=True, allow_none=True)
    epoch = fields.Integer(required=True)
    generation = fields.Integer(required=True)
    dispatches = fields.Integer(required=True)
    failures = fields.Integer(required=True)
    crashes = fields.Integer(required=True)
    idempotency_key = fields.String(required=True, allow_none=True)
    provider_ref = fields.String(required=True, allow_none=True)
    money = fields.Raw(required=True)
    fence = fields.String(required=True, allow_none=True)
    first_dispatched_at = fields.AwareDateTime(required=True, allow_none=True)
    last_dispatched_at = fields.AwareDateTime(required=True, allow_none=True)
    error = fields.Raw(required=True)


class NextSchema(Shown):
    """What the engine does by itself."""

    does = fields.String(required=True)
    at = fields.AwareDateTime(required=True, allow_none=True)


class MatterSchema(Shown):
    """Something that a person may have to look at."""

    kind = fields.String(required=True, metadata={"enum": list(KINDS)})
    id = fields.UUID(
        required=True,
        allow_none=True,
        metadata={"description": "Of an incident or a decision; an attempt is its step"},
    )
    since = fields.AwareDateTime(required=True)
    needs_person = fields.Boolean(
        required=True, metadata={"description": "Nothing happens before somebody decides"}
    )
    reason = fields.String(required=True)
    tenant_id = fields.String(required=True)
    instance_id = fields.UUID(required=True)
    node_key = fields.String(required=True, allow_none=True)
    handler = fields.String(required=True, allow_none=True)
    provider = fields.String(required=True, allow_none=True)
    details = fields.Dict(required=True)
    step = fields.Nested(StepInDoubtSchema, required=True, allow_none=True)
    next = fields.Nested(NextSchema, required=True, allow_none=True)
    closed_at = fields.AwareDateTime(required=True, allow_none=True)
    closed_by = fields.String(required=True, allow_none=True)


class MatterPageSchema(Shown):
    """Some matters."""

    items = fields.List(fields.Nested(MatterSchema), required=True)
    has_more = fields.Boolean(required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class IncidentSchema(Shown):
    """Something that contradicts what is recorded, or passed a promise."""

    id = fields.UUID(required=True)
    tenant_id = fields.String()
    instance_id = fields.UUID()
    node_key = fields.String(allow_none=True)
    kind = fields.String(required=True)
    body = fields.Raw(required=True)
    opened_at = fields.AwareDateTime(required=True)
    closed_at = fields.AwareDateTime(required=True, allow_none=True)
    closed_by = fields.String(required=True, allow_none=True)
    reason = fields.String(required=True, allow_none=True)


class ProposalSchema(Shown):
    """A decision that one person took and another has to confirm, or what became of it."""

    id = fields.UUID(required=True)
    tenant_id = fields.String(required=True)
    instance_id = fields.UUID(required=True)
    node_key = fields.String(required=True)
    epoch = fields.Integer(required=True)
    decision = fields.String(required=True, metadata={"enum": [each.value for each in Decision]})
    output = fields.Raw(required=True)
    provider_ref = fields.String(required=True, allow_none=True)
    reason = fields.String(required=True)
    proposed_by = fields.String(required=True)
    proposed_at = fields.AwareDateTime(required=True)
    state = fields.String(
        required=True, metadata={"enum": ["open", "carried_out", "withdrawn", "stale"]}
    )
    decided_by = fields.String(required=True, allow_none=True)
    decided_at = fields.AwareDateTime(required=True, allow_none=True)
    note = fields.String(required=True, allow_none=True)


class HolderSchema(Shown):
    """The step that has a fence."""

    instance_id = fields.UUID(required=True)
    node_key = fields.String(required=True)
    since = fields.AwareDateTime(required=True)
    settled = fields.Boolean(
        required=True, metadata={"description": "It has ended, but its customer still has to act"}
    )


class WaiterSchema(Shown):
    """A step that waits for a fence."""

    instance_id = fields.UUID(required=True)
    node_key = fields.String(required=True)
    created_at = fields.AwareDateTime(required=True)


class FenceSchema(Shown):
    """Who may move money behind a fence, and who waits."""

    tenant_id = fields.String(required=True)
    fence = fields.String(required=True)
    holder = fields.Nested(HolderSchema, required=True, allow_none=True)
    waiting = fields.List(fields.Nested(WaiterSchema), required=True)


class HeldSchema(HolderSchema):
    """A fence that is taken."""

    tenant_id = fields.String(required=True)
    fence = fields.String(required=True)
    waiting = fields.Integer(required=True, metadata={"description": "How many steps wait"})


class FencePageSchema(Shown):
    """The fences that are taken, by name."""

    items = fields.List(fields.Nested(HeldSchema), required=True)
    has_more = fields.Boolean(required=True)


class AttemptSchema(Shown):
    """One attempt with everything that helps to decide about it."""

    tenant_id = fields.String(required=True)
    instance_id = fields.UUID(required=True)
    node_key = fields.String(required=True)
    block_id = fields.String(required=True)
    handler = fields.String(required=True)
    effect = fields.String(required=True)
    provider = fields.String(required=True, allow_none=True)
    sequence = fields.Dict(required=True, allow_none=True)
    instance_state = fields.String(required=True)
    cancelling = fields.Boolean(required=True)
    needs_person = fields.Boolean(required=True)
    epoch = fields.Integer(
        required=True, metadata={"description": "Send it with the decision: refused if it changed"}
    )
    step = fields.Nested(StepInDoubtSchema, required=True)
    next = fields.Nested(NextSchema, required=True)
    policy = fields.Dict(required=True, allow_none=True)
    request = fields.Dict(
        required=True, allow_none=True, metadata={"description": "What was sent, without secrets"}
    )
    doubts = fields.List(fields.Dict(), required=True)
    evidence = fields.List(fields.Dict(), required=True)
    signals = fields.List(fields.Dict(), required=True)
    incidents = fields.List(fields.Nested(IncidentSchema), required=True)
    decisions = fields.List(fields.Nested(ProposalSchema), required=True)
    fence = fields.Nested(FenceSchema, required=True, allow_none=True)
    history = fields.List(fields.Dict(), required=True)
    two_people = fields.Boolean(required=True)
    decide = fields.Dict(
        required=True,
        metadata={"description": "Each decision with why it cannot be taken; null: it can"},
    )


class DecideSchema(Body):
    """What somebody found out about an attempt, and wants done."""

    decision = Choice(*Decision, required=True)
    output = described(Anything(), "With happened and declined: what the step came to")
    provider_ref = described(
        Text(blank=False, longest=LONGEST), "The provider's name for it", "ch_1"
    )
    reason = described(Text(required=True, blank=False, longest=1000), "How you know")
    epoch = described(Whole(), "The attempt's epoch when you looked at it; refused if it changed")


class BecauseSchema(Body):
    """Why."""

    reason = Text(required=True, blank=False, longest=1000)


class PolicyBody(Body):
    """From which amounts on a decision needs two people."""

    two_person_above = described(
        Object(required=True), "By currency, in minor units", {"USD": 100_000}
    )


class PolicySchema(Shown):
    """From which amounts on a decision needs two people."""

    tenant_id = fields.String(required=True)
    two_person_above = fields.Dict(required=True)
    updated_at = fields.AwareDateTime(required=True, allow_none=True)
    updated_by = fields.String(required=True, allow_none=True)
