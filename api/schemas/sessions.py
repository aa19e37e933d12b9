"""What the routes of sessions take and give."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.base import Anything, Body, Choice, Shown, Text, Timestamp, described
from api.schemas.cron import MAX_TENANT, Tenant
from orch8.storage.sessions import STATES

LONGEST_KEY = 512


class SessionBody(Body):
    """A new session."""

    tenant_id = Tenant(required=True, printable=True, longest=MAX_TENANT)
    session_key = described(
        Text(required=True, blank=False, longest=LONGEST_KEY), "The caller's own", "sub_8kT3mW"
    )
    data = described(Anything(), "Any JSON")
    expires_at = Timestamp()


class SessionDataBody(Body):
    """What a session is to keep."""

    data = described(Anything(required=True), "Any JSON, instead of what was there")


class SessionStateBody(Body):
    """In which state a session is to be."""

    state = Choice(*STATES, required=True)


class SessionSchema(Shown):
    """A session."""

    id = fields.UUID(required=True)
    tenant_id = fields.String(required=True)
    session_key = fields.String(required=True)
    data = fields.Raw(required=True, allow_none=True)
    state = fields.String(required=True, metadata={"enum": list(STATES)})
    created_at = fields.AwareDateTime(required=True)
    updated_at = fields.AwareDateTime(required=True)
    expires_at = fields.AwareDateTime()
