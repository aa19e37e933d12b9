"""pools: lists of resources that callers keep. They have no effect on instances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from orch8.errors import InvalidArgument, NotFound
from orch8.runtime.because import Because
from orch8.storage import pools
from orch8.storage.ids import uuid7
from orch8.storage.transaction import Row, Tx

MOST_RESOURCES: Final = 10_000  # in one pool


def create(tx: Tx, tenant_id: str, name: str, strategy: str, because: Because) -> Row:
    """The pool is there. Another one may have the same name."""
    row = pools.insert(tx, uuid7(), tenant_id, name, strategy)
    _note(tx, row, "pool.created", because, {"name": name})
    return row


def found(tx: Tx, pool_id: UUID, tenant_id: str | None) -> Row:
    """The pool. Raises NotFound if it is not there or another tenant's (None: anybody's)."""
    row = pools.read(tx, pool_id, tenant_id)
    if row is None:
        raise NotFound(f"pool {pool_id}")
    return row


def delete(tx: Tx, pool_id: UUID, because: Because, *, tenant_id: str | None) -> None:
    """The pool is gone with all that is in it. Raises NotFound."""
    row = found(tx, pool_id, tenant_id)
    pools.delete(tx, pool_id)
    _note(tx, row, "pool.deleted", because, {"name": row.name})


def add(
    tx: Tx, pool_id: UUID, given: Mapping[str, Any], because: Because, *, tenant_id: str | None
) -> Row:
    """The pool has this resource besides; its key may be there already. Raises NotFound, and
    InvalidArgument beyond MOST_RESOURCES.
    """
    row = found(tx, pool_id, tenant_id)
    if pools.count_resources(tx, pool_id) >= MOST_RESOURCES:
        raise InvalidArgument(f"a pool has at most {MOST_RESOURCES} resources; delete some first")
    resource = pools.insert_resource(tx, uuid7(), pool_id, given)
    _note(tx, row, "pool.resource_added", because, _named(resource))
    return resource


def change(
    tx: Tx, pool_id: UUID, resource_id: UUID, changes: Mapping[str, Any], because: Because, *,
    tenant_id: str | None,
) -> Row:  # fmt: skip
    """The resource with these members changed. Raises NotFound."""
    row = found(tx, pool_id, tenant_id)
    resource = pools.change_resource(tx, pool_id, resource_id, changes)
    if resource is None:
        raise NotFound(f"resource {resource_id} of pool {pool_id}")
    _note(tx, row, "pool.resource_changed", because, _named(resource))
    return resource


def remove(
    tx: Tx, pool_id: UUID, resource_id: UUID, because: Because, *, tenant_id: str | None
) -> None:
    """The pool has no such resource, whether it had or not. Raises NotFound of the pool."""
    row = found(tx, pool_id, tenant_id)
    if pools.delete_resource(tx, pool_id, resource_id):
        _note(tx, row, "pool.resource_removed", because, {"resource": str(resource_id)})


def _named(resource: Row) -> dict[str, str]:
    return {"resource": str(resource.id), "resource_key": resource.resource_key}


def _note(tx: Tx, row: Row, action: str, because: Because, more: Mapping[str, str]) -> None:
    because.note(tx, row.tenant_id, action, {"pool": str(row.id), **more})
