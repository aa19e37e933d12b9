"""The routes of routing rules, which choose the queue of a task, and of queues that are told."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, Response

from api import requests
from api.answers import answer, nothing
from api.auth import caller
from api.operations import Many, operation
from api.schemas.base import Body
from api.schemas.keys import BecauseQuery
from api.schemas.routing import (
    OfTenantQuery,
    RoutingRuleBody,
    RoutingRuleSchema,
    TaskQueueBody,
    TaskQueueSchema,
)
from api.surface import surface
from orch8.errors import NotFound
from orch8.runtime import routing
from orch8.storage import routing as stored

blueprint: Final = Blueprint("routing", __name__)

_RULE, _QUEUE, _LIST, _BECAUSE = RoutingRuleBody(), TaskQueueBody(), OfTenantQuery(), BecauseQuery()


@blueprint.post("/routing-rules")
@operation(
    "Say in which queue tasks of a handler are offered",
    body=RoutingRuleBody,
    answers={201: RoutingRuleSchema},
    errors=(403,),
    headers=("X-Actor",),
)
def create_rule() -> Response:
    """Tasks that are offered from now on; those that wait stay where they are."""
    body = {"priority": 0, "enabled": True, **_of_tenant(_RULE)}
    office = surface().office
    with office.begin() as tx:
        row = routing.create_rule(office, tx, body, requests.because())
    return answer(row._asdict(), 201, {"Location": f"/routing-rules/{row.id}"})


@blueprint.get("/routing-rules")
@operation(
    "List routing rules in the order in which they are asked",
    query=OfTenantQuery,
    answers={200: Many(RoutingRuleSchema)},
)
def list_rules() -> Response:
    """The greatest priority first, then the oldest."""
    tenant = caller().tenant_of_list(requests.query(_LIST).get("tenant_id"))
    with surface().office.begin() as tx:
        return answer([row._asdict() for row in stored.rules(tx, tenant)])


@blueprint.get("/routing-rules/<rule_id>")
@operation("Read a routing rule", answers={200: RoutingRuleSchema}, errors=(404,))
def read_rule(rule_id: str) -> Response:
    """The rule."""
    wanted = requests.path_id(rule_id)
    with surface().office.begin() as tx:
        return answer(routing.found_rule(tx, wanted, caller().tenant)._asdict())


@blueprint.delete("/routing-rules/<rule_id>")
@operation(
    "Delete a routing rule",
    query=BecauseQuery,
    answers={204: None},
    errors=(404,),
    headers=("X-Actor",),
)
def delete_rule(rule_id: str) -> Response:
    """Tasks that are offered from now on do not follow it."""
    wanted = requests.path_id(rule_id)
    because = requests.because(requests.query(_BECAUSE).get("reason"))
    office = surface().office
    with office.begin() as tx:
        routing.delete_rule(office, tx, wanted, because, tenant_id=caller().tenant)
    return nothing()


@blueprint.post("/queues/dispatch")
@operation(
    "Say whether an address is told of the tasks in a queue",
    body=TaskQueueBody,
    answers={201: TaskQueueSchema},
    errors=(403,),
    headers=("X-Actor",),
)
def put_queue() -> Response:
    """Whoever is told polls for the task as any worker does. What was said before is replaced."""
    body = _of_tenant(_QUEUE)
    office = surface().office
    routing.check_queue(office, body)
    with office.begin() as tx:
        row = routing.put_queue(office, tx, body, requests.because())
    return answer(row._asdict(), 201)


@blueprint.get("/queues/dispatch")
@operation(
    "List the queues that something is said about",
    query=OfTenantQuery,
    answers={200: Many(TaskQueueSchema)},
)
def list_queues() -> Response:
    """Without their secrets."""
    tenant = caller().tenant_of_list(requests.query(_LIST).get("tenant_id"))
    with surface().office.begin() as tx:
        return answer([row._asdict() for row in stored.queues(tx, tenant)])


@blueprint.delete("/queues/dispatch/<tenant>/<path:queue>")
@operation(
    "Tell nobody of a queue's tasks",
    query=BecauseQuery,
    answers={204: None},
    errors=(404,),
    headers=("X-Actor",),
)
def delete_queue(tenant: str, queue: str) -> Response:
    """It is polled for all the same."""
    if caller().tenant not in (None, tenant):
        raise NotFound(f"queue {queue[:100]!r}")
    because = requests.because(requests.query(_BECAUSE).get("reason"))
    office = surface().office
    with office.begin() as tx:
        routing.delete_queue(office, tx, tenant, queue, because)
    return nothing()


def _of_tenant(schema: Body) -> dict[str, Any]:
    """The body; a tenant that is blank or left out is the caller's, else the default one."""
    body = requests.body(schema)
    body["tenant_id"] = caller().tenant_or_default(body.get("tenant_id", "").strip())
    return body
