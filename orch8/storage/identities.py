"""Business keys and correlations: who has a key, and which open instances a message means."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from orch8.storage.transaction import Tx, dumps


def key_holder(tx: Tx, tenant_id: str, key: str) -> UUID | None:
    """The instance that has a business key."""
    sql = "SELECT instance_id FROM business_keys WHERE tenant_id = %(tenant)s AND key = %(key)s"
    row = tx.one(sql, {"tenant": tenant_id, "key": key})
    return None if row is None else row.instance_id


def correlated(tx: Tx, tenant_id: str, values: Mapping[str, str], limit: int) -> list[UUID]:
    """Up to ``limit`` open instances of a tenant that have all of these values under these names,
    the newest first.
    """
    sql = """
    SELECT c.instance_id FROM json_to_recordset(%(wanted)s::json) AS r(name text, value text)
    JOIN correlations c ON c.tenant_id = %(tenant)s AND c.name = r.name AND c.value = r.value
    GROUP BY c.instance_id HAVING count(*) = %(names)s
    ORDER BY c.instance_id DESC LIMIT %(limit)s"""
    wanted = [{"name": name, "value": value} for name, value in values.items()]
    rows = tx.rows(
        sql, {"tenant": tenant_id, "wanted": dumps(wanted), "names": len(wanted), "limit": limit}
    )
    return [row.instance_id for row in rows]
