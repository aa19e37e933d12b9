"""The routes of pull workers: poll, complete, fail, heartbeat (CONTRACT 19)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import unquote
from uuid import UUID

from flask import Blueprint, Response

from api import requests, shapes
from api.answers import answer, nothing
from api.auth import DEFAULT_TENANT, caller
from api.operations import Many, operation
from api.schemas.workers import (
    MOST_POLLED,
    BeatSchema,
    CompleteSchema,
    FailSchema,
    HeartbeatSchema,
    PollSchema,
    QueuePollSchema,
    TaskSchema,
    WorkerSchema,
    WorkersQuery,
)
from api.surface import surface
from orch8.errors import LeaseLost
from orch8.runtime import pull, pullers
from orch8.storage import gauges, instances, steps
from orch8.storage.transaction import Tx

blueprint: Final = Blueprint("workers", __name__)

ALIVE_WITHIN: Final = 60  # seconds
_POLL, _QUEUE_POLL = PollSchema(), QueuePollSchema()
_COMPLETE, _FAIL, _HEARTBEAT, _LIST = (
    CompleteSchema(),
    FailSchema(),
    HeartbeatSchema(),
    WorkersQuery(),
)


@blueprint.post("/workers/tasks/poll")
@operation(
    "Ask for waiting steps of a handler, from every queue",
    body=PollSchema,
    answers={200: Many(TaskSchema)},
)
def poll() -> Response:
    """The tasks are this worker's until their lease ends; heartbeats extend it."""
    return _poll(requests.body(_POLL))


@blueprint.post("/workers/tasks/poll/queue")
@operation(
    "Ask for waiting steps of a handler, from one queue",
    body=QueuePollSchema,
    answers={200: Many(TaskSchema)},
)
def poll_queue() -> Response:
    """As poll."""
    return _poll(requests.body(_QUEUE_POLL))


@blueprint.post("/workers/tasks/<task_id>/complete")
@operation(
    "Complete a task with its output", body=CompleteSchema, answers={200: None}, errors=(404, 409)
)
def complete(task_id: str) -> Response:
    """The output is kept and the instance goes on; 409 if the task is another's by now."""
    wanted = requests.path_id(task_id, "task id")
    body = requests.body(_COMPLETE)

    def work(tx: Tx) -> None:
        pull.complete(
            surface().office,
            tx,
            wanted,
            **_claim(body),
            output=body.get("output"),
            logs=body.get("logs", ()),
        )

    _settle(wanted, work)
    return nothing(200)


@blueprint.post("/workers/tasks/<task_id>/fail")
@operation(
    "Say that a task failed, and whether trying again may help",
    body=FailSchema,
    answers={200: None},
    errors=(404, 409),
)
def fail(task_id: str) -> Response:
    """The step is tried again or fails, as its retry policy says."""
    wanted = requests.path_id(task_id, "task id")
    body = requests.body(_FAIL)

    def work(tx: Tx) -> None:
        pull.fail(
            surface().office,
            tx,
            wanted,
            **_claim(body),
            message=body["message"],
            retryable=body.get("retryable", False),
            code=body.get("code"),
            details=body.get("details"),
            logs=body.get("logs", ()),
        )

    _settle(wanted, work)
    return nothing(200)


@blueprint.post("/workers/tasks/<task_id>/heartbeat")
@operation(
    "Extend the lease of a task, and keep a checkpoint",
    body=HeartbeatSchema,
    answers={200: BeatSchema},
    errors=(404, 409, 413),
)
def heartbeat(task_id: str) -> Response:
    """The lease is extended; the number of the stored checkpoint."""
    wanted = requests.path_id(task_id, "task id")
    body = requests.body(_HEARTBEAT)
    office = surface().office
    try:
        with office.begin() as tx:
            number = pull.heartbeat(
                office,
                tx,
                wanted,
                **_claim(body),
                checkpoint=body.get("checkpoint"),
                checkpoint_seq=body.get("checkpoint_seq"),
            )
    except LeaseLost as problem:
        pull.keep_stale(office, problem, said=False)
        raise
    return answer({"checkpoint_seq": number})


@blueprint.get("/workers")
@operation(
    "List the pull workers, the last seen first",
    query=WorkersQuery,
    answers={200: Many(WorkerSchema)},
)
def list_all() -> Response:
    """Those seen lately; with include_stale all."""
    asked = requests.query(_LIST)
    since = datetime.now(UTC) - timedelta(seconds=asked.get("alive_within_secs", ALIVE_WITHIN))
    with surface().office.begin() as tx:
        rows = pullers.known(tx, caller().tenant_of_list(asked.get("tenant_id")))
    shown = [{**asdict(row), "alive": row.last_seen_at >= since} for row in rows]
    return answer([each for each in shown if each["alive"] or asked.get("include_stale")])


def _poll(body: dict[str, Any]) -> Response:
    office = surface().office
    limit = min(body.get("limit", 1), MOST_POLLED)
    found: list[pull.PullTask] = []
    with office.begin() as tx:
        for tenant in _tenants(tx, body["handler_name"]):
            found += pull.poll(
                office,
                tx,
                tenant_id=tenant,
                handler=body["handler_name"],
                worker_id=body["worker_id"],
                limit=limit - len(found),
                queue=body.get("queue_name"),
                version=body.get("version"),
            )
            if len(found) >= limit:
                break
    return answer([shapes.task(each) for each in found])


def _tenants(tx: Tx, handler: str) -> list[str]:
    """Whose steps a worker may have: the caller's tenant's, or everybody's who has some waiting."""
    tenant = caller().tenant
    if tenant is not None:
        return [tenant]
    lanes = (lane.split("/") for lane in gauges.lanes(tx, "pull/"))
    waiting = {unquote(parts[1]) for parts in lanes if unquote(parts[2]) == handler}
    return sorted(waiting) or [DEFAULT_TENANT]


def _claim(body: dict[str, Any]) -> dict[str, Any]:
    """Whose claim a worker speaks of."""
    return {
        "tenant_id": caller().tenant,
        "worker_id": body["worker_id"],
        "epoch": body.get("claim_epoch"),
    }


def _settle(task_id: UUID, work: Callable[[Tx], None]) -> None:
    """The work is done and the instance's lane told; what came too late is kept as evidence."""
    here = surface()
    try:
        with here.office.begin() as tx:
            work(tx)
            lane = _lane(tx, task_id)
    except LeaseLost as problem:
        pull.keep_stale(here.office, problem)
        raise
    if lane is not None:
        here.announce(lane)


def _lane(tx: Tx, task_id: UUID) -> str | None:
    row = steps.step_by_id(tx, task_id)
    found = {} if row is None else instances.read_instances(tx, [row.instance_id])
    return next((each.lane for each in found.values()), None)
