"""The routes by which the installation's operator leads pull workers: commands, version pins.

They are the root key's.
"""

from __future__ import annotations

from typing import Final

from flask import Blueprint, Response

from api import requests
from api.answers import answer, nothing
from api.auth import caller
from api.operations import Many, operation
from api.schemas.keys import BecauseQuery
from api.schemas.routing import (
    OfTenantQuery,
    VersionPinBody,
    VersionPinSchema,
    WorkerCommandBody,
    WorkerCommandSchema,
)
from api.surface import surface
from orch8.errors import NotFound
from orch8.runtime import commands, pins
from orch8.storage import commands as stored

blueprint: Final = Blueprint("fleet", __name__)

_COMMAND, _PIN, _LIST, _BECAUSE = (
    WorkerCommandBody(),
    VersionPinBody(),
    OfTenantQuery(),
    BecauseQuery(),
)


@blueprint.post("/workers/commands")
@operation(
    "Tell a pull worker something",
    body=WorkerCommandBody,
    answers={201: WorkerCommandSchema},
    headers=("X-Actor",),
)
def tell() -> Response:
    """It finds the command when it asks for its own, and deletes it when it is done."""
    body = requests.body(_COMMAND)
    with surface().office.begin() as tx:
        row = commands.tell(
            tx, body["worker_id"], body["command"], body.get("payload"), requests.because()
        )
    return answer(row._asdict(), 201)


@blueprint.get("/workers/<worker_id>/commands")
@operation(
    "List a pull worker's commands, the oldest first", answers={200: Many(WorkerCommandSchema)}
)
def told(worker_id: str) -> Response:
    """Those that were not deleted."""
    with surface().office.begin() as tx:
        return answer([row._asdict() for row in stored.told(tx, worker_id)])


@blueprint.delete("/workers/commands/<command_id>")
@operation(
    "Delete a command: it is done, or not wanted any more",
    query=BecauseQuery,
    answers={204: None},
    errors=(404,),
    headers=("X-Actor",),
)
def forget(command_id: str) -> Response:
    """The worker does not find it any more."""
    wanted = requests.path_id(command_id, "command id")
    because = requests.because(requests.query(_BECAUSE).get("reason"))
    with surface().office.begin() as tx:
        commands.forget(tx, wanted, because)
    return nothing()


@blueprint.post("/workers/version-pins")
@operation(
    "Say which version a handler's pull workers must have",
    body=VersionPinBody,
    answers={201: VersionPinSchema},
    errors=(403,),
    headers=("X-Actor",),
)
def pin() -> Response:
    """Others get no tasks of it; what they have they may complete."""
    body = requests.body(_PIN)
    tenant = caller().tenant_or_default(body.get("tenant_id", "").strip())
    with surface().office.begin() as tx:
        row = pins.pin(tx, tenant, body["handler_name"], body["min_version"], requests.because())
    return answer(row._asdict(), 201)


@blueprint.get("/workers/version-pins")
@operation("List version pins", query=OfTenantQuery, answers={200: Many(VersionPinSchema)})
def list_pins() -> Response:
    """By tenant and handler."""
    tenant = caller().tenant_of_list(requests.query(_LIST).get("tenant_id"))
    with surface().office.begin() as tx:
        return answer([row._asdict() for row in stored.pins(tx, tenant)])


@blueprint.delete("/workers/version-pins/<tenant>/<path:handler>")
@operation(
    "Let any version have a handler's tasks",
    query=BecauseQuery,
    answers={204: None},
    errors=(404,),
    headers=("X-Actor",),
)
def unpin(tenant: str, handler: str) -> Response:
    """From the next poll on."""
    if caller().tenant not in (None, tenant):
        raise NotFound(f"version pin of handler {handler[:100]!r}")
    because = requests.because(requests.query(_BECAUSE).get("reason"))
    with surface().office.begin() as tx:
        pins.unpin(tx, tenant, handler, because)
    return nothing()
