"""The routes of plugins, which are declared here and run by nobody."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, Response

from api import declarations, requests
from api.answers import answer, nothing
from api.auth import caller
from api.operations import Many, operation
from api.schemas.declarations import DeclarationsQuery, PluginBody, PluginPatch, PluginSchema
from api.schemas.keys import BecauseQuery
from api.surface import surface
from orch8.runtime import declared
from orch8.runtime.declared import PLUGIN
from orch8.storage.transaction import Row

blueprint: Final = Blueprint("plugins", __name__)

_BODY, _PATCH = PluginBody(), PluginPatch()


@blueprint.post("/plugins")
@operation(
    "Declare a plugin",
    body=PluginBody,
    answers={201: PluginSchema},
    errors=(403, 409),
    headers=("X-Actor",),
)
def create() -> Response:
    """It is kept and shown; no step is run by it."""
    body = requests.body(_BODY)
    tenant, because = declarations.tenant_of(body), requests.because(body.pop("reason", None))
    name = body.pop("name")
    with surface().office.begin() as tx:
        made = {"enabled": True, "config": {}, **body}
        return answer(_shown(declared.create(tx, PLUGIN, tenant, name, made, because)), 201)


@blueprint.get("/plugins")
@operation("List plugins, by name", query=DeclarationsQuery, answers={200: Many(PluginSchema)})
def list_all() -> Response:
    """A tenant's, or all that may be seen."""
    return answer([_shown(row) for row in declarations.listed(PLUGIN)])


@blueprint.get("/plugins/<name>")
@operation("Read a plugin", answers={200: PluginSchema}, errors=(404, 409))
def read(name: str) -> Response:
    """As it was declared."""
    return answer(_shown(declarations.read(PLUGIN, name)))


@blueprint.patch("/plugins/<name>")
@operation(
    "Change a plugin",
    body=PluginPatch,
    answers={200: PluginSchema},
    errors=(404, 409),
    headers=("X-Actor",),
)
def change(name: str) -> Response:
    """What is left out stays."""
    body = requests.body(_PATCH)
    because = requests.because(body.pop("reason", None))
    with surface().office.begin() as tx:
        row = declared.change(tx, PLUGIN, name, body, because, tenant_id=caller().tenant)
    return answer(_shown(row))


@blueprint.delete("/plugins/<name>")
@operation(
    "Delete a plugin",
    query=BecauseQuery,
    answers={204: None},
    errors=(404, 409),
    headers=("X-Actor",),
)
def delete(name: str) -> Response:
    """Nothing ran by it."""
    declarations.drop(PLUGIN, name)
    return nothing()


def _shown(row: Row) -> dict[str, Any]:
    return declarations.shown(row, "name")
