"""What the routes of circuit breakers give."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.base import Query, Shown, Text
from orch8.storage.breakers import STATES


class BreakersQuery(Query):
    """Whose breakers are listed."""

    tenant_id = Text(longest=128)


class BreakerSchema(Shown):
    """The circuit breaker of a handler."""

    tenant_id = fields.String(required=True)
    handler = fields.String(required=True)
    state = fields.String(required=True, metadata={"enum": list(STATES)})
    failure_count = fields.Integer(required=True, metadata={"description": "Failures in a row"})
    failure_threshold = fields.Integer(
        required=True, metadata={"description": "So many of them open it; 0: none do"}
    )
    cooldown_secs = fields.Float(
        required=True, metadata={"description": "Then one call finds out whether it works again"}
    )
    opened_at = fields.AwareDateTime(metadata={"description": "Left out while it is closed"})
    retry_at = fields.AwareDateTime(
        metadata={"description": "When the next call may find out; left out while it is closed"}
    )
