"""What the routes of credentials take and give."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.base import (
    Body,
    Choice,
    Flag,
    Number,
    Query,
    Shown,
    Text,
    Timestamp,
    described,
)
from orch8.runtime.vault import KINDS, MAX_VALUE

MAX_TENANT = 128
MAX_NAME = 200
MAX_TEXT = 2000
MAX_REASON = 1000
MAX_LISTED = 1000
_LONGEST = 4 * MAX_VALUE  # beyond MAX_VALUE the answer is 413, which is for the runtime to say


class _Members(Body):
    """What a credential holds, all of it optional."""

    name = described(Text(blank=False, printable=True, longest=MAX_NAME), "What people call it")
    kind = described(Choice(*KINDS), "What kind of secret it is", "api_key")
    value = described(
        Text(blank=False, longest=_LONGEST),
        "The secret: a text, or an object written as JSON, of which a reference can name a field",
    )
    expires_at = described(Timestamp(), "Until when the secret is good")
    refresh_url = described(Text(blank=False), "Where an oauth2 token is renewed; a public address")
    refresh_token = described(Text(blank=False, longest=_LONGEST), "What it is renewed with")
    description = described(Text(longest=MAX_TEXT), "What it is for")
    reason = described(Text(longest=MAX_REASON), "Why, for the audit log")


class CredentialPatch(_Members):
    """What is to be different."""

    enabled = described(Flag(), "false: steps that refer to it fail")


class CredentialBody(_Members):
    """A new credential."""

    id = described(Text(required=True), "What references name; unique among all tenants", "stripe")
    tenant_id = described(Text(printable=True, longest=MAX_TENANT), "Whose it is; default if blank")
    name = described(
        Text(required=True, blank=False, printable=True, longest=MAX_NAME), "What people call it"
    )
    kind = described(Choice(*KINDS), "What kind of secret it is; api_key if left out", "api_key")
    value = described(
        Text(required=True, blank=False, longest=_LONGEST),
        "The secret: a text, or an object written as JSON, of which a reference can name a field",
    )


class CredentialsQuery(Query):
    """Whose credentials, and how many."""

    tenant_id = described(Text(longest=MAX_TENANT), "The tenant; without one all that may be seen")
    limit = described(Number(least=1, most=MAX_LISTED), "How many at most; 100 if left out")


class CredentialSchema(Shown):
    """A credential, without anything secret."""

    id = fields.String(required=True)
    tenant_id = fields.String(required=True)
    name = fields.String(required=True)
    kind = fields.String(required=True)
    enabled = fields.Boolean(required=True)
    has_refresh_token = fields.Boolean(required=True)
    expires_at = fields.AwareDateTime()
    refresh_url = fields.String()
    description = fields.String()
    created_at = fields.AwareDateTime(required=True)
    updated_at = fields.AwareDateTime(required=True)
