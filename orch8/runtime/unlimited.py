"""Keys without a limit: how often steps are called with them, so that somebody states one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

import structlog

from orch8.errors import Orch8Error
from orch8.runtime.office import Office
from orch8.runtime.preparing import Task
from orch8.storage import fleet

log = structlog.get_logger(__name__)

EVERY = 5.0  # seconds between two writes
MOST = 1000  # keys that are kept in mind between them


class Unlimited:
    """Counts in memory, and writes now and then; what a process that is killed had counted is
    missing.
    """

    def __init__(self, office: Office) -> None:
        self._office = office
        self._calls: Counter[tuple[str, str]] = Counter()
        self._written_at = float("-inf")

    def note(self, tasks: Sequence[Task]) -> None:
        """These steps are called."""
        for task in tasks:
            for key in task.unlimited:
                at = (task.row.tenant_id, key)
                if at in self._calls or len(self._calls) < MOST:
                    self._calls[at] += 1

    def write(self) -> None:
        """What was counted is in the database, at most every few seconds."""
        if not self._calls or time.monotonic() - self._written_at < EVERY:
            return
        self._written_at = time.monotonic()
        counted = [(tenant, key, calls) for (tenant, key), calls in sorted(self._calls.items())]
        try:
            with self._office.begin() as tx:
                fleet.count_unlimited(tx, counted)
        except Orch8Error as problem:
            log.warning("unlimited.not_written", error=problem.detail)
            return
        self._calls.clear()
