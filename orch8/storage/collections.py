"""Collections: how many items the for_each blocks of an instance go through."""

from __future__ import annotations

from uuid import UUID

from orch8.blocks.for_each import ITEMS, PAGE
from orch8.storage.transaction import Row, Tx

_LAST_PAGES = f"""
SELECT DISTINCT ON (block_id, path[:cardinality(path) - 1]) block_id, path, id,
    created_at,    path[cardinality(path)] * {PAGE} + jsonb_array_length(output) AS items
FROM steps WHERE instance_id = %(id)s AND handler = '@memo' AND block_id LIKE '%%' || %(items)s
    AND jsonb_typeof(output) = 'array'
ORDER BY block_id, path[:cardinality(path) - 1], round DESC, path DESC"""


def last_pages(tx: Tx, instance_id: UUID) -> list[Row]:
    """The last page of items of each for_each that was entered: ``block_id`` and ``path`` of the
    page, how many ``items`` there are in all, its ``id`` and ``created_at``.
    """
    return tx.rows(_LAST_PAGES, {"id": instance_id, "items": ITEMS})
