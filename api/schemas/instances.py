"""What creating, listing and reading instances takes and gives."""

from __future__ import annotations

from typing import Any

from marshmallow import fields

from api.schemas.base import (
    Anything,
    Body,
    Choice,
    Flag,
    Id,
    Number,
    Object,
    Query,
    Shown,
    Switch,
    Text,
    Timestamp,
    Whole,
    Words,
    described,
)
from orch8.blocks.fields import NAME, Part, wrong
from orch8.runtime.resolve import Decision

STATES = ("scheduled", "running", "waiting", "paused", "completed", "failed", "cancelled")
PRIORITIES = ("Low", "Normal", "High", "Critical")
LANES = ("interactive", "renewal", "bulk", "backfill")
MAX_PAGE = 1000
LONGEST = 200
LARGEST_BUDGET = 2**63 - 1


class Filled(Text):
    """A text that says something."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if not text.strip():
            raise wrong(f"{NAME} must not be empty")
        return text


class BudgetSchema(Body):
    """What an instance may use up. Of these ``max_steps`` is enforced, the others are kept."""

    max_steps = described(Whole(), "When more have ended, the instance is paused", 1000)
    max_input_tokens = Whole(most=LARGEST_BUDGET)
    max_output_tokens = Whole(most=LARGEST_BUDGET)
    max_total_tokens = Whole(most=LARGEST_BUDGET)
    max_cost_microunits = Whole(most=LARGEST_BUDGET)
    max_wall_time_ms = Whole(most=LARGEST_BUDGET)
    max_external_calls = Whole(most=LARGEST_BUDGET)
    max_bytes_transferred = Whole(most=LARGEST_BUDGET)
    max_energy_millijoules = Whole(most=LARGEST_BUDGET)
    max_attention_units = Whole(most=LARGEST_BUDGET)


class CreationSchema(Body):
    """What both forms of creating an instance share."""

    context = described(
        Object(),
        "What the sequence works on; a sequence reads context.data",
        {"data": {"amount_cents": 9900}},
    )
    idempotency_key = described(
        Text(blank=False, longest=255),
        "One instance per key, for ever",
        "dunning-sub_8kT3mW-2026-04",
    )
    priority = Choice(*PRIORITIES)
    lane = described(Choice(*LANES), "Where its steps queue; left out: as the priority says")
    timezone = described(Text(blank=False, longest=LONGEST), "IANA name; left out: the sequence's")
    metadata = described(Anything(), "Kept as it is; lists can be filtered by it")
    next_fire_at = described(Timestamp(), "Nothing happens before")
    session_id = described(Id(), "The session that it belongs to")
    concurrency_key = described(
        Text(blank=False, longest=255),
        "Instances with the same key run at most max_concurrency at a time, the oldest first",
        "customer-8kT3mW",
    )
    max_concurrency = described(Whole(least=1), "Left out: no bound")
    budget = Part(BudgetSchema)
    dry_run = described(Flag(), "Nobody is called: steps put out what they would do")
    dry_run_auto_approve = described(Flag(), "With dry_run: its gates open by themselves")
    actor = described(Text(longest=LONGEST), "Who asks, for the audit log; X-Actor wins")


class StartSchema(CreationSchema):
    """An instance of the sequence in the path."""

    version = described(Whole(least=1), "Left out: the newest that is not deprecated")
    tenant_id = Text(blank=False, longest=LONGEST)
    namespace = Text(blank=False, longest=LONGEST)


class CreateSchema(CreationSchema):
    """An instance of one version of a sequence."""

    sequence_id = Id(required=True)
    tenant_id = Filled(required=True, longest=LONGEST)
    namespace = Filled(required=True, longest=LONGEST)


class StartQuery(Query):
    """How to start."""

    lenient = described(Switch(), "Unknown members are left out instead of refused")


class InstanceQuery(Query):
    """Which instances to list. ``metadata.<name>=<value>`` narrows by metadata."""

    tenant_id = Text()
    namespace = Text()
    sequence_id = Id()
    sequence = described(Text(), "A sequence's name")
    state = described(Words(*STATES), "One or more, separated by commas")
    idempotency_key = Text()
    cursor = described(Text(longest=200), "next_cursor of the page before")
    limit = Number(least=1)
    offset = Number(most=100_000)


class PageQuery(Query):
    """How much of a long list to give."""

    limit = Number(least=1)


class TreeQuery(Query):
    """Which trees to show."""

    flat = described(Switch(), "Also that of a sequence that is one list of steps")


class TimelineQuery(Query):
    """How much of a story to tell."""

    offset = Number(most=100_000)
    limit = Number(least=1)
    include_outputs = Switch()


class SequenceOfInstanceSchema(Shown):
    """The version that an instance runs."""

    id = fields.UUID(required=True)
    name = fields.String(required=True)
    version = fields.Integer(required=True)


class InstanceSchema(Shown):
    """One run of a sequence."""

    id = fields.UUID(required=True)
    tenant_id = fields.String(required=True)
    namespace = fields.String(required=True)
    sequence_id = fields.UUID(required=True)
    sequence = fields.Nested(SequenceOfInstanceSchema, required=True)
    state = fields.String(required=True, metadata={"enum": list(STATES)})
    cancelling = fields.Boolean(required=True)
    attention = fields.Dict(
        required=True, allow_none=True, metadata={"description": "Why a person is needed"}
    )
    outcome = fields.String(
        required=True, allow_none=True, metadata={"description": "The name an `end` block gave"}
    )
    error = fields.Dict(required=True, allow_none=True)
    next_fire_at = fields.AwareDateTime(required=True, allow_none=True)
    priority = fields.String(required=True, metadata={"enum": list(PRIORITIES)})
    lane = fields.String(required=True)
    timezone = fields.String(required=True)
    metadata = fields.Raw(required=True)
    context = fields.Dict(required=True)
    round = fields.Integer(
        required=True, metadata={"description": "Counts retries of the instance, from 1"}
    )
    idempotency_key = fields.String()
    parent_instance_id = fields.UUID()
    session_id = fields.UUID()
    concurrency_key = fields.String()
    max_concurrency = fields.Integer()
    budget = fields.Dict()
    created_at = fields.AwareDateTime(required=True)
    updated_at = fields.AwareDateTime(required=True)
    finished_at = fields.AwareDateTime(required=True, allow_none=True)


class StartedSchema(InstanceSchema):
    """The instance that stands for the request."""

    deduplicated = fields.Boolean(
        required=True, metadata={"description": "Whether it was there before"}
    )


class InstancePageSchema(Shown):
    """Some instances, the last changed first."""

    items = fields.List(fields.Nested(InstanceSchema), required=True)
    has_more = fields.Boolean(required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class OutputSchema(Shown):
    """What a step came to. It is kept, and the step never runs again in that round."""

    id = fields.UUID(required=True)
    instance_id = fields.UUID(required=True)
    block_id = fields.String(required=True)
    node_key = fields.String(required=True, allow_none=True)
    state = fields.String(required=True)
    outcome = fields.String(required=True, allow_none=True)
    output = fields.Raw(required=True)
    output_ref = fields.String(required=True, allow_none=True)
    output_size = fields.Integer(required=True)
    error = fields.Dict(required=True, allow_none=True)
    attempt = fields.Integer(required=True)
    created_at = fields.AwareDateTime(required=True)


class NodeSchema(Shown):
    """A node of the execution tree; steps alone that were entered have handler and what follows."""

    id = fields.String(required=True, metadata={"description": "The node key"})
    instance_id = fields.UUID(required=True)
    block_id = fields.String(required=True)
    node_key = fields.String(required=True)
    block_type = fields.String(required=True)
    parent_id = fields.String(required=True, allow_none=True)
    branch_index = fields.Integer(required=True, allow_none=True)
    state = fields.String(required=True)
    started_at = fields.AwareDateTime(required=True, allow_none=True)
    completed_at = fields.AwareDateTime(required=True, allow_none=True)
    step_id = fields.UUID(required=True, allow_none=True)
    cancelling = fields.Boolean(required=True)
    step_state = fields.String(metadata={"description": "The state in orch8's own words"})
    handler = fields.String()
    attempt = fields.Integer(metadata={"description": "Answered failures so far"})
    dispatches = fields.Integer()
    due_at = fields.AwareDateTime(allow_none=True)
    error = fields.Dict(allow_none=True)
    attention = fields.Dict(allow_none=True)


class AuditEntrySchema(Shown):
    """Who did what, when, and why."""

    id = fields.UUID(required=True)
    instance_id = fields.UUID(required=True)
    tenant_id = fields.String(required=True)
    at = fields.AwareDateTime(required=True)
    actor = fields.String(required=True)
    action = fields.String(required=True)
    outcome = fields.String(required=True)
    reason = fields.String(required=True, allow_none=True)
    node_key = fields.String(required=True, allow_none=True)
    request_id = fields.String(required=True, allow_none=True)
    event_type = fields.String(
        required=True,
        metadata={"description": "state_transition for a change of state, else as action"},
    )
    block_id = fields.String()
    from_state = fields.String()
    to_state = fields.String()
    details = fields.Raw(required=True)
    created_at = fields.AwareDateTime(required=True)


class TransitionSchema(Shown):
    """A change of an instance's state."""

    from_state = fields.String(required=True, allow_none=True)
    to_state = fields.String(required=True)
    at = fields.AwareDateTime(required=True)


