"""Sequences: published versions, which never change, and which of them can be found."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from orch8.storage.transaction import Row, Tx, dumps

_COLUMNS = (
    "id, tenant_id, namespace, name, version, form, status, deprecated, body, sha256, created_at, "
    "derived_from, injected"
)


def insert_sequence(
    tx: Tx,
    *,
    sequence_id: UUID,
    tenant_id: str,
    namespace: str,
    name: str,
    version: int | None,
    form: str,
    status: str,
    body: Any,
    sha256: bytes,
) -> Row | None:
    """The new version's row; without a number it is the next one. None when the id or the number
    is taken. Publishing two versions of a name at once, one waits for the other.
    """
    tx.run(
        "SELECT pg_advisory_xact_lock(hashtextextended(%(k)s, 0))",
        {"k": f"{tenant_id}/{namespace}/{name}"},
    )
    sql = f"""
    INSERT INTO sequences (id, tenant_id, namespace, name, version, form, status, body, sha256)
    VALUES (%(id)s, %(tenant)s, %(namespace)s, %(name)s, COALESCE(%(version)s, 1 + COALESCE((
        SELECT max(version) FROM sequences
        WHERE tenant_id = %(tenant)s AND namespace = %(namespace)s AND name = %(name)s), 0)),
        %(form)s, %(status)s, %(body)s::jsonb, %(sha256)s)
    ON CONFLICT DO NOTHING RETURNING {_COLUMNS}"""
    return tx.one(
        sql,
        {
            "id": sequence_id, "tenant": tenant_id, "namespace": namespace, "name": name,
            "version": version, "form": form, "status": status, "body": dumps(body),
            "sha256": sha256,
        },
    )  # fmt: skip


def sequence_by_id(tx: Tx, sequence_id: UUID) -> Row | None:
    """One version, also one that was deleted: what ran by it is read with it."""
    return tx.one(f"SELECT {_COLUMNS} FROM sequences WHERE id = %(id)s", {"id": sequence_id})


def standing(tx: Tx, sequence_id: UUID, *, lock: bool = False) -> Row | None:
    """One version, unless it was deleted."""
    sql = f"""SELECT {_COLUMNS} FROM sequences WHERE id = %(id)s AND deleted_at IS NULL
              {"FOR UPDATE" if lock else ""}"""
    return tx.one(sql, {"id": sequence_id})


def standing_now(tx: Tx, sequence_id: UUID) -> Row:
    """Whether the version ``stands``, and the clock's ``moment`` and ``rate``."""
    sql = "SELECT moment, pace AS rate, stands FROM orch8_standing_43(%(id)s)"
    return tx.rows(sql, {"id": sequence_id})[0]


def sequence_by_name(
    tx: Tx, tenant_id: str, namespace: str, name: str, version: int | None = None
) -> Row | None:
    """The version asked for, even if deprecated; without one the newest that is not."""
    sql = f"""SELECT {_COLUMNS} FROM sequences
              WHERE tenant_id = %(tenant)s AND namespace = %(namespace)s AND name = %(name)s
                AND deleted_at IS NULL
                AND CASE WHEN %(version)s::integer IS NULL THEN NOT deprecated
                    ELSE version = %(version)s END
              ORDER BY version DESC LIMIT 1"""
    return tx.one(
        sql, {"tenant": tenant_id, "namespace": namespace, "name": name, "version": version}
    )


def version_now(
    tx: Tx, tenant_id: str, namespace: str, name: str, version: int | None = None
) -> Row:
    """The ``id`` of the version that sequence_by_name finds, None if there is none; and the clock's
    ``moment`` and ``rate``, which whoever starts an instance of it needs too.
    """
    sql = """SELECT moment, pace AS rate, version_id AS id
             FROM orch8_version_43(%(tenant)s, %(namespace)s, %(name)s, %(version)s)"""
    return tx.rows(
        sql, {"tenant": tenant_id, "namespace": namespace, "name": name, "version": version}
    )[0]


def list_sequences(
    tx: Tx,
    *,
    tenant_id: str | None = None,
    namespace: str | None = None,
    name: str | None = None,
    live: bool = False,
    limit: int = 200,
    offset: int = 0,
) -> list[Row]:
    """Versions by tenant, namespace and name, the newest first."""
    sql = f"""SELECT {_COLUMNS} FROM sequences
              WHERE (%(tenant)s::text IS NULL OR tenant_id = %(tenant)s)
                AND (%(namespace)s::text IS NULL OR namespace = %(namespace)s)
                AND (%(name)s::text IS NULL OR name = %(name)s) AND NOT (%(live)s AND deprecated)
                AND deleted_at IS NULL
              ORDER BY tenant_id, namespace, name, version DESC LIMIT %(limit)s OFFSET %(offset)s"""
    return tx.rows(
        sql,
        {
            "tenant": tenant_id,
            "namespace": namespace,
            "name": name,
            "live": live,
            "limit": limit,
            "offset": offset,
        },
    )


def deprecate(tx: Tx, sequence_id: UUID) -> bool:
    """The version is no longer found by name; whether there is one."""
    return (
        tx.run("UPDATE sequences SET deprecated = true WHERE id = %(id)s", {"id": sequence_id}) > 0
    )


def set_status(tx: Tx, sequence_id: UUID, status: str, *, deprecated: bool) -> None:
    """The version has this status; with ``deprecated`` its name no longer finds it."""
    sql = """UPDATE sequences SET status = %(status)s, deprecated = deprecated OR %(deprecated)s
             WHERE id = %(id)s"""
    tx.run(sql, {"id": sequence_id, "status": status, "deprecated": deprecated})


def delete(tx: Tx, sequence_id: UUID) -> bool:
    """Nobody finds the version any more; False, and nothing has changed, while an instance of it
    has not ended.
    """
    sql = """UPDATE sequences SET deprecated = true, deleted_at = clock_timestamp()
             WHERE id = %(id)s AND NOT EXISTS (
                 SELECT FROM instances WHERE finished_at IS NULL
                     AND sequence_id = ANY(ARRAY(SELECT v.id FROM sequences v
                         WHERE v.id = %(id)s OR v.derived_from = %(id)s)))"""
    return tx.run(sql, {"id": sequence_id}) > 0
