"""checkpoints: what operators and workers note about an instance. The engine reads none of it."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from orch8.errors import NotFound
from orch8.runtime.because import Because
from orch8.runtime.office import only
from orch8.storage import checkpoints, instances
from orch8.storage.ids import uuid7
from orch8.storage.rows import InstanceRow
from orch8.storage.transaction import Row, Tx

MOST_LISTED: Final = 100


def save(tx: Tx, instance_id: UUID, data: Any, *, tenant_id: str | None) -> UUID:
    """The checkpoint is kept, whatever state the instance is in; its id. Raises NotFound."""
    instance = _instance(tx, instance_id, tenant_id)
    checkpoint_id = uuid7()
    checkpoints.insert(tx, checkpoint_id, instance_id, instance.tenant_id, data)
    return checkpoint_id


def listed(tx: Tx, instance_id: UUID, *, tenant_id: str | None) -> list[Row]:
    """The instance's newest checkpoints, the newest first. Raises NotFound for the instance."""
    _instance(tx, instance_id, tenant_id)
    return checkpoints.newest(tx, instance_id, MOST_LISTED)


def latest(tx: Tx, instance_id: UUID, *, tenant_id: str | None) -> Row:
    """The instance's newest checkpoint. Raises NotFound for the instance, or if it has none."""
    _instance(tx, instance_id, tenant_id)
    rows = checkpoints.newest(tx, instance_id, 1)
    if not rows:
        raise NotFound(f"checkpoint of instance {instance_id}: it has none")
    return rows[0]


def prune(tx: Tx, instance_id: UUID, keep: int, because: Because, *, tenant_id: str | None) -> int:
    """Only the newest ``keep`` checkpoints of the instance are left; how many are gone."""
    instance = _instance(tx, instance_id, tenant_id)
    count = checkpoints.prune(tx, instance_id, keep)
    if count:
        body = {"instance": str(instance_id), "count": count}
        because.note(tx, instance.tenant_id, "checkpoints.pruned", body)
    return count


def _instance(tx: Tx, instance_id: UUID, tenant_id: str | None) -> InstanceRow:
    return only(instances.read_instances(tx, [instance_id]), instance_id, tenant_id)
