"""The routes of failed instances: the list, the groups of one cause, retrying a group."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, Response

from api import requests, shapes
from api.answers import answer
from api.auth import caller
from api.operations import Many, operation
from api.schemas.failures import (
    FailureGroupSchema,
    FailureQuery,
    GroupQuery,
    GroupRetriedSchema,
    GroupRetrySchema,
)
from api.schemas.instances import MAX_PAGE, InstanceSchema
from api.surface import surface
from orch8.runtime import failures
from orch8.runtime.failures import MOST, Group, Mode
from orch8.storage import instances
from orch8.storage.instances import Filter

blueprint: Final = Blueprint("failures", __name__)

DEFAULT_PAGE: Final = 100
_LIST, _GROUPS, _RETRY = FailureQuery(), GroupQuery(), GroupRetrySchema()


@blueprint.get("/instances/dlq")
@operation(
    "List failed instances, the last changed first",
    query=FailureQuery,
    answers={200: Many(InstanceSchema)},
)
def list_all() -> Response:
    """Each stays in the list until it is retried."""
    asked = requests.query(_LIST)
    wanted = Filter(
        tenant_id=caller().tenant_of_list(asked.get("tenant_id")),
        namespace=asked.get("namespace"),
        sequence_id=asked.get("sequence_id"),
        states=("failed",),
    )
    with surface().office.begin() as tx:
        rows = instances.list_instances(
            tx,
            wanted,
            limit=min(asked.get("limit", DEFAULT_PAGE), MAX_PAGE),
            offset=asked.get("offset", 0),
        )
    return answer([shapes.instance(row) for row in rows])


@blueprint.get("/instances/dlq/groups")
@operation(
    "List why instances failed, the most frequent cause first",
    query=GroupQuery,
    answers={200: Many(FailureGroupSchema)},
)
def list_groups() -> Response:
    """The newest 5000 failures, grouped by sequence, step, handler and kind of error."""
    tenant = caller().tenant_of_list(requests.query(_GROUPS).get("tenant_id"))
    with surface().office.begin() as tx:
        found = failures.groups(tx, tenant)
    return answer([_shown(group) for group in found])


@blueprint.post("/instances/dlq/groups/<fingerprint>/retry")
@operation(
    "Retry the failed instances of one cause",
    body=GroupRetrySchema,
    answers={200: GroupRetriedSchema},
    errors=(404, 409),
    headers=("X-Actor",),
)
def retry_group(fingerprint: str) -> Response:
    """A sample first: the oldest. In bulk only when a sample has completed, or with force."""
    body = requests.body(_RETRY)
    here = surface()
    done = failures.retry_group(
        here.office,
        fingerprint,
        Mode(body["mode"]),
        requests.because(body.get("reason"), body.get("actor")),
        tenant_id=caller().tenant,
        verified=body.get("sample_verified_instance_id"),
        force=body.get("force", False),
        limit=body.get("limit", MOST),
    )
    for lane in done.lanes:
        here.announce(lane)
    return answer(
        {
            "fingerprint": fingerprint,
            "mode": body["mode"],
            "retried": done.retried,
            "skipped": done.skipped,
        }
    )


def _shown(group: Group) -> dict[str, Any]:
    cause = group.cause
    return {
        "fingerprint": cause.fingerprint,
        "count": group.count,
        "class": cause.kind,
        "code": cause.code,
        "status": cause.status,
        "reason": cause.reason,
        "sequence_id": cause.sequence_id,
        "sequence_name": cause.sequence_name,
        "sequence_version": cause.sequence_version,
        "block_id": cause.block_id,
        "handler": cause.handler,
        "message": group.message,
        "first_at": group.first_at,
        "last_at": group.last_at,
        "sample_instance_ids": group.samples,
    }
