"""What the routes of schedules take and give."""

from __future__ import annotations

from typing import Any

from marshmallow import fields

from api.schemas.base import Body, Choice, Flag, Id, Number, Object, Query, Shown, Text, described
from orch8.blocks.fields import wrong
from orch8.engine.cron import LONGEST as LONGEST_CRON
from orch8.runtime.schedules import Overlap

LONGEST = 255
MAX_TENANT = 128
MAX_REASON = 1000


class Tenant(Text):
    """A tenant that has to be named."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if not text.strip():
            raise wrong("tenant_id cannot be empty", "name the tenant", shape=True)
        return text


_CRON = "Fields, with a blank between: [second] minute hour day month weekday [year]. \
Day and weekday must both hold; weekdays are SUN to SAT, or 1 (Sunday) to 7 (Saturday)"
_OVERLAP = (
    "While an earlier run is open: start beside it, pass over, wait for its end, or cancel it"
)


class CronChangeBody(Body):
    """What is to be different; the rest stays."""

    cron_expr = described(Text(blank=False, longest=LONGEST_CRON), _CRON, "0 9 * * MON-FRI")
    timezone = described(Text(longest=LONGEST), "In which it is read; UTC", "Europe/Vienna")
    enabled = described(Flag(), "Whether it starts anything")
    metadata = described(Object(), "Of every instance; cron_schedule_id is added")
    overlap_policy = described(Choice(*Overlap), _OVERLAP)
    reason = described(Text(longest=MAX_REASON), "Why, for the audit log")


class CronBody(CronChangeBody):
    """When which version of a sequence is started."""

    tenant_id = Tenant(required=True, printable=True, longest=MAX_TENANT)
    namespace = Text(required=True, blank=False, longest=LONGEST)
    sequence_id = Id(required=True)
    cron_expr = described(
        Text(required=True, blank=False, longest=LONGEST_CRON), _CRON, "0 9 * * MON-FRI"
    )


class CronQuery(Query):
    """Which schedules to list."""

    tenant_id = Text(longest=MAX_TENANT)
    limit = Number(least=1)


class FiresQuery(Query):
    """How many times to tell."""

    n = described(Number(least=1), "At most 50; 5 if left out")


class CronSchema(Shown):
    """A schedule."""

    id = fields.UUID(required=True)
    tenant_id = fields.String(required=True)
    namespace = fields.String(required=True)
    sequence_id = fields.UUID(required=True)
    cron_expr = fields.String(required=True)
    timezone = fields.String(required=True)
    enabled = fields.Boolean(required=True)
    metadata = fields.Raw(required=True, allow_none=True)
    overlap_policy = fields.String(required=True)
    skipped_fires = fields.Integer(required=True)
    last_skipped_at = fields.AwareDateTime(required=True, allow_none=True)
    last_triggered_at = fields.AwareDateTime(required=True, allow_none=True)
    next_fire_at = fields.AwareDateTime(
        required=True, allow_none=True, metadata={"description": "null: it starts nothing any more"}
    )
    created_at = fields.AwareDateTime(required=True)
    updated_at = fields.AwareDateTime(required=True)


class FiresSchema(Shown):
    """The next times of a schedule."""

    timezone = fields.String(required=True)
    fires = fields.List(fields.AwareDateTime(), required=True)
