"""What the routes of events take and give."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.base import Anything, Body, Choice, Many, Number, Query, Shown, Text, described
from orch8.blocks.fields import Part
from orch8.runtime.events import MOST
from orch8.storage.events import STATES

LONGEST = 255
MAX_TENANT = 128


class EventBody(Body):
    """What a producer tells."""

    tenant_id = Text(printable=True, longest=MAX_TENANT)
    event_name = described(
        Text(required=True, blank=False, longest=LONGEST), "What happened", "invoice.paid"
    )
    producer_event_id = described(
        Text(required=True, blank=False, longest=LONGEST),
        "The producer's own id; with tenant and name it makes the event one",
        "evt_1MtHbELkdIwHu7ix",
    )
    correlation_key = described(
        Text(required=True, blank=False, longest=LONGEST), "What it is about", "in_1MtHbELkdIwHu7ix"
    )
    payload = described(Anything(), "Any JSON")


class EventsBody(Body):
    """What a producer tells at once."""

    events = described(
        Many(Part(EventBody), required=True, least=1, most=MOST), "All are kept, or none"
    )


class EventsQuery(Query):
    """Which events to list."""

    tenant_id = Text(longest=MAX_TENANT)
    status = Choice(*STATES)
    limit = Number(least=1)


class IngestedSchema(Shown):
    """What became of an event that was told."""

    event_id = fields.UUID(required=True)
    duplicate = fields.Boolean(required=True)
    matched_wait = fields.UUID(metadata={"description": "The wait that has the event"})
    satisfied = fields.Boolean(
        required=True, metadata={"description": "Whether a wait for events has all that it wants"}
    )


class IngestedManySchema(Shown):
    """What became of each, in the order in which they were told."""

    outcomes = fields.List(fields.Nested(IngestedSchema), required=True)


class EventSchema(Shown):
    """An event."""

    id = fields.UUID(required=True)
    tenant_id = fields.String(required=True)
    event_name = fields.String(required=True)
    producer_event_id = fields.String(required=True)
    correlation_key = fields.String(required=True)
    payload = fields.Raw(
        required=True, allow_none=True, metadata={"description": "In a list: [REDACTED]"}
    )
    status = fields.String(required=True)
    consumed_by = fields.UUID()
    received_at = fields.AwareDateTime(required=True)
