"""The routes of rollback policies, which are declared here and acted upon by nobody."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, Response

from api import declarations, requests
from api.answers import answer, nothing
from api.operations import Many, operation
from api.schemas.declarations import DeclarationsQuery, RollbackPolicyBody, RollbackPolicySchema
from api.schemas.keys import BecauseQuery
from api.surface import surface
from orch8.runtime import declared
from orch8.runtime.declared import ROLLBACK_POLICY
from orch8.storage.transaction import Row

blueprint: Final = Blueprint("rollbacks", __name__)

_BODY = RollbackPolicyBody()


@blueprint.post("/rollback-policies")
@operation(
    "State the rollback policy of a sequence",
    body=RollbackPolicyBody,
    answers={201: RollbackPolicySchema},
    errors=(403,),
    headers=("X-Actor",),
)
def create() -> Response:
    """Instead of the one that it had. It is kept and shown; nothing is rolled back by it."""
    body = requests.body(_BODY)
    tenant, because = declarations.tenant_of(body), requests.because(body.pop("reason", None))
    name = body.pop("sequence_name")
    made = {"cooldown_secs": 0, "confirmation_window_secs": 0, **body}
    with surface().office.begin() as tx:
        row = declared.put(tx, ROLLBACK_POLICY, tenant, name, made, because)
    return answer(_shown(row), 201)


@blueprint.get("/rollback-policies")
@operation(
    "List rollback policies, by sequence",
    query=DeclarationsQuery,
    answers={200: Many(RollbackPolicySchema)},
)
def list_all() -> Response:
    """A tenant's, or all that may be seen."""
    return answer([_shown(row) for row in declarations.listed(ROLLBACK_POLICY)])


@blueprint.get("/rollback-policies/<name>")
@operation(
    "Read the rollback policy of a sequence",
    answers={200: RollbackPolicySchema},
    errors=(404, 409),
)
def read(name: str) -> Response:
    """As it was stated."""
    return answer(_shown(declarations.read(ROLLBACK_POLICY, name)))


@blueprint.delete("/rollback-policies/<name>")
@operation(
    "Delete the rollback policy of a sequence",
    query=BecauseQuery,
    answers={204: None},
    errors=(404, 409),
    headers=("X-Actor",),
)
def delete(name: str) -> Response:
    """The sequence has none."""
    declarations.drop(ROLLBACK_POLICY, name)
    return nothing()


def _shown(row: Row) -> dict[str, Any]:
    return declarations.shown(row, "sequence_name")
