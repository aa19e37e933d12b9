"""Other months: ids as they are made then, and partitions as of an installation that is older."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from orch8.storage import ids
from orch8.storage.ids import made_at
from orch8.storage.months import OWNED, Month
from tests.support.house import House


def this_month() -> Month:
    """The month that it is."""
    return Month.at(datetime.now(UTC))


@contextmanager
def made_in(month: Month, day: int = 10) -> Iterator[None]:
    """Ids are made as on this day of the month."""
    then = made_at(month.low) + timedelta(days=day)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ids, "time", SimpleNamespace(time_ns=lambda: int(then.timestamp() * 1e9)))
        patch.setattr(ids, "_last", 0)
        yield


def installed_in(house: House, month: Month) -> None:
    """The empty house has a partition for each month since then, as if it had been installed in
    that month.
    """
    for table in OWNED:
        for name in partitions(house, table):
            if not name.endswith("_rest"):
                house.sql(f"DROP TABLE {name}")
        house.sql(
            f"CREATE TABLE {table}_{month} PARTITION OF {table} "
            f"FOR VALUES FROM (MINVALUE) TO ('{month.high}')"
        )
        house.sql(f"SELECT orch8_months_ahead('{table}')")


def partitions(house: House, table: str) -> list[str]:
    """The names of a table's partitions, in their order."""
    found = house.sql(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits "
        f"WHERE inhparent = '{table}'::regclass ORDER BY 1"
    )
    return [row.name for row in found]
