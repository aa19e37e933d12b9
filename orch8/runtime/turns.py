"""turns: tenants take turns in a lane, by their weights, so that nobody's backlog is in the way.

While a lane has one tenant's work only, the longest due goes first and nothing else is looked at,
but twice a second in a backlog: whether others have come.
"""

from __future__ import annotations

import heapq
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from orch8.errors import ConfigurationError
from orch8.runtime.lanes import AGE, AGES
from orch8.runtime.low_water import LowWater
from orch8.storage import queues, steps
from orch8.storage.rows import StepRow
from orch8.storage.transaction import Row, Tx

LOOK = 0.5  # seconds between two looks for other tenants in a lane with a backlog
VISITED = 1000  # tenants looked at in one go; the next look goes on behind them
AHEAD = 4  # claims for which a tenant's due steps are counted
MOST_WEIGHTS = 10_000
LEAST, MOST = 0.01, 100.0  # weight of a tenant


class Rota:
    """Deals slots to tenants in proportion to their weights, over any number of dealings.

    Each tenant's clock advances by 1/weight with every slot it gets; the one that is furthest
    behind is next. Who comes back after a rest starts where the others are: rest earns nothing.
    """

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self._weights = weights or {}
        self._clocks: dict[str, float] = {}  # only of those that are ahead of _now
        self._now = 0.0

    def deal(self, slots: int, due: Mapping[str, int]) -> dict[str, int]:
        """How many of the slots each tenant gets, none more than it has due."""
        given: Counter[str] = Counter()
        line = [(max(self._clocks.get(t, 0.0), self._now), t) for t, n in due.items() if n > 0]
        heapq.heapify(line)
        while line and slots > 0:
            clock, tenant = heapq.heappop(line)
            given[tenant] += 1
            slots -= 1
            self._now = clock
            self._clocks[tenant] = clock + 1 / self._weights.get(tenant, 1.0)
            if given[tenant] < due[tenant]:
                heapq.heappush(line, (self._clocks[tenant], tenant))
        self._clocks = {t: clock for t, clock in self._clocks.items() if clock > self._now}
        return dict(given)


@dataclass
class _Queue:
    """What a process knows of one lane."""

    rota: Rota
    backlog: bool = False  # whether more was due than it took
    due: dict[str, int] = field(default_factory=dict)  # of each tenant, as far as it is known
    look_at: float = float("-inf")
    after: str = ""  # the tenant behind which the next look begins


class Turns:
    """Takes due steps of lanes for one process. Used by the pump's own thread only."""

    def __init__(
        self,
        weights: Mapping[str, float] | None = None,
        *,
        low_water: LowWater | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._weights, self._clock = weights, clock
        self._low_water = low_water or LowWater(clock=clock)
        self._queues: dict[str, _Queue] = {}

    def waiting(self, tx: Tx, lanes: Sequence[str], most: int) -> dict[str, list[int]]:
        """How many steps of each lane are due, by age; of each at most ``most`` are counted, and
        lanes without any are left out.
        """
        with ExitStack() as stack:
            looks = {lane: stack.enter_context(self._low_water.look(lane)) for lane in lanes}
            since = {lane: look.since for lane, look in looks.items()}
            rows = queues.due_by_age(tx, since, most, age=AGE, ages=AGES)
            for row in rows:
                looks[row.lane].first = row.first
        return {row.lane: row.waiting for row in rows}

    def next_due(self, tx: Tx, lanes: Sequence[str]) -> Row:
        """When the lanes' next step is due: ``at`` (None: never) and ``now``, business time."""
        return steps.next_due(tx, {lane: self._low_water.since(lane) for lane in lanes})

    def take(self, tx: Tx, lane: str, limit: int) -> list[StepRow]:
        """Up to ``limit`` due rows of a lane, locked: the longest due, or if several tenants have
        due rows, each tenant's turn of them.
        """
        queue = self._queues.setdefault(lane, _Queue(Rota(self._weights)))
        scarce = 0 < sum(queue.due.values()) < limit
        if queue.backlog and (scarce or self._clock() >= queue.look_at):
            self._look(tx, queue, lane, limit)
        if queue.backlog and len(queue.due) > 1:
            rows = self._take_turns(tx, queue, lane, limit)
            if rows:
                return rows
        with self._low_water.look(lane) as look:
            rows = steps.take_due(tx, lane, limit, look.since)
            look.first = rows[0].due_at if rows else None
        queue.backlog = len(rows) == limit
        return rows

    def _take_turns(self, tx: Tx, queue: _Queue, lane: str, limit: int) -> list[StepRow]:
        dealt = queue.rota.deal(limit, queue.due)
        rows = steps.take_turns(tx, lane, dealt, self._low_water.since(lane))
        taken = Counter(row.tenant_id for row in rows)
        for tenant, turns in dealt.items():
            queue.due[tenant] -= turns
            if taken[tenant] < turns or not queue.due[tenant]:  # others were faster, or all is done
                del queue.due[tenant]
        return rows

    def _look(self, tx: Tx, queue: _Queue, lane: str, limit: int) -> None:
        """The next VISITED tenants of the lane are known as they are now."""
        with self._low_water.look(lane) as look:
            found = queues.tenants(
                tx, lane, after=queue.after, visits=VISITED, most=AHEAD * limit, since=look.since
            )
            more = len(found) == VISITED
            look.first = min((row.due_at for row in found if row.due), default=None)
            look.seen = not more and not queue.after
        last = found[-1].tenant_id if more else None
        queue.due = {
            tenant: due
            for tenant, due in queue.due.items()
            if tenant <= queue.after or (last is not None and tenant > last)
        }
        queue.due.update((row.tenant_id, row.due) for row in found if row.due)
        queue.after = last or ""
        queue.look_at = self._clock() + LOOK


def weights(text: str) -> dict[str, float]:
    """The weights that ``tenant=number, ...`` states. Raises ConfigurationError."""
    found: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        tenant, equals, number = part.rpartition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not equals or not tenant.strip() or not LEAST <= weight <= MOST:
            raise ConfigurationError(
                "ORCH8_TENANT_WEIGHTS must be tenant=weight pairs, separated by commas, each "
                f"weight from {LEAST:g} to {MOST:g}, such as acme=3; not {part[:100]!r}"
            )
        found[tenant.strip()] = weight
    if len(found) > MOST_WEIGHTS:
        raise ConfigurationError(f"ORCH8_TENANT_WEIGHTS states more than {MOST_WEIGHTS} weights")
    return found
