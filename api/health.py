"""The routes that tell how the process is: live, ready, info."""

from __future__ import annotations

from typing import Final

from flask import Blueprint, Response

import orch8
from api.answers import answer, nothing
from api.operations import operation
from api.schemas.health import InfoSchema, StatusSchema
from api.surface import surface
from orch8.errors import Unavailable
from orch8.storage import revision

blueprint: Final = Blueprint("health", __name__)

CONTRACT_VERSION: Final = 1


@blueprint.get("/health/live")
@operation("Whether the process answers", answers={200: None}, public=True)
def live() -> Response:
    """Always 200 and nothing in it: nothing else is asked."""
    return nothing(200)


@blueprint.get("/health/ready")
@operation("Whether the process can serve", answers={200: StatusSchema}, errors=(503,), public=True)
def ready() -> Response:
    """200 when the database answers and is migrated and nobody drains this process, else 503 with
    the reason. From the first 200 on the process is in the list of nodes.
    """
    node = surface().node
    if node.draining:
        raise Unavailable("this process is drained", extra={"reasons": ["draining"]})
    with surface().office.database.begin() as tx:
        at = revision.present(tx)
    needed = revision.needed()
    if at != needed:
        raise Unavailable(
            f"the database is at migration {at or 'none'}, this version needs {needed}; "
            "run `orch8 migrate`",
            extra={"reasons": ["migrations"]},
        )
    node.hold()
    return answer({"status": "ok"})


@blueprint.get("/info")
@operation("Which version this is", answers={200: InfoSchema}, public=True)
def info() -> Response:
    """Versions, and the label that the operator gave the installation."""
    settings = surface().settings
    return answer(
        {
            "version": orch8.__version__,
            "storage_schema_version": revision.needed(),
            "contract_schema_version": CONTRACT_VERSION,
            "env_label": settings.env_label or None,
            "env_color": settings.env_color or None,
        }
    )
