"""sweep: what is kept for a time goes when the time is over, a little of it at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import partial
from typing import Final

import structlog

from orch8.storage import events, outbox
from orch8.storage.transaction import Tx

log = structlog.get_logger(__name__)

EVERY: Final = 300.0  # seconds between sweeps
AT_ONCE: Final = 1000  # rows of a table
DELIVERIES_KEPT: Final = timedelta(days=30)

SWEEPS: Final[Mapping[str, Callable[[Tx], int]]] = {
    "deliveries": partial(outbox.forget, older_than=DELIVERIES_KEPT, most=AT_ONCE),
    "events": partial(events.forget, most=AT_ONCE),
}


class Sweep:
    """Sweeps now and then."""

    def __init__(self) -> None:
        self._swept_at = float("-inf")

    def look(self, begin: Callable[[], AbstractContextManager[Tx]]) -> dict[str, int]:
        """Unless that was done a moment ago: of each table up to AT_ONCE rows whose time is over
        are gone; how many.
        """
        if time.monotonic() - self._swept_at < EVERY:
            return {}
        self._swept_at = time.monotonic()
        gone = {}
        for name, forget in SWEEPS.items():
            with begin() as tx:
                gone[name] = forget(tx)
        if any(gone.values()):
            log.info("swept", **gone)
        return gone
