"""The routes that change what becomes of published versions, and which one an instance runs by."""

from __future__ import annotations

from typing import Final

from flask import Blueprint, Response

from api import requests, shapes
from api.answers import answer, nothing
from api.auth import DEFAULT_TENANT, caller
from api.operations import Many, operation
from api.schemas.sequences import (
    MAX_PAGE,
    MigrateBody,
    MigratedSchema,
    PublishedSchema,
    SequenceSchema,
    StatusBody,
    TenantQuery,
    UnpublishBody,
)
from api.sequences import DEFAULT_NAMESPACE
from api.surface import surface
from orch8.runtime import versions
from orch8.runtime.repoint import repoint
from orch8.storage import sequences

blueprint: Final = Blueprint("versions", __name__)

_STATUS, _UNPUBLISH, _MIGRATE, _LIST = StatusBody(), UnpublishBody(), MigrateBody(), TenantQuery()


@blueprint.get("/sequences.json")
@operation(
    "List sequences, every version, without pages",
    query=TenantQuery,
    answers={200: Many(SequenceSchema)},
)
def list_all() -> Response:
    """At most 1000."""
    asked = requests.query(_LIST)
    with surface().office.begin() as tx:
        tenant = caller().tenant_of_list(asked.get("tenant_id"))
        rows = sequences.list_sequences(tx, tenant_id=tenant, limit=MAX_PAGE)
    return answer([shapes.sequence(row) for row in rows])


@blueprint.delete("/sequences/<sequence_id>")
@operation(
    "Delete a version: nobody finds it any more",
    answers={204: None},
    errors=(404, 409),
    headers=("X-Actor",),
)
def delete(sequence_id: str) -> Response:
    """409 while an instance of it has not ended; those that have stay."""
    wanted = requests.path_id(sequence_id)
    with surface().office.begin() as tx:
        versions.delete(tx, wanted, requests.because(), tenant_id=caller().tenant)
    return nothing()


@blueprint.post("/sequences/<sequence_id>/status")
@operation(
    "Set the status of a version",
    body=StatusBody,
    answers={204: None},
    errors=(404,),
    headers=("X-Actor",),
)
def set_status(sequence_id: str) -> Response:
    """From draft to staging to production; unpublished from anywhere, which deprecates it."""
    wanted, body = requests.path_id(sequence_id), requests.body(_STATUS)
    with surface().office.begin() as tx:
        versions.set_status(
            tx, wanted, body["status"], requests.because(), tenant_id=caller().tenant
        )
    return nothing()


@blueprint.post("/sequences/<name>/unpublish")
@operation(
    "Unpublish every version of a name in the namespace default",
    body=UnpublishBody,
    body_required=False,
    answers={204: None},
    errors=(404, 409),
    headers=("X-Actor",),
)
def unpublish(name: str) -> Response:
    """Instances go on. With delete the versions are deleted, if none has instances that run."""
    body = requests.optional_body(_UNPUBLISH)
    with surface().office.begin() as tx:
        versions.unpublish(
            tx,
            caller().tenant or DEFAULT_TENANT,
            DEFAULT_NAMESPACE,
            name,
            requests.because(),
            delete_too=body.get("delete", False),
        )
    return nothing()


@blueprint.post("/sequences/<name>/promote")
@operation(
    "Publish the newest version, which is staging, as the next one, in production",
    answers={201: PublishedSchema},
    errors=(404, 409),
    headers=("X-Actor",),
)
def promote(name: str) -> Response:
    """In the namespace default."""
    office = surface().office
    with office.begin() as tx:
        made = versions.promote(
            office,
            tx,
            caller().tenant or DEFAULT_TENANT,
            DEFAULT_NAMESPACE,
            name,
            requests.because(),
        )
    shown = {"id": made.id, "name": made.name, "version": made.version}
    return answer(shown, 201, {"Location": f"/sequences/{made.id}"})


@blueprint.post("/sequences/migrate-instance")
@operation(
    "Let an instance go on by another version, from where it is",
    body=MigrateBody,
    answers={200: MigratedSchema},
    errors=(403, 404, 409),
    headers=("X-Actor",),
)
def migrate_instance() -> Response:
    """409 when that version has no place for a block that the instance is in."""
    body = requests.body(_MIGRATE)
    office = surface().office
    with office.begin() as tx:
        before, target = repoint(
            office,
            tx,
            body["instance_id"],
            body["target_sequence_id"],
            requests.because(body.get("reason")),
            tenant_id=caller().tenant,
        )
    return answer(
        {
            "migrated": True,
            "instance_id": body["instance_id"],
            "from_sequence_id": before.shown_id,
            "to_sequence_id": target.id,
        }
    )
