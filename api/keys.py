"""The routes of API keys: issue, list, rotate, revoke. They are the root key's."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from flask import Blueprint, Response, request

from api import requests
from api.answers import answer, nothing
from api.auth import caller
from api.operations import Many, operation
from api.schemas.keys import (
    BecauseQuery,
    IssuedKeySchema,
    KeyBody,
    KeySchema,
    KeysQuery,
    RotateBody,
)
from api.surface import surface
from orch8.errors import InvalidArgument
from orch8.runtime import apikeys
from orch8.runtime.apikeys import OPERATOR, Issued
from orch8.storage import apikeys as stored

blueprint: Final = Blueprint("keys", __name__)

_KEY, _ROTATE, _LIST, _BECAUSE = KeyBody(), RotateBody(), KeysQuery(), BecauseQuery()
_ISSUED: Final = ("id", "tenant_id", "name", "capabilities", "created_at", "expires_at")


@blueprint.post("/api-keys")
@operation(
    "Issue an API key of a tenant",
    body=KeyBody,
    answers={201: IssuedKeySchema},
    headers=("X-Actor",),
)
def issue() -> Response:
    """The secret is in this answer and nowhere else: only its SHA-256 is kept."""
    body = requests.body(_KEY)
    tenant = caller().tenant_or_default(body["tenant_id"])
    with surface().office.begin() as tx:
        issued = apikeys.issue(
            tx,
            tenant,
            requests.because(body.get("reason")),
            name=body.get("name", ""),
            capabilities=body.get("capabilities", [OPERATOR]),
            expires_at=body.get("expires_at"),
        )
    return _shown(issued)


@blueprint.get("/api-keys")
@operation(
    "List a tenant's API keys, the oldest first", query=KeysQuery, answers={200: Many(KeySchema)}
)
def list_all() -> Response:
    """Those that were revoked or have expired, too; never a secret."""
    given = request.args.get("tenant_id")
    if given is not None and not given.strip():
        raise InvalidArgument("tenant_id query parameter is required")
    asked = requests.query(_LIST)
    with surface().office.begin() as tx:
        rows = stored.keys_of(tx, caller().tenant or asked["tenant_id"])
    return answer([row._asdict() for row in rows])


@blueprint.post("/api-keys/<key_id>/rotate")
@operation(
    "Replace an API key by a new one",
    body=RotateBody,
    body_required=False,
    answers={201: IssuedKeySchema},
    errors=(404, 409),
    headers=("X-Actor",),
)
def rotate(key_id: str) -> Response:
    """The new key is for the same; the old one ends at once, or after the overlap."""
    body = requests.optional_body(_ROTATE)
    overlap = timedelta(seconds=body.get("overlap_secs", 0))
    because = requests.because(body.get("reason"))
    with surface().office.begin() as tx:
        issued = apikeys.rotate(tx, key_id, because, tenant_id=caller().tenant, overlap=overlap)
    return _shown(issued)


@blueprint.delete("/api-keys/<key_id>")
@operation(
    "Revoke an API key",
    query=BecauseQuery,
    answers={204: None},
    errors=(404,),
    headers=("X-Actor",),
)
def revoke(key_id: str) -> Response:
    """It opens nothing from the next request on, in every process, and stays in the list."""
    because = requests.because(requests.query(_BECAUSE).get("reason"))
    with surface().office.begin() as tx:
        apikeys.revoke(tx, key_id, because, tenant_id=caller().tenant)
    return nothing()


def _shown(issued: Issued) -> Response:
    row = {name: getattr(issued.row, name) for name in _ISSUED}
    return answer({**row, "secret": issued.secret}, 201)
