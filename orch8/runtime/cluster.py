"""cluster: which processes there are, and taking one out of service."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from orch8.runtime.because import Because
from orch8.storage import fleet
from orch8.storage.transaction import Row, Tx

ACTIVE, DRAINING, STOPPED = "active", "draining", "stopped"
# Whose audit log tells of what is nobody's in particular.
INSTALLATION: Final = "default"


def state_of(row: Row) -> str:
    """How a process of ``fleet.nodes`` is: stopped once it is silent, or drained to the end."""
    if row.drained_at is not None or not row.alive:
        return STOPPED
    return ACTIVE if row.draining_at is None else DRAINING


def drain(tx: Tx, node_id: UUID, because: Because) -> bool:
    """The process claims nothing any more from its next heartbeat on, finishes what it holds, and
    ends; whether there is such a process. Asking again changes nothing.
    """
    row = fleet.drain(tx, node_id)
    if row is None:
        return False
    if row.news:
        body = {"node": str(node_id), "name": row.node}
        because.note(tx, INSTALLATION, "node.draining", body)
    return True
