"""Buckets: what processes count that nobody scrapes, added up in one small table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from orch8.storage.transaction import Tx

LAST: Final = float("inf")  # the last bucket of a histogram, and the only one of a counter
SUM: Final = float("-inf")  # where the sum of what a histogram observed is kept

Amounts = Mapping[tuple[str, float], float]  # by metric and upper bound of the bucket


def add(tx: Tx, amounts: Amounts) -> None:
    """So much more was counted."""
    if not amounts:
        return
    # In one order, so that two processes never wait for each other in a circle.
    sql = """INSERT INTO metric_buckets AS m (metric, le, amount)
             SELECT metric, le, amount FROM unnest(
                 %(metrics)s::text[], %(bounds)s::float8[], %(amounts)s::float8[])
                 AS r(metric, le, amount) ORDER BY metric, le
             ON CONFLICT (metric, le) DO UPDATE SET amount = m.amount + excluded.amount"""
    metrics, bounds = zip(*amounts, strict=True)
    params = {"metrics": list(metrics), "bounds": list(bounds), "amounts": list(amounts.values())}
    tx.run(sql, params)


def read(tx: Tx) -> dict[tuple[str, float], float]:
    """What all processes counted so far."""
    rows = tx.rows("SELECT metric, le, amount FROM metric_buckets")
    return {(row.metric, row.le): row.amount for row in rows}
