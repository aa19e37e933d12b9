"""What the routes of routing rules, queues, commands and version pins take and give."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.base import Anything, Body, Choice, Flag, Query, Shown, Text, Whole, described
from api.schemas.workers import LONGEST
from orch8.storage.commands import COMMANDS
from orch8.storage.routing import MODES

MAX_TENANT = 128
LONGEST_SECRET = 4096
LONGEST_URL = 8192
MOST_PRIORITY = 2**31 - 1


class OfTenantQuery(Query):
    """Whose things to list."""

    tenant_id = Text(longest=MAX_TENANT)


class RoutingRuleBody(Body):
    """Where tasks of a handler are to be offered."""

    tenant_id = Text(printable=True, longest=MAX_TENANT)
    handler_name = described(Text(required=True, blank=False, longest=LONGEST), "Exactly", "charge")
    match_queue = described(
        Text(blank=False, longest=LONGEST), "Only tasks of this queue; left out: all"
    )
    queue_override = Text(required=True, blank=False, longest=LONGEST)
    priority = described(
        Whole(least=-MOST_PRIORITY, most=MOST_PRIORITY),
        "The greatest is asked first; 0 if left out",
    )
    enabled = Flag()


class RoutingRuleSchema(Shown):
    """A routing rule."""

    id = fields.UUID(required=True)
    tenant_id = fields.String(required=True)
    handler_name = fields.String(required=True)
    match_queue = fields.String(required=True, allow_none=True)
    queue_override = fields.String(required=True)
    priority = fields.Integer(required=True)
    enabled = fields.Boolean(required=True)
    created_at = fields.AwareDateTime(required=True)


class TaskQueueBody(Body):
    """Whether somebody is told of the tasks in a queue."""

    tenant_id = Text(printable=True, longest=MAX_TENANT)
    queue_name = Text(required=True, blank=False, longest=LONGEST)
    mode = described(
        Choice(*MODES, required=True), "push: push_url is told of each task; it is polled for still"
    )
    push_url = Text(blank=False, longest=LONGEST_URL)
    secret = described(Text(blank=False, longest=LONGEST_SECRET), "Signs what is told; never shown")


class TaskQueueSchema(Shown):
    """What is said about a queue."""

    tenant_id = fields.String(required=True)
    queue_name = fields.String(required=True)
    mode = fields.String(required=True, metadata={"enum": list(MODES)})
    push_url = fields.String(required=True, allow_none=True)
    has_secret = fields.Boolean(required=True)
    created_at = fields.AwareDateTime(required=True)
    updated_at = fields.AwareDateTime(required=True)


class WorkerCommandBody(Body):
    """What a worker is told."""

    worker_id = Text(required=True, blank=False, longest=LONGEST)
    command = described(
        Choice(*COMMANDS, required=True), "orch8.client's workers obey drain and ping"
    )
    payload = Anything()


class WorkerCommandSchema(Shown):
    """A command that its worker has not deleted yet."""

    id = fields.UUID(required=True)
    worker_id = fields.String(required=True)
    command = fields.String(required=True, metadata={"enum": list(COMMANDS)})
    payload = fields.Raw(required=True, allow_none=True)
    created_at = fields.AwareDateTime(required=True)


class VersionPinBody(Body):
    """Which version a handler's workers must have."""

    tenant_id = Text(printable=True, longest=MAX_TENANT)
    handler_name = Text(required=True, blank=False, longest=LONGEST)
    min_version = described(Text(required=True, blank=False, longest=LONGEST), "At least", "1.4.0")


class VersionPinSchema(Shown):
    """A version pin."""

    tenant_id = fields.String(required=True)
    handler_name = fields.String(required=True)
    min_version = fields.String(required=True)
    created_at = fields.AwareDateTime(required=True)
    updated_at = fields.AwareDateTime(required=True)
