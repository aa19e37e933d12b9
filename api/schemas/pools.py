"""What the routes of pools take and give."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from marshmallow import fields

from api.schemas.base import Body, Choice, Flag, Query, Shown, Text, Whole, described
from api.schemas.cron import MAX_TENANT
from orch8.blocks.fields import wrong
from orch8.storage.pools import STRATEGIES

LONGEST = 255


class Day(Text):
    """A date; of a timestamp its date."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        text = super()._deserialize(value, attr, data, **kwargs)
        try:
            return datetime.fromisoformat(text).date()
        except ValueError:
            raise wrong("{name} must be a date", "such as 2026-04-01", shape=True) from None


class PoolBody(Body):
    """A new pool."""

    tenant_id = described(Text(longest=MAX_TENANT), "Left out or blank: default")
    name = Text(required=True, longest=LONGEST)
    strategy = Choice(*STRATEGIES)


class PoolsQuery(Query):
    """Whose pools to list."""

    tenant_id = Text()


class ResourcePatch(Body):
    """What is to be different of a resource; the rest stays."""

    resource_key = Text(blank=False, longest=LONGEST)
    name = Text(blank=False, longest=LONGEST)
    weight = Whole(least=1)
    enabled = Flag()
    daily_cap = Whole()
    warmup_start = Day()
    warmup_days = Whole()
    warmup_start_cap = Whole()


class ResourceBody(ResourcePatch):
    """A new resource of a pool."""

    class Meta(ResourcePatch.Meta):  # noqa: D106 - marshmallow's place for options
        exclude = ("enabled",)

    resource_key = described(
        Text(required=True, blank=False, longest=LONGEST), "The caller's own", "sender-7"
    )
    name = Text(required=True, blank=False, longest=LONGEST)


class PoolSchema(Shown):
    """A pool."""

    id = fields.UUID(required=True)
    tenant_id = fields.String(required=True)
    name = fields.String(required=True)
    strategy = fields.String(required=True, metadata={"enum": list(STRATEGIES)})
    round_robin_index = fields.Integer(required=True)
    created_at = fields.AwareDateTime(required=True)
    updated_at = fields.AwareDateTime(required=True)


class ResourceSchema(Shown):
    """A resource of a pool."""

    id = fields.UUID(required=True)
    pool_id = fields.UUID(required=True)
    resource_key = fields.String(required=True)
    name = fields.String(required=True)
    weight = fields.Integer(required=True)
    enabled = fields.Boolean(required=True)
    daily_cap = fields.Integer(required=True)
    daily_usage = fields.Integer(required=True)
    daily_usage_date = fields.Date(required=True, allow_none=True)
    warmup_start = fields.Date(required=True, allow_none=True)
    warmup_days = fields.Integer(required=True)
    warmup_start_cap = fields.Integer(required=True)
    created_at = fields.AwareDateTime(required=True)
