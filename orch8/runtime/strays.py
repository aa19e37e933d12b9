"""strays: claims that a process holds by the database's word without knowing it are taken back."""

from __future__ import annotations

from collections.abc import Container
from typing import Final
from uuid import UUID

from orch8.runtime.office import Office
from orch8.runtime.preparing import Task
from orch8.runtime.settle import Item, Lost, settle
from orch8.storage import steps

MOST: Final = 10_000  # claims that are looked through
_UNKNOWN = Lost("this one: its claim was not confirmed, or broke on its way")


def take_back(office: Office, worker_id: UUID, known: Container[tuple[UUID, int]]) -> int:
    """The worker's claims that are not among the ``known``, by step and epoch, are nobody's any
    more; how many there were.
    """
    with office.begin() as tx:
        rows = steps.read_steps(tx, steps.claimed_by(tx, worker_id, MOST))
        lost = [
            Item(Task(row, office.routes.find(row.tenant_id, row.handler)), _UNKNOWN)
            for row in rows
            if (row.id, row.epoch) not in known
        ]
        if lost:
            settle(office, tx, lost, None)
    return len(lost)
