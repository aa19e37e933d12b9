"""History: what an instance's steps came to before they were run anew; and what that would repeat.

A superseded step keeps its row, its output and its evidence. It is no output any more: nothing
reads it but who looks for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from uuid import UUID

from orch8.storage.months import span, within
from orch8.storage.transaction import Row, Tx

MOST_NAMED: Final = 20
# Built-ins that act on other instances, which may move money in their turn.
_REACHING: Final = ("sub_sequence", "start_sequence", "emit_event", "send_signal")
# The memos of a composite stand under its id and a word of the engine's, behind an @.
_OF: Final = "split_part(s.block_id, '@', 1) = ANY(%(blocks)s)"


def supersede(tx: Tx, instance_id: UUID, blocks: Iterable[str]) -> list[Row]:
    """What these blocks came to is history; ``block_id``, ``handler`` and ``was``, the state until
    now, of each row of a step. The instance is locked.
    """
    params = {"id": instance_id, "blocks": list(blocks), **span([instance_id])}
    sql = f"""
    WITH old AS (
        SELECT s.node_key, s.state AS was FROM steps s
        WHERE s.instance_id = %(id)s AND {within("s.instance_id")} AND {_OF}
            AND s.state IN ('completed', 'failed', 'cancelled') FOR UPDATE)
    UPDATE steps s SET state = 'superseded' FROM old
    WHERE s.instance_id = %(id)s AND s.node_key = old.node_key AND {within("s.instance_id")}
    RETURNING s.block_id, s.handler, old.was"""
    return tx.rows(sql, params)


def supersede_traces(tx: Tx, instance_id: UUID, blocks: Iterable[str]) -> int:
    """What was shown among the outputs of these blocks is shown no more; how many marks. A mark of
    a block is called like it, or ``_<word>:...:<block>``.
    """
    sql = """UPDATE traces SET superseded_at = clock_timestamp()
             WHERE instance_id = %(id)s AND superseded_at IS NULL
                 AND (block_id = ANY(%(blocks)s)
                     OR (block_id LIKE '\\_%%' AND substring(block_id FROM '[^:]*$') =
                         ANY(%(blocks)s)))"""
    return tx.run(sql, {"id": instance_id, "blocks": list(blocks)})


def repeated_effects(tx: Tx, instance_id: UUID, blocks: Iterable[str]) -> list[str]:
    """The nodes of these blocks whose call may have had an effect outside that it would have again
    if they were run anew; at most MOST_NAMED of them.
    """
    sql = f"""
    SELECT s.node_key FROM steps s
    WHERE s.instance_id = %(id)s AND {within("s.instance_id")} AND {_OF} AND s.state = 'completed'
        AND (s.handler = ANY(%(reaching)s) OR (s.dispatches > 0 AND s.outcome <> 'declined'
            AND s.effect IN ('external', 'money', 'irrevocable')))
    ORDER BY s.id LIMIT %(most)s"""
    params = {
        "id": instance_id, "blocks": list(blocks), "reaching": list(_REACHING),
        "most": MOST_NAMED, **span([instance_id]),
    }  # fmt: skip
    return [row.node_key for row in tx.rows(sql, params)]


def in_doubt(tx: Tx, instance_id: UUID) -> list[str]:
    """The nodes of an instance with an attempt whose end is not known; at most MOST_NAMED."""
    sql = """SELECT DISTINCT node_key FROM doubts
             WHERE instance_id = %(id)s AND resolved_at IS NULL ORDER BY 1 LIMIT %(most)s"""
    return [row.node_key for row in tx.rows(sql, {"id": instance_id, "most": MOST_NAMED})]


def entered(tx: Tx, instance_id: UUID) -> set[str]:
    """The ids of the blocks of which the instance has a row."""
    sql = f"""SELECT DISTINCT split_part(s.block_id, '@', 1) AS block_id FROM steps s
              WHERE s.instance_id = %(id)s AND {within("s.instance_id")}"""
    params = {"id": instance_id, **span([instance_id])}
    return {row.block_id for row in tx.rows(sql, params)}
