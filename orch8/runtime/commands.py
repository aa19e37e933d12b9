"""commands: pull workers are told to drain, to reload, to answer, or to take a place.

A command is a row that its worker finds when it asks, and deletes when it has done it. What a
worker does about one is the worker's own affair.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from orch8.errors import NotFound
from orch8.runtime.because import Because
from orch8.runtime.cluster import INSTALLATION
from orch8.storage import commands
from orch8.storage.transaction import Row, Tx


def tell(tx: Tx, worker_id: str, command: str, payload: Any, because: Because) -> Row:
    """The worker finds the command when it asks next, whether it is known or not."""
    row = commands.tell(tx, worker_id, command, payload)
    _note(tx, row, "worker.told", because)
    return row


def forget(tx: Tx, command_id: UUID, because: Because) -> None:
    """The command was done, or is not wanted any more. Raises NotFound."""
    row = commands.forget(tx, command_id)
    if row is None:
        raise NotFound(f"worker command {command_id}")
    _note(tx, row, "worker.command_removed", because)


def _note(tx: Tx, row: Row, action: str, because: Because) -> None:
    body = {"worker_id": row.worker_id, "command": row.command, "id": str(row.id)}
    because.note(tx, INSTALLATION, action, body)
