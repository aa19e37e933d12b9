"""The routes of pools: lists of resources that callers keep, and that orch8 itself does not use."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, Response

from api import requests
from api.answers import answer, nothing
from api.auth import caller
from api.operations import Many, operation
from api.schemas.pools import (
    PoolBody,
    PoolSchema,
    PoolsQuery,
    ResourceBody,
    ResourcePatch,
    ResourceSchema,
)
from api.surface import surface
from orch8.runtime import pools
from orch8.storage import pools as stored
from orch8.storage.transaction import Row

blueprint: Final = Blueprint("pools", __name__)

LISTED: Final = 1000
_CREATE, _LIST, _ADD, _CHANGE = PoolBody(), PoolsQuery(), ResourceBody(), ResourcePatch()


@blueprint.post("/pools")
@operation(
    "Open a pool",
    body=PoolBody,
    answers={201: PoolSchema},
    errors=(403,),
    headers=("X-Actor",),
)
def create() -> Response:
    """A pool is a list of resources."""
    body = requests.body(_CREATE)
    tenant = caller().tenant_or_default((body.get("tenant_id") or "").strip() or None)
    strategy = body.get("strategy", stored.STRATEGIES[0])
    with surface().office.begin() as tx:
        row = pools.create(tx, tenant, body["name"], strategy, requests.because())
    return answer(row._asdict(), 201, {"Location": f"/pools/{row.id}"})


@blueprint.get("/pools")
@operation("List a tenant's pools", query=PoolsQuery, answers={200: Many(PoolSchema)})
def list_all() -> Response:
    """The oldest first, at most 1000; none without a tenant."""
    asked = requests.query(_LIST)
    tenant = caller().tenant_of_list(asked.get("tenant_id")) or ""
    with surface().office.begin() as tx:
        rows = stored.pools_of(tx, tenant, LISTED)
    return answer([row._asdict() for row in rows])


@blueprint.get("/pools/<pool_id>")
@operation("Read a pool", answers={200: PoolSchema}, errors=(404,))
def read(pool_id: str) -> Response:
    """Without its resources."""
    wanted = requests.path_id(pool_id)
    with surface().office.begin() as tx:
        return answer(pools.found(tx, wanted, caller().tenant)._asdict())


@blueprint.delete("/pools/<pool_id>")
@operation("Delete a pool", answers={204: None}, errors=(404,), headers=("X-Actor",))
def delete(pool_id: str) -> Response:
    """With all that is in it."""
    wanted = requests.path_id(pool_id)
    with surface().office.begin() as tx:
        pools.delete(tx, wanted, requests.because(), tenant_id=caller().tenant)
    return nothing()


@blueprint.post("/pools/<pool_id>/resources")
@operation(
    "Add a resource to a pool",
    body=ResourceBody,
    answers={201: ResourceSchema},
    errors=(404,),
    headers=("X-Actor",),
)
def add(pool_id: str) -> Response:
    """There may be several with the same key."""
    wanted, body = requests.path_id(pool_id), requests.body(_ADD)
    with surface().office.begin() as tx:
        row = pools.add(tx, wanted, body, requests.because(), tenant_id=caller().tenant)
    return answer(_resource(row), 201)


@blueprint.get("/pools/<pool_id>/resources")
@operation("List the resources of a pool", answers={200: Many(ResourceSchema)}, errors=(404,))
def resources(pool_id: str) -> Response:
    """The oldest first."""
    wanted = requests.path_id(pool_id)
    with surface().office.begin() as tx:
        pools.found(tx, wanted, caller().tenant)
        rows = stored.resources_of(tx, wanted, pools.MOST_RESOURCES)
    return answer([_resource(row) for row in rows])


@blueprint.put("/pools/<pool_id>/resources/<resource_id>")
@operation(
    "Change a resource of a pool",
    body=ResourcePatch,
    answers={200: ResourceSchema},
    errors=(404,),
    headers=("X-Actor",),
)
def change(pool_id: str, resource_id: str) -> Response:
    """What is not named stays as it is."""
    wanted, which = requests.path_id(pool_id), requests.path_id(resource_id)
    body = requests.body(_CHANGE)
    with surface().office.begin() as tx:
        row = pools.change(tx, wanted, which, body, requests.because(), tenant_id=caller().tenant)
    return answer(_resource(row))


@blueprint.delete("/pools/<pool_id>/resources/<resource_id>")
@operation("Delete a resource of a pool", answers={204: None}, errors=(404,), headers=("X-Actor",))
def remove(pool_id: str, resource_id: str) -> Response:
    """204 even if there is none: only the pool has to be there."""
    wanted, which = requests.path_id(pool_id), requests.path_id(resource_id)
    with surface().office.begin() as tx:
        pools.remove(tx, wanted, which, requests.because(), tenant_id=caller().tenant)
    return nothing()


def _resource(row: Row) -> dict[str, Any]:
    shown: dict[str, Any] = row._asdict()
    for name in ("daily_usage_date", "warmup_start"):
        shown[name] = None if shown[name] is None else shown[name].isoformat()
    return shown
