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
    Words,
    described,
)
from orch8.storage.task_events import EVENTS
from orch8.storage.tasks import STATES

LONGEST = 200
MOST_POLLED = 1000


class PollSchema(Body):
    """Which steps a worker wants."""

    handler_name = described(
        Text(required=True, blank=False, longest=LONGEST), "What the worker can do", "charge"
    )
    worker_id = described(
        Text(required=True, blank=False, longest=LONGEST), "Names the worker; stable while it runs"
    )
    limit = described(Whole(least=1), f"How many at most, up to {MOST_POLLED}; 1 if left out")
    version = Text(longest=LONGEST)


class QueuePollSchema(PollSchema):
    """Which steps of one queue a worker wants."""

    queue_name = Text(required=True, blank=False, longest=LONGEST)


class ClaimSchema(Body):
    """Which claim a worker speaks of."""

    worker_id = Text(required=True, blank=False, longest=LONGEST)
    claim_epoch = described(Whole(), "As polled; left out: the current one, if it is this worker's")
    logs = described(
        Many(Object()), "Lines {ts, level, message} for the log of the instance; of a task so many"
    )


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


class TasksQuery(Query):
    """Which tasks to list."""

    tenant_id = Text()
    state = described(Words(*STATES), "Any of these, separated by commas")
    handler_name = Text(longest=LONGEST)
    worker_id = Text(longest=LONGEST)
    queue_name = Text(longest=LONGEST)
    limit = described(Number(least=1), "50 if left out, at most 1000")
    offset = Number(least=0)


class AttemptsQuery(Query):
    """How much of a task's story."""

    limit = described(Number(least=1), "100 if left out, at most 1000")


class TaskStatsSchema(Shown):
    """How many tasks there are, among the newest."""

    by_state = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True)
    by_handler = fields.Dict(keys=fields.String(), values=fields.Dict(), required=True)
    active_workers = fields.List(fields.String(), required=True)


class TaskEventSchema(Shown):
    """One thing that happened to a task."""

    id = fields.UUID(required=True)
    task_id = fields.UUID(required=True)
    claim_epoch = fields.Integer(required=True)
    worker_id = fields.String()
    event = fields.String(required=True, metadata={"enum": list(EVENTS)})
    reason = fields.String()
    created_at = fields.AwareDateTime(required=True)


class TaskSchema(Shown):
    """A step that a pull worker is given, or was."""

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
    worker_id = fields.String(required=True, allow_none=True)
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
    in_flight = fields.Integer(required=True)
