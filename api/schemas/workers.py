"""What pull workers send and get (CONTRACT 19)."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.base import (
    Anything,
    Body,
    Flag,
    Many,
    Number,
    Object,
    Query,
    Shown,
    Switch,
    Text,
    Whole,
    described,
)

LONGEST = 200
MAX_LOGS = 1000


class PollSchema(Body):
    """Which steps a worker wants."""

    handler_name = described(
        Text(required=True, blank=False, longest=LONGEST), "What the worker can do", "charge"
    )
    worker_id = described(
        Text(required=True, blank=False, longest=LONGEST), "Names the worker; stable while it runs"
    )
    limit = described(Whole(least=1, most=1000), "How many at most; 1 if left out")
    version = Text(longest=LONGEST)


class QueuePollSchema(PollSchema):
    """Which steps of one queue a worker wants."""

    queue_name = Text(required=True, blank=False, longest=LONGEST)


class ClaimSchema(Body):
    """Which claim a worker speaks of."""

    worker_id = Text(required=True, blank=False, longest=LONGEST)
    claim_epoch = described(Whole(), "As polled; left out: the current one, if it is this worker's")
    logs = described(Many(Object(), most=MAX_LOGS), "Accepted and not kept yet")


class CompleteSchema(ClaimSchema):
    """A step's output."""

    output = described(Anything(), "Any JSON; an object may name its own outcome")


class FailSchema(ClaimSchema):
    """Why a step failed."""

    message = Text(required=True)
    retryable = described(Flag(), "Whether trying again may help; false if left out")
    code = Text(longest=LONGEST)
    details = Anything()


class HeartbeatSchema(ClaimSchema):
    """The worker is still at it."""

    checkpoint = described(Anything(), "Kept for whoever takes the step over")
    checkpoint_seq = described(Whole(), "The stored checkpoint's number, from 0")


class WorkersQuery(Query):
    """Which workers to list."""

    tenant_id = Text()
    alive_within_secs = Number(least=1)
    include_stale = Switch()


class TaskSchema(Shown):
    """A claimed step, as its worker gets it."""

    id = fields.UUID(required=True)
    instance_id = fields.UUID(required=True)
    block_id = fields.String(required=True)
    node_key = fields.String(required=True)
    handler_name = fields.String(required=True)
    queue_name = fields.String()
    params = fields.Raw(required=True)
    context = fields.Raw(required=True)
    outputs = fields.Raw(required=True)
    attempt = fields.Integer(required=True)
    dispatch = fields.Integer(required=True)
    generation = fields.Integer(required=True)
    idempotency_key = fields.String(required=True, allow_none=True)
    timeout_ms = fields.Integer(required=True, allow_none=True)
    state = fields.String(required=True)
    worker_id = fields.String(required=True)
    claimed_at = fields.AwareDateTime(required=True, allow_none=True)
    heartbeat_at = fields.AwareDateTime(required=True, allow_none=True)
    claim_epoch = fields.Integer(required=True)
    resume_checkpoint = fields.Raw()
    checkpoint_seq = fields.Integer(required=True)
    completed_at = fields.AwareDateTime(required=True, allow_none=True)
    output = fields.Raw(required=True)
    error_message = fields.String(required=True, allow_none=True)
    error_retryable = fields.Boolean(required=True, allow_none=True)
    created_at = fields.AwareDateTime(required=True)


class BeatSchema(Shown):
    """The lease is extended."""

    checkpoint_seq = fields.Integer(required=True)


class WorkerSchema(Shown):
    """A pull worker that has polled."""

    tenant_id = fields.String(required=True)
    worker_id = fields.String(required=True)
    handlers = fields.List(fields.String(), required=True)
    queues = fields.List(fields.String(), required=True)
    version = fields.String(required=True, allow_none=True)
    last_seen_at = fields.AwareDateTime(required=True)
    alive = fields.Boolean(required=True)
