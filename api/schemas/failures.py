"""What the routes of failed instances take and give."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.base import Choice, Flag, Id, Number, Query, Shown, Text, Whole, described
from api.schemas.bulk import ReasonedSchema
from orch8.runtime.failures import MOST, Mode


class FailureQuery(Query):
    """Which failed instances to list."""

    tenant_id = Text()
    namespace = Text()
    sequence_id = Id()
    offset = Number(most=100_000)
    limit = Number(least=1)


class GroupQuery(Query):
    """Whose failures to group."""

    tenant_id = Text()


class FailureGroupSchema(Shown):
    """Failed instances of one cause."""

    fingerprint = fields.String(required=True)
    count = fields.Integer(required=True)
    failure_class = fields.String(required=True, data_key="class")
    code = fields.String(required=True)
    status = fields.Integer(required=True, allow_none=True)
    reason = fields.String(
        required=True, allow_none=True, metadata={"description": "The error's own code"}
    )
    sequence_id = fields.UUID(required=True)
    sequence_name = fields.String(required=True)
    sequence_version = fields.Integer(required=True)
    block_id = fields.String(required=True, allow_none=True)
    handler = fields.String(required=True, allow_none=True)
    message = fields.String(required=True, metadata={"description": "Of the newest failure"})
    first_at = fields.AwareDateTime(required=True)
    last_at = fields.AwareDateTime(required=True)
    sample_instance_ids = fields.List(fields.UUID(), required=True)


class GroupRetrySchema(ReasonedSchema):
    """How much of a group to retry: a sample first, then, when it completed, the others."""

    mode = Choice(*Mode, required=True)
    sample_verified_instance_id = described(
        Id(), "An instance that failed like these and has completed since; for bulk"
    )
    force = described(Flag(), "Retry in bulk without a verified sample")
    limit = described(Whole(least=1, most=MOST), "How many at most; for bulk")


class GroupRetriedSchema(Shown):
    """What became of a group."""

    fingerprint = fields.String(required=True)
    mode = fields.String(required=True)
    retried = fields.List(fields.UUID(), required=True)
    skipped = fields.Integer(required=True)
