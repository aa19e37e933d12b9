"""The routes of credentials: secrets go in, and are never shown again."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, Response

from api import requests
from api.answers import answer, nothing
from api.auth import caller
from api.operations import Many, operation
from api.schemas.credentials import (
    CredentialBody,
    CredentialPatch,
    CredentialSchema,
    CredentialsQuery,
)
from api.schemas.keys import BecauseQuery
from api.surface import surface
from orch8.runtime import vault
from orch8.storage import credentials as stored
from orch8.storage.transaction import Row

blueprint: Final = Blueprint("credentials", __name__)

_BODY, _PATCH = CredentialBody(), CredentialPatch()
_LIST, _BECAUSE = CredentialsQuery(), BecauseQuery()
_SHOWN_IF_SET: Final = ("expires_at", "refresh_url", "description")
_LISTED: Final = 100


@blueprint.post("/credentials")
@operation(
    "Keep a credential",
    body=CredentialBody,
    answers={201: CredentialSchema},
    errors=(403, 409),
    headers=("X-Actor",),
)
def create() -> Response:
    """Steps refer to it by credentials://<id>; its secret is sealed and never shown."""
    body = requests.body(_BODY)
    tenant = caller().tenant_or_default((body.pop("tenant_id", None) or "").strip() or None)
    because = requests.because(body.pop("reason", None))
    credential_id, here = body.pop("id"), surface()
    given = {"kind": vault.KINDS[0], **body}
    with here.office.begin() as tx:
        row = vault.create(here.office, tx, credential_id, tenant, given, because)
    return answer(_shown(row), 201)


@blueprint.get("/credentials")
@operation("List credentials, by id", query=CredentialsQuery, answers={200: Many(CredentialSchema)})
def list_all() -> Response:
    """Never a secret."""
    asked = requests.query(_LIST)
    tenant = caller().tenant_of_list(asked.get("tenant_id"))
    with surface().office.begin() as tx:
        rows = stored.credentials_of(tx, tenant, asked.get("limit", _LISTED))
    return answer([_shown(row) for row in rows])


@blueprint.get("/credentials/<credential_id>")
@operation("Read a credential", answers={200: CredentialSchema}, errors=(404,))
def read(credential_id: str) -> Response:
    """All of it but what is secret."""
    with surface().office.begin() as tx:
        return answer(_shown(vault.show(tx, credential_id, caller().tenant)))


@blueprint.patch("/credentials/<credential_id>")
@operation(
    "Change a credential",
    body=CredentialPatch,
    answers={200: CredentialSchema},
    errors=(404,),
    headers=("X-Actor",),
)
def change(credential_id: str) -> Response:
    """Calls carry the new secret from now on, also those that are repeated."""
    body = requests.body(_PATCH)
    because = requests.because(body.pop("reason", None))
    here, tenant = surface(), caller().tenant
    with here.office.begin() as tx:
        row = vault.change(here.office, tx, credential_id, body, because, tenant_id=tenant)
    return answer(_shown(row))


@blueprint.delete("/credentials/<credential_id>")
@operation(
    "Delete a credential",
    query=BecauseQuery,
    answers={204: None},
    errors=(404,),
    headers=("X-Actor",),
)
def delete(credential_id: str) -> Response:
    """Steps that refer to it fail from now on."""
    because = requests.because(requests.query(_BECAUSE).get("reason"))
    with surface().office.begin() as tx:
        vault.delete(tx, credential_id, because, tenant_id=caller().tenant)
    return nothing()


def _shown(row: Row) -> dict[str, Any]:
    shown: dict[str, Any] = row._asdict()
    return {
        name: value
        for name, value in shown.items()
        if value is not None or name not in _SHOWN_IF_SET
    }
