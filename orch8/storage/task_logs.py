"""Task logs: lines that pull workers report with their tasks, so many of each task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from orch8.storage.ids import uuid7
from orch8.storage.rows import StepRow
from orch8.storage.transaction import Row, Tx, dumps


class Kept(NamedTuple):
    """What is kept of a task's lines already."""

    lines: int
    size: int  # bytes


def kept(tx: Tx, row: StepRow) -> Kept:
    """How much the task has reported, over all its claims."""
    sql = """SELECT COALESCE(sum(jsonb_array_length(lines)), 0)::integer AS lines,
                 COALESCE(sum(size), 0)::integer AS size
             FROM task_logs WHERE instance_id = %(instance)s AND task_id = %(task)s"""
    found = tx.rows(sql, {"instance": row.instance_id, "task": row.id})[0]
    return Kept(found.lines, found.size)


def insert(tx: Tx, row: StepRow, lines: Sequence[Any], size: int) -> None:
    """These lines were reported with the task."""
    sql = """INSERT INTO task_logs (instance_id, task_id, id, tenant_id, block_id, lines, size)
             VALUES (%(instance)s, %(task)s, %(id)s, %(tenant)s, %(block)s, %(lines)s::jsonb,
                 %(size)s)"""
    params = {
        "instance": row.instance_id, "task": row.id, "id": uuid7(), "tenant": row.tenant_id,
        "block": row.block_id, "lines": dumps(list(lines)), "size": size,
    }  # fmt: skip
    tx.run(sql, params)


def lines_of(tx: Tx, instance_id: UUID, limit: int) -> list[Row]:
    """The lines that were reported with an instance's tasks: ``block_id`` and ``line``; of the
    first ``limit`` reports, in their order.
    """
    sql = """SELECT r.block_id, l.line FROM (
                 SELECT id, block_id, lines FROM task_logs WHERE instance_id = %(instance)s
                 ORDER BY id LIMIT %(limit)s) r,
             LATERAL jsonb_array_elements(r.lines) WITH ORDINALITY l(line, n)
             ORDER BY r.id, l.n LIMIT %(limit)s"""
    return tx.rows(sql, {"instance": instance_id, "limit": limit})
