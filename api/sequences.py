"""The routes of sequences: publish, list, find, deprecate."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from flask import Blueprint, Response

from api import requests, shapes
from api.answers import answer, nothing
from api.auth import DEFAULT_TENANT, caller
from api.operations import Many, operation
from api.schemas.sequences import (
    MAX_PAGE,
    ByNameQuery,
    DefinitionSchema,
    PublishedSchema,
    PublishQuery,
    SequencePageSchema,
    SequenceQuery,
    SequenceSchema,
    VersionsQuery,
)
from api.surface import surface
from orch8.errors import NotFound
from orch8.runtime import registry
from orch8.runtime.publish import publish as publish_body
from orch8.storage import sequences
from orch8.storage.transaction import Row, Tx

blueprint: Final = Blueprint("sequences", __name__)

DEFAULT_PAGE: Final = 200
DEFAULT_NAMESPACE: Final = "default"
_PUBLISH, _LIST, _BY_NAME, _VERSIONS = (
    PublishQuery(),
    SequenceQuery(),
    ByNameQuery(),
    VersionsQuery(),
)


@blueprint.post("/sequences")
@operation(
    "Publish a definition: a new version, unless the same body is published already",
    body=DefinitionSchema,
    query=PublishQuery,
    answers={201: PublishedSchema, 200: PublishedSchema},
    errors=(403, 409, 413),
    headers=("X-Actor",),
)
def publish() -> Response:
    """201 and the version; 200 and the earlier one for an identical body."""
    body = requests.json_body()
    asked = requests.query(_PUBLISH)
    office = surface().office
    with office.begin() as tx:
        done = publish_body(
            office,
            tx,
            body,
            tenant_id=caller().tenant,
            actor=requests.actor(),
            lenient=asked.get("lenient", False),
            strict=asked.get("strict", False),
            request_id=requests.request_id(),
        )
    version = done.published
    shown = {"id": version.id, "name": version.name, "version": version.version}
    if done.warnings:
        shown["warnings"] = [
            f"{w.pointer}: {w.message}" + (f"; {w.hint}" if w.hint else "") for w in done.warnings
        ]
        shown["warning_details"] = [w.to_json() for w in done.warnings]
    return answer(shown, 201 if done.created else 200, {"Location": f"/sequences/{version.id}"})


@blueprint.get("/sequences")
@operation("List sequences, every version", query=SequenceQuery, answers={200: SequencePageSchema})
def list_some() -> Response:
    """By tenant, namespace and name, the newest version first; deprecated ones, too."""
    asked = requests.query(_LIST)
    limit = min(asked.get("limit", DEFAULT_PAGE), MAX_PAGE)
    with surface().office.begin() as tx:
        rows = sequences.list_sequences(
            tx,
            tenant_id=caller().tenant or asked.get("tenant_id"),
            namespace=asked.get("namespace"),
            name=asked.get("name"),
            limit=limit + 1,
            offset=asked.get("offset", 0),
        )
    return answer(
        {"items": [shapes.sequence(row) for row in rows[:limit]], "has_more": len(rows) > limit}
    )


@blueprint.get("/sequences/by-name")
@operation(
    "Find a version by name; the newest that is not deprecated",
    query=ByNameQuery,
    answers={200: SequenceSchema},
    errors=(404,),
)
def by_name() -> Response:
    """The version asked for even if it is deprecated."""
    asked = requests.query(_BY_NAME)
    with surface().office.begin() as tx:
        row = sequences.sequence_by_name(
            tx,
            caller().tenant or asked.get("tenant_id", DEFAULT_TENANT),
            asked.get("namespace", DEFAULT_NAMESPACE),
            asked["name"],
            asked.get("version"),
        )
    return answer(shapes.sequence(_found(row, asked["name"])))


@blueprint.get("/sequences/versions")
@operation(
    "List the versions of a name that are not deprecated, the newest first",
    query=VersionsQuery,
    answers={200: Many(SequenceSchema)},
)
def versions() -> Response:
    """Empty for a name that nobody published."""
    asked = requests.query(_VERSIONS)
    with surface().office.begin() as tx:
        rows = sequences.list_sequences(
            tx,
            tenant_id=caller().tenant or asked.get("tenant_id", DEFAULT_TENANT),
            namespace=asked.get("namespace", DEFAULT_NAMESPACE),
            name=asked["name"],
            live=True,
            limit=MAX_PAGE,
        )
    return answer([shapes.sequence(row) for row in rows])


@blueprint.get("/sequences/<sequence>")
@operation(
    "Read a version by its id, or the newest of a name",
    answers={200: SequenceSchema},
    errors=(404,),
)
def read(sequence: str) -> Response:
    """The definition as it was published."""
    with surface().office.begin() as tx:
        return answer(shapes.sequence(_found(_find(tx, sequence), sequence)))


@blueprint.post("/sequences/<sequence_id>/deprecate")
@operation(
    "Deprecate a version: its name finds an older one from now on",
    answers={204: None},
    errors=(404,),
    headers=("X-Actor",),
)
def deprecate(sequence_id: str) -> Response:
    """Instances of it go on; doing it again changes nothing."""
    wanted = requests.path_id(sequence_id)
    office = surface().office
    with office.begin() as tx:
        registry.deprecate(office, tx, wanted, tenant_id=caller().tenant, actor=requests.actor())
    return nothing()


def _find(tx: Tx, sequence: str) -> Row | None:
    try:
        return sequences.standing(tx, UUID(sequence))
    except ValueError:
        return sequences.sequence_by_name(
            tx, caller().tenant or DEFAULT_TENANT, DEFAULT_NAMESPACE, sequence
        )


def _found(row: Row | None, what: str) -> Row:
    if row is None or caller().tenant not in (None, row.tenant_id):
        raise NotFound(f"sequence {what!r}")
    return row
