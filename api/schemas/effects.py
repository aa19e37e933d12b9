"""What the routes of effects take and give."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.base import Anything, Body, Choice, Query, Shown, Text, described
from orch8.runtime.decisions import MAX_REASON
from orch8.runtime.effects import KINDS, WORKER, State

STATES = tuple(State)


class EffectsQuery(Query):
    """Whose instance it is."""

    tenant_id = Text(longest=128)


class ResolveBody(Body):
    """What became of an effect that was in doubt."""

    tenant_id = described(Text(blank=False, longest=128), "Whose effect it is")
    state = described(
        Choice(*STATES, required=True),
        "committed or verified: it happened; abandoned: it surely did not, and the step fails",
    )
    provider_receipt_id = described(
        Text(blank=False, longest=255), "The provider's own id of it", "ch_3MmlLrLkdIwHu7ix"
    )
    output = described(Anything(), "Of one that happened: the step's output")
    reason = described(
        Text(blank=False, longest=MAX_REASON), "How you know; it stands in the audit log"
    )


class EffectSchema(Shown):
    """The receipt of one attempt."""

    id = fields.UUID(required=True)
    tenant_id = fields.String(required=True)
    continuity_id = fields.UUID(required=True, metadata={"description": "The instance"})
    epoch = fields.Integer(required=True)
    instance_id = fields.UUID(required=True)
    block_id = fields.String(required=True)
    node_key = fields.String(required=True)
    handler = fields.String(required=True)
    kind = fields.String(required=True, metadata={"enum": sorted({*KINDS.values(), WORKER})})
    state = fields.String(required=True, metadata={"enum": list(STATES)})
    destination_fingerprint = fields.String(required=True)
    idempotency_key = fields.String()
    request_sha256 = fields.String(required=True, allow_none=True)
    provider_receipt_id = fields.String()
    attempt = fields.Integer(required=True, metadata={"description": "From 0"})
    created_at = fields.AwareDateTime(required=True)
    updated_at = fields.AwareDateTime(required=True)
