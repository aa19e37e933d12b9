"""Resealing: what tables keep sealed is sealed with the present key, a page at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from orch8.storage.attention import decision_place
from orch8.storage.checkpoints import checkpoint_place
from orch8.storage.cipher import output_place, progress_place
from orch8.storage.instances import FIRST, Page, state_place
from orch8.storage.traces import trace_place
from orch8.storage.transaction import Tx, dumps

MOST_BYTES: Final = 4 * 1024 * 1024  # of values in one page, as they are stored


@dataclass(frozen=True, slots=True)
class Kept:
    """Values in a table whose rows are found by an instance's id and a ``key``. ``written`` is what
    is assigned when the value becomes ``r.value``.
    """

    table: str
    key: str
    key_type: str
    value: str
    written: str
    place: Callable[[Any, Any], str]


KEPT: Final = (
    Kept("steps", "node_key", "text", "t.output", "output = r.value", output_place),
    Kept(
        "steps", "node_key", "text", "t.progress -> 'checkpoint'",
        "progress = jsonb_set(t.progress, '{checkpoint}', r.value)", progress_place,
    ),
    Kept("instance_state", "key", "text", "t.value", "value = r.value", state_place),
    Kept("traces", "id", "uuid", "t.output", "output = r.value", trace_place),
    Kept(
        "checkpoints", "id", "uuid", "t.checkpoint_data", "checkpoint_data = r.value",
        checkpoint_place,
    ),
    Kept("decisions", "id", "uuid", "t.output", "output = r.value", decision_place),
)  # fmt: skip


def reseal(kept: Kept, tx: Tx, limit: int, after: tuple[Any, ...] | None = None) -> Page:
    """Of up to ``limit`` rows that come after a place, of about MOST_BYTES, those whose value is
    not sealed with the present key have it sealed: how many, and the place to go on from, None at
    the end.
    """
    cipher = tx.cipher
    first = "" if kept.key_type == "text" else FIRST
    instance_id, key = after or (FIRST, first)
    sql = f"""
    WITH page AS (
        SELECT t.instance_id, t.{kept.key} AS key, {kept.value} AS value FROM {kept.table} t
        WHERE (t.instance_id, t.{kept.key}) > (%(i)s, %(k)s)
        ORDER BY t.instance_id, t.{kept.key} LIMIT %(limit)s)
    SELECT instance_id, key, value FROM (
        SELECT *, COALESCE(sum(pg_column_size(value)) OVER (ORDER BY instance_id, key), 0)
            - COALESCE(pg_column_size(value), 0) AS before
        FROM page) measured
    WHERE before < %(bytes)s ORDER BY instance_id, key"""
    params = {"i": instance_id, "k": key, "limit": limit, "bytes": MOST_BYTES}
    rows = tx.rows(sql, params)
    sealed = []
    for row in rows:
        if row.value is not None and not cipher.is_current(row.value):
            place = kept.place(row.instance_id, row.key)
            value = cipher.seal_value(cipher.open_value(row.value, place), place)
            sealed.append({"i": row.instance_id, "k": row.key, "was": row.value, "value": value})
    # One that was written meanwhile is left for the next time.
    sql = f"""UPDATE {kept.table} t SET {kept.written}
              FROM json_to_recordset(%(rows)s::json)
                  AS r(i uuid, k {kept.key_type}, was jsonb, value jsonb)
              WHERE t.instance_id = r.i AND t.{kept.key} = r.k AND {kept.value} = r.was"""
    done = tx.run(sql, {"rows": dumps(sealed)}) if sealed else 0
    return done, (rows[-1].instance_id, rows[-1].key) if rows else None
