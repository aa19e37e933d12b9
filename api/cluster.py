"""The routes of nodes: which processes there are, and taking one out of service."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from flask import Blueprint, Response

from api import requests
from api.answers import answer
from api.operations import Many, operation
from api.schemas.cluster import DrainBody, DrainedSchema, NodeProcessSchema
from api.surface import surface
from orch8.runtime import cluster
from orch8.storage import fleet
from orch8.storage.transaction import Row

blueprint: Final = Blueprint("cluster", __name__)

_DRAIN = DrainBody()


@blueprint.get("/cluster/nodes")
@operation(
    "List the processes of this installation, the oldest first",
    answers={200: Many(NodeProcessSchema)},
)
def nodes() -> Response:
    """Workers and web processes whose lease was not taken back; the one that answers among them."""
    here = surface()
    here.node.hold()
    with here.office.begin() as tx:
        return answer([_shown(row) for row in fleet.nodes(tx)])


@blueprint.post("/cluster/nodes/<node_id>/drain")
@operation(
    "Take a process out of service",
    body=DrainBody,
    body_required=False,
    answers={200: DrainedSchema},
    headers=("X-Actor",),
)
def drain(node_id: str) -> Response:
    """From its next heartbeat on it claims nothing; it ends once its calls are answered. Asking
    about a process that is gone, or was never there, is no error.
    """
    reason = requests.optional_body(_DRAIN).get("reason")
    with surface().office.begin() as tx:
        found = _is_id(node_id) and cluster.drain(tx, UUID(node_id), requests.because(reason))
    return answer({"id": node_id, "drain": found})


def _is_id(text: str) -> bool:
    """Whether a process can have this id at all; none has another."""
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _shown(row: Row) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": row.id,
        "name": row.node,
        "role": row.role,
        "status": cluster.state_of(row),
        "registered_at": row.started_at,
        "last_heartbeat_at": row.heartbeat_at,
        "drain": row.draining_at is not None,
        "capabilities_withdrawn": row.drained_at is not None,
        "lanes": row.lanes,
        "calls": row.calls,
    }
    moments = {"drain_started_at": row.draining_at, "stopped_at": row.drained_at}
    return shown | {name: at for name, at in moments.items() if at is not None}
