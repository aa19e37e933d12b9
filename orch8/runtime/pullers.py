"""pullers: the pull workers that have polled, and how much each of them has now. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from orch8.storage import fleet, tasks
from orch8.storage.transaction import Tx


@dataclass
class Puller:
    """A pull worker. One that polls for several tenants is shown as the newest of them knows it."""

    tenant_id: str
    worker_id: str
    handlers: list[str]
    queues: list[str]
    version: str | None
    last_seen_at: datetime
    in_flight: int = 0


def known(tx: Tx, tenant_id: str | None) -> list[Puller]:
    """The pull workers of a tenant (None: of all), the last seen first."""
    found: dict[str, Puller] = {}
    for row in fleet.pull_workers(tx, tenant_id):
        earlier = found.setdefault(row.worker_id, Puller(**row._asdict()))
        earlier.handlers = sorted({*earlier.handlers, *row.handlers})
        earlier.queues = sorted({*earlier.queues, *row.queues})
    for row in tasks.in_flight(tx, tenant_id):
        if row.worker_id in found:
            found[row.worker_id].in_flight += row.n
    return list(found.values())
