"""The routes of checkpoints, which operators and workers note about instances."""

from __future__ import annotations

from typing import Final

from flask import Blueprint, Response

from api import requests
from api.answers import answer
from api.auth import caller
from api.operations import Many, operation
from api.schemas.checkpoints import (
    CheckpointBody,
    CheckpointSchema,
    PruneBody,
    PrunedSchema,
    SavedSchema,
)
from api.surface import surface
from orch8.runtime import checkpoints

blueprint: Final = Blueprint("checkpoints", __name__)

_SAVE, _PRUNE = CheckpointBody(), PruneBody()


@blueprint.post("/instances/<instance_id>/checkpoints")
@operation(
    "Note something about an instance",
    body=CheckpointBody,
    answers={201: SavedSchema},
    errors=(404,),
)
def save(instance_id: str) -> Response:
    """In whatever state it is; the engine does not read it."""
    wanted, body = requests.path_id(instance_id), requests.body(_SAVE)
    with surface().office.begin() as tx:
        made = checkpoints.save(tx, wanted, body.get("checkpoint_data"), tenant_id=caller().tenant)
    return answer({"id": made}, 201)


@blueprint.get("/instances/<instance_id>/checkpoints")
@operation(
    "List the newest checkpoints of an instance",
    answers={200: Many(CheckpointSchema)},
    errors=(404,),
)
def list_some(instance_id: str) -> Response:
    """At most 100, the newest first."""
    wanted = requests.path_id(instance_id)
    with surface().office.begin() as tx:
        rows = checkpoints.listed(tx, wanted, tenant_id=caller().tenant)
    return answer([row._asdict() for row in rows])


@blueprint.get("/instances/<instance_id>/checkpoints/latest")
@operation(
    "Read the newest checkpoint of an instance", answers={200: CheckpointSchema}, errors=(404,)
)
def latest(instance_id: str) -> Response:
    """404 if it has none."""
    wanted = requests.path_id(instance_id)
    with surface().office.begin() as tx:
        return answer(checkpoints.latest(tx, wanted, tenant_id=caller().tenant)._asdict())


@blueprint.post("/instances/<instance_id>/checkpoints/prune")
@operation(
    "Delete all but the newest checkpoints of an instance",
    body=PruneBody,
    answers={200: PrunedSchema},
    errors=(404,),
    headers=("X-Actor",),
)
def prune(instance_id: str) -> Response:
    """How many were deleted."""
    wanted, body = requests.path_id(instance_id), requests.body(_PRUNE)
    with surface().office.begin() as tx:
        count = checkpoints.prune(
            tx, wanted, body["keep"], requests.because(), tenant_id=caller().tenant
        )
    return answer({"count": count})
