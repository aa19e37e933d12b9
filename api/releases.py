"""The routes of releases, which are drafts here and route nobody."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, Response

from api import declarations, requests
from api.answers import answer, nothing
from api.operations import Many, operation
from api.schemas.declarations import DeclarationsQuery, ReleaseBody, ReleaseSchema
from api.schemas.keys import BecauseQuery
from api.surface import surface
from orch8.runtime import declared
from orch8.runtime.declared import RELEASE
from orch8.storage.transaction import Row

blueprint: Final = Blueprint("releases", __name__)

_BODY = ReleaseBody()
IN_FLIGHT: Final = "pin"  # what runs goes on by the version that it was started by


@blueprint.post("/releases")
@operation(
    "Draft a release",
    body=ReleaseBody,
    answers={201: ReleaseSchema},
    errors=(403, 404),
    headers=("X-Actor",),
)
def create() -> Response:
    """From one version of a sequence to another. It stays a draft: no instance is routed by it."""
    body = requests.body(_BODY)
    tenant, because = declarations.tenant_of(body), requests.because(body.pop("reason", None))
    baseline, candidate = body.pop("baseline_sequence_id"), body.pop("candidate_sequence_id")
    made = {"canary_percent": 0, "in_flight_policy": IN_FLIGHT, **body}
    with surface().office.begin() as tx:
        row = declared.release(tx, tenant, baseline, candidate, made, because)
    return answer(_shown(row), 201)


@blueprint.get("/releases")
@operation(
    "List releases, the oldest first",
    query=DeclarationsQuery,
    answers={200: Many(ReleaseSchema)},
)
def list_all() -> Response:
    """A tenant's, or all that may be seen."""
    return answer([_shown(row) for row in declarations.listed(RELEASE)])


@blueprint.get("/releases/<release_id>")
@operation("Read a release", answers={200: ReleaseSchema}, errors=(404,))
def read(release_id: str) -> Response:
    """As it was drafted."""
    return answer(_shown(declarations.read(RELEASE, str(requests.path_id(release_id)))))


@blueprint.delete("/releases/<release_id>")
@operation(
    "Delete a release",
    query=BecauseQuery,
    answers={204: None},
    errors=(404,),
    headers=("X-Actor",),
)
def delete(release_id: str) -> Response:
    """Its versions stay as they are."""
    declarations.drop(RELEASE, str(requests.path_id(release_id)))
    return nothing()


def _shown(row: Row) -> dict[str, Any]:
    return declarations.shown(row, "id")
