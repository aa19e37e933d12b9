"""ahead: the months to come have their partitions before the first instance needs them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

import structlog

from orch8.errors import Unavailable
from orch8.storage import partitions
from orch8.storage.transaction import Tx

log = structlog.get_logger(__name__)

EVERY: Final = 60.0  # seconds between looks
STRAYS_EVERY: Final = 60  # looks between warnings


class Ahead:
    """Looks now and then. A month that lacks its partition stops nobody: the partition of the rest
    takes its instances until they have one of their own.
    """

    def __init__(self) -> None:
        self._looked_at = float("-inf")
        self._looks = 0

    def look(self, begin: Callable[[], AbstractContextManager[Tx]]) -> int:
        """Unless it was looked a moment ago: the months to come have partitions; how many are new.

        The log warns of what could not be made, which the next look tries again, and of instances
        that are in no month.
        """
        if time.monotonic() - self._looked_at < EVERY:
            return 0
        self._looked_at = time.monotonic()
        with begin() as tx:
            lacking = partitions.lacking(tx)
            strays = partitions.strays(tx) if self._looks % STRAYS_EVERY == 0 else 0
        self._looks += 1
        if strays:
            log.warning("months.strays", instances=strays, hint="a clock is wrong, or was")
        return sum(self._make(begin, table) for table in lacking)

    def _make(self, begin: Callable[[], AbstractContextManager[Tx]], table: str) -> int:
        try:
            with begin() as tx:  # one table at a time: fewer locks at once
                made = partitions.make_ahead(tx, table)
        except Unavailable as problem:
            log.warning("months.not_made", table=table, error=problem.detail)
            return 0
        if made:
            log.info("months.made", table=table, months=made)
        return made
