"""Collections: how many items the for_each blocks of an instance go through."""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from orch8.blocks.for_each import ITEMS, PAGE
from orch8.storage.cipher import output_place
from orch8.storage.transaction import Tx

_LAST_PAGES: Final = """
SELECT DISTINCT ON (block_id, path[:cardinality(path) - 1]) block_id, path, id, created_at,
    node_key, output
FROM steps WHERE instance_id = %(id)s AND handler = '@memo' AND block_id LIKE '%%' || %(items)s
    AND state <> 'superseded'
ORDER BY block_id, path[:cardinality(path) - 1], round DESC, path DESC"""


class LastPage(NamedTuple):
    """The last page of items of a for_each that was entered, and how many items there are in all;
    ``block_id`` and ``path`` are the page's.
    """

    block_id: str
    path: tuple[int, ...]
    id: UUID
    created_at: datetime
    items: int


def last_pages(tx: Tx, instance_id: UUID) -> list[LastPage]:
    """The last page of each collection of the instance."""
    found = []
    for row in tx.rows(_LAST_PAGES, {"id": instance_id, "items": ITEMS}):
        page = tx.cipher.open_value(row.output, output_place(instance_id, row.node_key))
        if isinstance(page, list):
            items = row.path[-1] * PAGE + len(page)
            found.append(LastPage(row.block_id, tuple(row.path), row.id, row.created_at, items))
    return found
