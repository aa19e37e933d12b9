"""The routes of circuit breakers: which handlers are left alone, and calling them again at once."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, Response

from api import requests
from api.answers import answer
from api.auth import DEFAULT_TENANT, caller
from api.operations import Many, operation
from api.schemas.breakers import BreakerSchema, BreakersQuery
from api.surface import surface
from orch8.errors import NotFound
from orch8.runtime import breakers
from orch8.storage import breakers as storage
from orch8.storage.breakers import Breaker

blueprint: Final = Blueprint("breakers", __name__)

_QUERY: Final = BreakersQuery()


@blueprint.get("/circuit-breakers")
@operation("List circuit breakers", query=BreakersQuery, answers={200: Many(BreakerSchema)})
def list_all() -> Response:
    """Those of the caller's tenant, or of all; handlers that were never called have none."""
    return _list(caller().tenant_of_list(requests.query(_QUERY).get("tenant_id")))


@blueprint.get("/circuit-breakers/<path:handler>")
@operation("Read the circuit breaker of a handler", answers={200: BreakerSchema}, errors=(404,))
def read(handler: str) -> Response:
    """The one of the caller's tenant. 404 before the handler was called."""
    return _read(caller().tenant or DEFAULT_TENANT, handler)


@blueprint.post("/circuit-breakers/<path:handler>/reset")
@operation(
    "Close the circuit breaker of a handler", answers={200: BreakerSchema}, headers=("X-Actor",)
)
def reset(handler: str) -> Response:
    """What waits for it is due at once."""
    return _reset(caller().tenant or DEFAULT_TENANT, handler)


@blueprint.get("/tenants/<tenant>/circuit-breakers")
@operation(
    "List the circuit breakers of a tenant", answers={200: Many(BreakerSchema)}, errors=(404,)
)
def list_of_tenant(tenant: str) -> Response:
    """Handlers that were never called have none."""
    _check(tenant)
    return _list(tenant)


@blueprint.get("/tenants/<tenant>/circuit-breakers/<path:handler>")
@operation(
    "Read the circuit breaker of a tenant's handler", answers={200: BreakerSchema}, errors=(404,)
)
def read_of_tenant(tenant: str, handler: str) -> Response:
    """404 before the handler was called."""
    _check(tenant)
    return _read(tenant, handler)


@blueprint.post("/tenants/<tenant>/circuit-breakers/<path:handler>/reset")
@operation(
    "Close the circuit breaker of a tenant's handler",
    answers={200: BreakerSchema},
    errors=(404,),
    headers=("X-Actor",),
)
def reset_of_tenant(tenant: str, handler: str) -> Response:
    """What waits for it is due at once. Of a handler that was never called nothing is kept."""
    _check(tenant)
    return _reset(tenant, handler)


def _check(tenant: str) -> None:
    if caller().tenant not in (None, tenant):
        raise NotFound(f"tenant {tenant[:60]!r}")


def _list(tenant: str | None) -> Response:
    with surface().office.begin() as tx:
        found = storage.breakers(tx, tenant)
    return answer([_shown(each) for each in found])


def _read(tenant: str, handler: str) -> Response:
    with surface().office.begin() as tx:
        found = storage.read(tx, tenant, handler)
    if found is None:
        raise NotFound(f"circuit breaker of handler {handler[:60]!r}")
    return answer(_shown(found))


def _reset(tenant: str, handler: str) -> Response:
    office = surface().office
    with office.begin() as tx:
        breakers.reset(office, tx, tenant, handler, requests.because())
    return answer(_shown(Breaker(tenant, handler)))


def _shown(found: Breaker) -> dict[str, Any]:
    known = surface().office.breakers
    shown: dict[str, Any] = {
        "tenant_id": found.tenant_id,
        "handler": found.handler,
        "state": found.state,
        "failure_count": found.failure_count,
        "failure_threshold": known.threshold,
        "cooldown_secs": known.cooldown,
    }
    if found.opened_at is not None:
        shown |= {"opened_at": found.opened_at, "retry_at": found.retry_at}
    return shown
