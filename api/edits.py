"""The routes by which an operator edits an instance: its state, and its context."""

from __future__ import annotations

from typing import Final

from flask import Blueprint, Response

from api import requests
from api.answers import nothing
from api.auth import caller
from api.operations import operation
from api.schemas.bulk import ContextSchema, StateSchema
from api.surface import surface
from orch8.runtime import transition

blueprint: Final = Blueprint("edits", __name__)

_STATE, _CONTEXT = StateSchema(), ContextSchema()


@blueprint.patch("/instances/<instance_id>/state")
@operation(
    "Set the state of an instance: paused, waiting, cancelled, or scheduled to let it go on",
    body=StateSchema,
    answers={200: None},
    errors=(404, 409),
    headers=("X-Actor",),
)
def set_state(instance_id: str) -> Response:
    """What leads to the state has begun; a call in flight is awaited before it is cancelled. One
    that is set to waiting stays so until it is let go.
    """
    wanted = requests.path_id(instance_id)
    body = requests.body(_STATE)
    here = surface()
    with here.office.begin() as tx:
        row = transition.set_state(
            here.office,
            tx,
            wanted,
            body["state"],
            requests.because(body.get("reason"), body.get("actor")),
            tenant_id=caller().tenant,
            next_fire_at=body.get("next_fire_at"),
        )
    here.announce(row.lane)
    return nothing(200)


@blueprint.patch("/instances/<instance_id>/context")
@operation(
    "Replace the context of an instance",
    body=ContextSchema,
    answers={200: None},
    errors=(404,),
    headers=("X-Actor",),
)
def replace_context(instance_id: str) -> Response:
    """What is entered or tried from now on reads it; calls that were made are as they were."""
    wanted = requests.path_id(instance_id)
    body = requests.body(_CONTEXT)
    here = surface()
    with here.office.begin() as tx:
        transition.replace_context(
            here.office,
            tx,
            wanted,
            body["context"],
            requests.because(body.get("reason"), body.get("actor")),
            tenant_id=caller().tenant,
        )
    return nothing(200)
