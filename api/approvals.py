"""The route of approvals: the steps that wait for a person's answer."""

from __future__ import annotations

from typing import Final

from flask import Blueprint, Response

from api import requests
from api.answers import answer
from api.auth import caller
from api.operations import operation
from api.schemas.approvals import ApprovalsQuery, ApprovalsSchema
from api.surface import surface
from orch8.runtime import approvals
from orch8.storage.approvals import Wanted

blueprint: Final = Blueprint("approvals", __name__)

DEFAULT_PAGE: Final = 100
MAX_PAGE: Final = 1000
_LIST: Final = ApprovalsQuery()


@blueprint.get("/approvals")
@operation(
    "List the steps that wait for a person's answer, the longest asked first",
    query=ApprovalsQuery,
    answers={200: ApprovalsSchema},
)
def list_all() -> Response:
    """Each is answered with the signal `human_input:<block_id>`."""
    asked = requests.query(_LIST)
    wanted = Wanted(
        tenant_id=caller().tenant_of_list(asked.get("tenant_id")),
        namespace=asked.get("namespace"),
        instance_id=asked.get("instance_id"),
    )
    limit = min(asked.get("limit", DEFAULT_PAGE), MAX_PAGE)
    here = surface()
    with here.office.begin() as tx:
        items = approvals.pending(
            here.office, tx, wanted, limit=limit, offset=asked.get("offset", 0)
        )
    return answer({"items": items, "total": len(items)})
