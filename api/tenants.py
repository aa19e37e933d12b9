"""The routes of a tenant's policy: from which amounts on a decision needs two people."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, Response

from api import requests
from api.answers import answer
from api.auth import MAX_TENANT, caller
from api.operations import operation
from api.schemas.attention import PolicyBody, PolicySchema
from api.surface import surface
from orch8.errors import Forbidden, InvalidArgument
from orch8.runtime import decisions
from orch8.storage import attention
from orch8.storage.transaction import Row

blueprint: Final = Blueprint("tenants", __name__)

_POLICY = PolicyBody()


@blueprint.get("/tenants/<tenant>/policy")
@operation("Read a tenant's policy", answers={200: PolicySchema}, errors=(403,))
def read(tenant: str) -> Response:
    """Without thresholds one person decides about any amount."""
    _check(tenant)
    with surface().office.begin() as tx:
        return answer(_shown(tenant, attention.policy_of(tx, tenant)))


@blueprint.put("/tenants/<tenant>/policy")
@operation(
    "State a tenant's policy",
    body=PolicyBody,
    answers={200: PolicySchema},
    errors=(403,),
    headers=("X-Actor",),
)
def put(tenant: str) -> Response:
    """From now on these amounts need two people; decisions that wait for the second still do."""
    _check(tenant)
    body = requests.body(_POLICY)
    with surface().office.begin() as tx:
        row = decisions.put_policy(
            tx,
            tenant,
            body["two_person_above"],
            actor=requests.named_actor(),
            request_id=requests.request_id(),
        )
    return answer(_shown(tenant, row))


def _check(tenant: str) -> None:
    if caller().tenant not in (None, tenant):
        raise Forbidden(f"tenant {tenant[:60]!r} is not the caller's {caller().tenant!r}")
    if len(tenant) > MAX_TENANT or not tenant.isprintable():
        raise InvalidArgument(f"a tenant is at most {MAX_TENANT} printable characters")


def _shown(tenant: str, row: Row | None) -> dict[str, Any]:
    empty: dict[str, Any] = {"two_person_above": {}, "updated_at": None, "updated_by": None}
    return {"tenant_id": tenant, **(empty if row is None else row._asdict())}
