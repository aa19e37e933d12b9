"""What the routes of checkpoints take and give."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.base import Anything, Body, Shown, Whole, described


class CheckpointBody(Body):
    """A new checkpoint."""

    checkpoint_data = described(Anything(required=True), "Any JSON", {"rows_done": 1200})


class PruneBody(Body):
    """How many checkpoints are to be left."""

    keep = described(Whole(required=True), "The newest")


class SavedSchema(Shown):
    """A checkpoint that was kept."""

    id = fields.UUID(required=True)


class PrunedSchema(Shown):
    """How many are gone."""

    count = fields.Integer(required=True)


class CheckpointSchema(Shown):
    """What was noted about an instance."""

    id = fields.UUID(required=True)
    instance_id = fields.UUID(required=True)
    checkpoint_data = fields.Raw(required=True, allow_none=True)
    created_at = fields.AwareDateTime(required=True)