class TimelineEntrySchema(Shown):
    """What a step came to."""

    block_id = fields.String(required=True)
    node_key = fields.String(required=True)
    attempt = fields.Integer(required=True)
    outcome = fields.String(required=True, allow_none=True)
    completed_at = fields.AwareDateTime(required=True)
    output = fields.Raw(metadata={"description": "Left out with include_outputs=false"})
    is_sentinel = fields.Boolean(
        required=True, metadata={"description": "Always false: what is in progress is not listed"}
    )


class TimelineSchema(Shown):
    """What happened to an instance: what its steps came to, who did what, evidence, signals."""

    instance = fields.Nested(InstanceSchema, required=True)
    state_transitions = fields.List(fields.Nested(TransitionSchema), required=True)
    entries = fields.List(fields.Nested(TimelineEntrySchema), required=True)
    offset = fields.Integer(required=True)
    limit = fields.Integer(required=True)
    has_more = fields.Boolean(
        required=True, metadata={"description": "Whether more steps were entered"}
    )
    audit = fields.List(fields.Nested(AuditEntrySchema), required=True)
    evidence = fields.List(fields.Dict(), required=True)
    signals = fields.List(fields.Dict(), required=True)


class LogLineSchema(Shown):
    """A line of what was said about a step, by orch8 or by the sequence's own ``log`` steps."""

    block_id = fields.String(required=True, allow_none=True)
    ts = fields.AwareDateTime(required=True)
    level = fields.String(required=True)
    message = fields.Raw(required=True)


class RetriedSchema(Shown):
    """The instance that goes on."""

    id = fields.UUID(required=True)
    state = fields.String(required=True)
    round = fields.Integer(required=True)


class ReasonSchema(Body):
    """Who and why, for the audit log."""

    actor = Text(longest=LONGEST)
    reason = Text(longest=1000)


class DecisionSchema(Body):
    """What became of a call that nobody else can tell of, and how that is known."""

    step = Text(required=True, longest=1000)
    decision = Choice(*Decision, required=True)
    output = Anything()
    provider_ref = Text(blank=False, longest=LONGEST)
    actor = Text(longest=LONGEST)
    reason = Text(required=True, longest=1000)
