"""The routes of handlers: which there are, and where they are reached."""

from __future__ import annotations

from typing import Final

from flask import Blueprint, Response

from api import requests
from api.answers import answer, nothing
from api.auth import DEFAULT_TENANT, caller
from api.operations import operation
from api.schemas.handlers import HandlerBody, HandlerSchema, HandlersSchema
from api.surface import surface
from orch8.handlers.registry import HANDLERS
from orch8.runtime import registry
from orch8.storage import fleet

blueprint: Final = Blueprint("handlers", __name__)

_HANDLER = HandlerBody()


@blueprint.get("/handlers")
@operation("List the handlers that steps can name", answers={200: HandlersSchema})
def list_all() -> Response:
    """Built-in ones, those that workers polled for, and those with a registered address."""
    tenant = caller().tenant
    with surface().office.begin() as tx:
        rows = fleet.handlers(tx, tenant)
        polled = {name for row in fleet.pull_workers(tx, tenant) for name in row.handlers}
    external = sorted(polled | {row.name for row in rows})
    return answer(
        {
            "builtin": sorted(HANDLERS),
            "external": external,
            "registered": [row._asdict() for row in rows],
        }
    )


@blueprint.put("/handlers/<name>")
@operation(
    "Say where a handler is reached and what its calls may do",
    body=HandlerBody,
    answers={200: HandlerSchema},
    headers=("X-Actor",),
)
def put(name: str) -> Response:
    """The next step that names it is sent there, within a second in every process."""
    body = requests.body(_HANDLER)
    row = registry.put_handler(
        surface().office,
        name,
        tenant_id=caller().tenant or DEFAULT_TENANT,
        url=body.get("url"),
        effect=body.get("effect"),
        timeout=body["timeout"].total_ms() / 1000 if "timeout" in body else None,
        actor=requests.actor(),
        request_id=requests.request_id(),
    )
    return answer(row._asdict())


@blueprint.delete("/handlers/<name>")
@operation(
    "Forget where a handler is reached", answers={204: None}, errors=(404,), headers=("X-Actor",)
)
def delete(name: str) -> Response:
    """Its steps go to the default address again, or wait for pull workers."""
    office = surface().office
    with office.begin() as tx:
        registry.delete_handler(
            office, tx, name, tenant_id=caller().tenant or DEFAULT_TENANT, actor=requests.actor()
        )
    return nothing()
