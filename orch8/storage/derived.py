"""Derived versions: those of single instances, with blocks injected behind their sequence's own.

Nobody finds one: it is born as versions are that were deleted. Instances with the same blocks share
theirs, since its id is made of what it holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from orch8.errors import Conflict
from orch8.storage.transaction import Tx, dumps

FRESH: Final = timedelta(hours=1)  # longer than any transaction
TRIES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """A row of ``sequences``: the last ``injected`` blocks of its body are not those of
    ``derived_from``.
    """

    id: UUID
    derived_from: UUID
    injected: int
    tenant_id: str
    namespace: str
    name: str
    version: int
    form: str
    body: Any
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Repointed:
    """An instance, which is locked, runs by a derived version from now on."""

    instance_id: UUID
    by: Derived
    metadata: Any


def repoint(tx: Tx, moved: Repointed) -> None:
    """The version is there, and the instance runs by it. Where it is, is written elsewhere."""
    put(tx, moved.by)
    sql = """UPDATE instances SET sequence_id = %(sequence)s, metadata = %(metadata)s::jsonb
             WHERE id = %(id)s"""
    metadata = None if moved.metadata is None else dumps(moved.metadata)
    tx.run(sql, {"id": moved.instance_id, "sequence": moved.by.id, "metadata": metadata})


def put(tx: Tx, version: Derived) -> None:
    """The version is there, and is not forgotten before this transaction is over.

    One that is there already is not locked, unless it was not needed for FRESH: many instances may
    come to the same version at the same moment.
    """
    params = {
        "id": version.id, "tenant": version.tenant_id, "namespace": version.namespace,
        "name": version.name, "version": version.version, "form": version.form,
        "body": dumps(version.body), "sha256": version.sha256, "fresh": FRESH,
        "derived_from": version.derived_from, "injected": version.injected,
    }  # fmt: skip
    for _ in range(TRIES):  # who forgets it may come in between
        if any(tx.rows(sql, params) for sql in (_MAKE, _REFRESH, _FIND)):
            return
    raise Conflict(f"version {version.id} is being forgotten and made again; try once more")


_MAKE = """
INSERT INTO sequences (id, tenant_id, namespace, name, version, form, deprecated, body, sha256,
    deleted_at, derived_from, injected)
VALUES (%(id)s, %(tenant)s, %(namespace)s, %(name)s, %(version)s, %(form)s, true, %(body)s::jsonb,
    %(sha256)s, clock_timestamp(), %(derived_from)s, %(injected)s)
ON CONFLICT DO NOTHING RETURNING id"""
_REFRESH = """
UPDATE sequences SET created_at = clock_timestamp()
WHERE id = %(id)s AND created_at < clock_timestamp() - %(fresh)s RETURNING id"""
_FIND = "SELECT id FROM sequences WHERE id = %(id)s"


def forget_unused(tx: Tx, older_than: timedelta) -> int:
    """Derived versions that were last made that long ago, and that no instance runs by, are gone;
    how many.
    """
    sql = """DELETE FROM sequences q WHERE q.derived_from IS NOT NULL
                 AND q.created_at < clock_timestamp() - %(age)s
                 AND NOT EXISTS (SELECT FROM instances i WHERE i.sequence_id = q.id)"""
    return tx.run(sql, {"age": max(older_than, 24 * FRESH)})
