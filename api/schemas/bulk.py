"""What the routes take and give that create or change many instances, or set one's state."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.base import (
    Anything,
    Body,
    Choice,
    Flag,
    Id,
    Many,
    Object,
    Shown,
    Text,
    Timestamp,
    Whole,
    described,
)
from api.schemas.instances import LONGEST, STATES, CreateSchema
from orch8.blocks.fields import LARGEST, Part
from orch8.runtime.bulk import Action
from orch8.runtime.start_many import OnDuplicate


class BatchSchema(Body):
    """Many instances, all of them or none."""

    instances = Many(Part(CreateSchema), required=True)
    on_duplicate = described(
        Choice(*OnDuplicate),
        "skip: those whose key was used before are left out, so that a batch can be sent again",
    )


class BatchHeadSchema(Body):
    """What a batch says besides its instances."""

    on_duplicate = Choice(*OnDuplicate)


class CountSchema(Shown):
    """How many instances it was."""

    count = fields.Integer(required=True)


class CreatedSchema(CountSchema):
    """How many instances were created, and how many were there before."""

    deduplicated = fields.Integer()


class ChangedSchema(CountSchema):
    """How many instances were changed."""

    skipped = fields.Integer(required=True)
    has_more = fields.Boolean(
        required=True,
        metadata={"description": "More match than one request changes: send it again"},
    )


class FilterSchema(Body):
    """Which instances are meant; what is left out does not narrow it."""

    tenant_id = Text(longest=LONGEST)
    namespace = Text(longest=LONGEST)
    sequence_id = Id()
    states = Many(Choice(*STATES), most=len(STATES))
    metadata = described(Object(), "Members that their metadata has, with these values")


class ReasonedSchema(Body):
    """Who and why, for the audit log."""

    actor = described(Text(longest=LONGEST), "Who asks, for the audit log; X-Actor wins")
    reason = Text(longest=1000)


class StateSchema(ReasonedSchema):
    """The state that an instance is to have."""

    state = Choice(*STATES, required=True)
    next_fire_at = described(Timestamp(), "When it goes on; left out: at once")


class ContextSchema(ReasonedSchema):
    """The context that an instance is to have in place of its own."""

    context = Object(required=True)


class BulkStateSchema(ReasonedSchema):
    """The state that many instances are to have."""

    filter = Part(FilterSchema, required=True)
    state = Choice(*STATES, required=True)


class BulkRescheduleSchema(ReasonedSchema):
    """By how much later, or sooner, many instances go on."""

    filter = Part(FilterSchema, required=True)
    offset_secs = described(Whole(least=-LARGEST, required=True), "Seconds; negative: sooner")


class BatchActionSchema(ReasonedSchema):
    """What is to be done with many instances."""

    filter = Part(FilterSchema, required=True)
    action = Choice(*Action, required=True)
    signal_type = described(Text(longest=255), "The name of the signal, with the action signal")
    payload = Anything()
    dry_run = described(Flag(), "Only count them")
    limit = described(Whole(least=-LARGEST), "How many at most: 1 to 10000; left out: 1000")


class BatchActedSchema(Shown):
    """What a batch action came to."""

    matched = fields.Integer(required=True)
    applied = fields.Integer(required=True)
    skipped = fields.Integer(required=True)
    failed = fields.Integer(required=True)
    dry_run = fields.Boolean(required=True)
    has_more = fields.Boolean(required=True)
    errors = fields.List(
        fields.Dict(), required=True, metadata={"description": "The first failures, by instance"}
    )
