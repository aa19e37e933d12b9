"""What the routes of API keys take and give."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.base import (
    Body,
    Choice,
    Many,
    Query,
    Shown,
    Text,
    Timestamp,
    Whole,
    described,
)
from orch8.runtime.apikeys import CAPABILITIES

MAX_TENANT = 128
MAX_NAME = 200
MAX_REASON = 1000
LONGEST_OVERLAP = 30 * 24 * 3600  # seconds


class KeyBody(Body):
    """Whose key, and what it is for."""

    tenant_id = described(
        Text(required=True, blank=False, printable=True, longest=MAX_TENANT),
        "The tenant that the key is bound to",
    )
    name = described(Text(printable=True, longest=MAX_NAME), "Which of its keys", "billing, prod")
    capabilities = described(
        Many(Choice(*CAPABILITIES), least=1, most=len(CAPABILITIES)),
        "What the key is for, any of them; operator (the default) is for everything but keys",
    )
    expires_at = described(Timestamp(), "From then on the key opens nothing")
    reason = described(Text(longest=MAX_REASON), "Why, for the audit log")


class RotateBody(Body):
    """How long the old key may still be used."""

    overlap_secs = described(
        Whole(most=LONGEST_OVERLAP), "Seconds for which both keys open; 0, the default, is none"
    )
    reason = described(Text(longest=MAX_REASON), "Why, for the audit log")


class KeysQuery(Query):
    """Whose keys."""

    tenant_id = described(Text(required=True, longest=MAX_TENANT), "The tenant")


class BecauseQuery(Query):
    """Why."""

    reason = described(Text(longest=MAX_REASON), "Why, for the audit log")


class _AnyKey(Shown):
    id = fields.String(required=True)
    tenant_id = fields.String(required=True)
    name = fields.String(required=True)
    capabilities = fields.List(fields.String(), required=True)
    created_at = fields.AwareDateTime(required=True)
    expires_at = fields.AwareDateTime(required=True, allow_none=True)


class KeySchema(_AnyKey):
    """An API key, without its secret."""

    last_used_at = fields.AwareDateTime(
        required=True, allow_none=True, metadata={"description": "To the minute"}
    )
    revoked = fields.Boolean(required=True)


class IssuedKeySchema(_AnyKey):
    """A new API key."""

    secret = fields.String(
        required=True, metadata={"description": "For x-api-key; it is shown here and never again"}
    )
