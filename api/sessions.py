"""The routes of sessions, which callers keep about a series of instances."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, Response

from api import requests, shapes
from api.answers import answer, nothing
from api.auth import caller
from api.operations import Many, operation
from api.schemas.instances import MAX_PAGE, InstanceSchema, PageQuery
from api.schemas.sessions import SessionBody, SessionDataBody, SessionSchema, SessionStateBody
from api.surface import surface
from orch8.errors import NotFound
from orch8.runtime import sessions
from orch8.runtime.sessions import SessionRequest
from orch8.storage import instances
from orch8.storage.instances import Filter
from orch8.storage.transaction import Row

blueprint: Final = Blueprint("sessions", __name__)

_CREATE, _DATA, _STATE, _PAGE = SessionBody(), SessionDataBody(), SessionStateBody(), PageQuery()


@blueprint.post("/sessions")
@operation(
    "Open a session",
    body=SessionBody,
    answers={201: SessionSchema},
    errors=(403, 409),
    headers=("X-Actor",),
)
def create() -> Response:
    """A tenant has one session for each key."""
    body = requests.body(_CREATE)
    body["tenant_id"] = caller().tenant_or_default(body["tenant_id"])
    with surface().office.begin() as tx:
        row = sessions.create(tx, SessionRequest(**body), requests.because())
    return answer(_shown(row), 201, {"Location": f"/sessions/{row.id}"})


@blueprint.get("/sessions/<session_id>")
@operation("Read a session", answers={200: SessionSchema}, errors=(404,))
def read(session_id: str) -> Response:
    """The session with its data."""
    wanted = requests.path_id(session_id)
    with surface().office.begin() as tx:
        return answer(_shown(sessions.found(tx, wanted, caller().tenant)))


@blueprint.get("/sessions/by-key/<tenant>/<path:key>")
@operation("Find a session by its key", answers={200: SessionSchema}, errors=(404,))
def read_by_key(tenant: str, key: str) -> Response:
    """The session with its data."""
    if caller().tenant not in (None, tenant):
        raise NotFound(f"session {key[:60]!r}")
    with surface().office.begin() as tx:
        return answer(_shown(sessions.found_by_key(tx, tenant, key)))


@blueprint.get("/sessions/<session_id>/instances")
@operation(
    "List the instances of a session, the last changed first",
    query=PageQuery,
    answers={200: Many(InstanceSchema)},
    errors=(404,),
)
def instances_of(session_id: str) -> Response:
    """Those that were created with its session_id, and the children of these."""
    wanted = requests.path_id(session_id)
    limit = min(requests.query(_PAGE).get("limit", MAX_PAGE), MAX_PAGE)
    with surface().office.begin() as tx:
        sessions.found(tx, wanted, caller().tenant)
        rows = instances.list_instances(tx, Filter(session_id=wanted), limit=limit)
    return answer([shapes.instance(row) for row in rows])


@blueprint.patch("/sessions/<session_id>/data")
@operation(
    "Replace the data of a session",
    body=SessionDataBody,
    answers={200: None},
    errors=(404,),
    headers=("X-Actor",),
)
def set_data(session_id: str) -> Response:
    """At most 256 KiB."""
    wanted, body = requests.path_id(session_id), requests.body(_DATA)
    with surface().office.begin() as tx:
        sessions.set_data(
            tx, wanted, body.get("data"), requests.because(), tenant_id=caller().tenant
        )
    return nothing(200)


@blueprint.patch("/sessions/<session_id>/state")
@operation(
    "Set the state of a session",
    body=SessionStateBody,
    answers={200: None},
    errors=(404,),
    headers=("X-Actor",),
)
def set_state(session_id: str) -> Response:
    """Its instances go on."""
    wanted, body = requests.path_id(session_id), requests.body(_STATE)
    with surface().office.begin() as tx:
        sessions.set_state(tx, wanted, body["state"], requests.because(), tenant_id=caller().tenant)
    return nothing(200)


def _shown(row: Row) -> dict[str, Any]:
    shown: dict[str, Any] = row._asdict()
    if row.expires_at is None:
        del shown["expires_at"]
    return shown
