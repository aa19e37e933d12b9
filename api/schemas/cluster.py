"""What the routes of nodes take and give."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.base import Body, Shown, Text, described
from orch8.runtime.cluster import ACTIVE, DRAINING, STOPPED

MAX_REASON = 1000


class DrainBody(Body):
    """Why a process is taken out of service."""

    reason = described(Text(longest=MAX_REASON), "Why, for the audit log")


class NodeProcessSchema(Shown):
    """A process of this installation."""

    id = fields.UUID(required=True)
    name = fields.String(required=True)
    role = fields.String(required=True, metadata={"enum": ["worker", "api"]})
    status = fields.String(required=True, metadata={"enum": [ACTIVE, DRAINING, STOPPED]})
    registered_at = fields.AwareDateTime(required=True)
    last_heartbeat_at = fields.AwareDateTime(required=True)
    drain = fields.Boolean(required=True, metadata={"description": "Whether somebody asked for it"})
    drain_started_at = fields.AwareDateTime()
    stopped_at = fields.AwareDateTime()
    capabilities_withdrawn = fields.Boolean(
        required=True, metadata={"description": "Whether it claims nothing and holds nothing"}
    )
    lanes = fields.List(fields.String(), required=True)
    calls = fields.Integer(
        required=True, metadata={"description": "In flight, as of the last heartbeat"}
    )


class DrainedSchema(Shown):
    """What was asked of which process."""

    id = fields.String(required=True)
    drain = fields.Boolean(
        required=True, metadata={"description": "False if there is no such process"}
    )
