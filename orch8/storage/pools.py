"""Pools: lists of resources that callers keep. The engine uses none of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from orch8.storage.transaction import Row, Tx

STRATEGIES: Final = ("round_robin", "weighted", "random")
CHANGEABLE: Final = (
    "resource_key", "name", "weight", "enabled", "daily_cap", "warmup_start", "warmup_days",
    "warmup_start_cap",
)  # fmt: skip
_POOL: Final = "id, tenant_id, name, strategy, round_robin_index, created_at, updated_at"
_RESOURCE: Final = (
    "id, pool_id, resource_key, name, weight, enabled, daily_cap, daily_usage, daily_usage_date, "
    "warmup_start, warmup_days, warmup_start_cap, created_at"
)


def insert(tx: Tx, pool_id: UUID, tenant_id: str, name: str, strategy: str) -> Row:
    """The new pool."""
    sql = f"""INSERT INTO pools (id, tenant_id, name, strategy)
              VALUES (%(id)s, %(tenant)s, %(name)s, %(strategy)s) RETURNING {_POOL}"""
    given = {"id": pool_id, "tenant": tenant_id, "name": name, "strategy": strategy}
    return tx.rows(sql, given)[0]


def read(tx: Tx, pool_id: UUID, tenant_id: str | None) -> Row | None:
    """The pool, if it is there and this tenant's (None: anybody's)."""
    sql = f"""SELECT {_POOL} FROM pools
              WHERE id = %(id)s AND (%(tenant)s::text IS NULL OR tenant_id = %(tenant)s)"""
    return tx.one(sql, {"id": pool_id, "tenant": tenant_id})


def pools_of(tx: Tx, tenant_id: str, limit: int) -> list[Row]:
    """The tenant's pools, the oldest first."""
    sql = f"SELECT {_POOL} FROM pools WHERE tenant_id = %(tenant)s ORDER BY id LIMIT %(limit)s"
    return tx.rows(sql, {"tenant": tenant_id, "limit": limit})


def delete(tx: Tx, pool_id: UUID) -> None:
    """The pool is gone, and its resources with it."""
    tx.run("DELETE FROM pools WHERE id = %(id)s", {"id": pool_id})


def insert_resource(tx: Tx, resource_id: UUID, pool_id: UUID, given: Mapping[str, Any]) -> Row:
    """The new resource of a pool; ``given`` has some of CHANGEABLE, the rest is as usual."""
    names = [name for name in CHANGEABLE if name in given]
    columns = ", ".join(("id", "pool_id", *names))
    values = ", ".join(f"%({name})s" for name in ("id", "pool_id", *names))
    sql = f"INSERT INTO pool_resources ({columns}) VALUES ({values}) RETURNING {_RESOURCE}"
    return tx.rows(sql, {**given, "id": resource_id, "pool_id": pool_id})[0]


def resources_of(tx: Tx, pool_id: UUID, limit: int) -> list[Row]:
    """The resources of a pool, the oldest first."""
    sql = f"""SELECT {_RESOURCE} FROM pool_resources WHERE pool_id = %(pool)s
              ORDER BY id LIMIT %(limit)s"""
    return tx.rows(sql, {"pool": pool_id, "limit": limit})


def count_resources(tx: Tx, pool_id: UUID) -> int:
    """How many resources a pool has."""
    sql = "SELECT count(*) AS n FROM pool_resources WHERE pool_id = %(pool)s"
    return int(tx.rows(sql, {"pool": pool_id})[0].n)


def change_resource(
    tx: Tx, pool_id: UUID, resource_id: UUID, changes: Mapping[str, Any]
) -> Row | None:
    """The resource with these of CHANGEABLE changed; None if the pool has no such resource."""
    names = [name for name in CHANGEABLE if name in changes]
    assigned = ", ".join(f"{name} = %({name})s" for name in names) or "name = name"
    sql = f"""UPDATE pool_resources SET {assigned}
              WHERE id = %(id)s AND pool_id = %(pool)s RETURNING {_RESOURCE}"""
    return tx.one(sql, {**changes, "id": resource_id, "pool": pool_id})


def delete_resource(tx: Tx, pool_id: UUID, resource_id: UUID) -> int:
    """The pool has no such resource; how many were deleted."""
    sql = "DELETE FROM pool_resources WHERE id = %(id)s AND pool_id = %(pool)s"
    return tx.run(sql, {"id": resource_id, "pool": pool_id})
