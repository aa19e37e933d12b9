"""What the database knows of the limits when Redis does not: calls made, and processes alive."""

from __future__ import annotations

import time
from collections.abc import Sequence
from uuid import UUID

import structlog

from orch8.errors import Orch8Error
from orch8.limits import Limit
from orch8.runtime.office import Office
from orch8.runtime.preparing import Limits, holder
from orch8.storage import audit, fleet

log = structlog.get_logger(__name__)

REFRESH = 1.0  # seconds: how soon a process that has started or gone is counted


class Standing:
    """Reads for the gate of one process. Used by the pump's own thread only."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._live: int | None = None
        self._read_at = float("-inf")

    def used(
        self, tenant_id: str, limit: Limit, waiting: Sequence[UUID]
    ) -> tuple[list[float], list[str]]:
        """How many seconds ago units of a key were used in its last window, and the holders of its
        leases that may be in flight. A unit of a call that came to nothing may be among them, and
        so is every step of other processes that is claimed; those in ``waiting`` are known to be
        unsent.
        """
        made: list[float] = []
        with self._office.begin() as tx:
            flying = audit.calls_in_flight(tx, tenant_id, limit.key, waiting)
            if limit.max is not None:
                window = limit.window + limit.slack
                made = audit.call_ages(tx, tenant_id, limit.key, window, limit.max)
        units = sum(row.units for row in flying)
        return [0.0] * units + made, [holder(row.id, row.epoch) for row in flying]

    def limits(self) -> Limits:
        """The stated limits, as fresh as they are for steps that are claimed now; those of before
        while the database does not answer.
        """
        try:
            return self._office.limits_now()
        except Orch8Error as problem:
            log.warning("limits.unknown", error=problem.detail)
            return self._office.limits_before()

    def live(self) -> int | None:
        """How many worker processes are alive; None if that is not known."""
        if time.monotonic() - self._read_at > REFRESH:
            try:
                with self._office.begin() as tx:
                    self._live = sum(1 for row in fleet.fleet(tx) if row.alive)
            except Orch8Error as problem:
                log.warning("fleet.unknown", error=problem.detail)
                self._live = None
            self._read_at = time.monotonic()
        return self._live
