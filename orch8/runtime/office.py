"""The office: what one process needs for every use case, wired once by its composition root."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from orch8.config import Settings
from orch8.errors import NotFound
from orch8.limits import Limit
from orch8.runtime.ahead import Ahead
from orch8.runtime.breakers import Breakers
from orch8.runtime.declines import policy_at
from orch8.runtime.keys import KeyMaker
from orch8.runtime.library import Library
from orch8.runtime.loading import Contexts, Loader
from orch8.runtime.meter import Meter
from orch8.runtime.notices import receivers
from orch8.runtime.preparing import Limits
from orch8.runtime.queues import Queues
from orch8.runtime.rounds import Rounds
from orch8.runtime.routes import Routes
from orch8.runtime.run import Claimer, Run
from orch8.runtime.surroundings import Surroundings
from orch8.runtime.sweep import Sweep
from orch8.runtime.turns import weights
from orch8.storage import fleet
from orch8.storage.cipher import Cipher
from orch8.storage.ids import uuid7
from orch8.storage.rows import InstanceRow, Moment
from orch8.storage.transaction import Database, Row, Tx

LIMITS_REFRESH = 1.0  # seconds: how soon an edited limit holds in every process


class Office:
    """Settings, database, caches and routes of one process; safe to share between threads."""

    def __init__(self, settings: Settings, *, pool: int = 5, name: str = "orch8") -> None:
        self.settings = settings
        policy_at(settings.decline_policy)  # a policy that cannot be read stops the process now
        receivers(settings)  # as do addresses that cannot be called
        self.weights = weights(settings.tenant_weights)
        self.cipher = Cipher(settings.encryption_key, settings.old_encryption_key)
        self.database = Database(settings.database_url, size=pool, name=name, cipher=self.cipher)
        self.library = Library()
        self.loader = Loader(self.library, Contexts())
        self.routes, self.queues = Routes(settings), Queues()
        self.breakers = Breakers(settings.breaker_threshold, settings.breaker_cooldown)
        self.around = Surroundings(
            settings, KeyMaker(settings.key_secret), self.routes.find, random.random, uuid7,
            self.cipher, self.queues, self.breakers,
        )  # fmt: skip
        self.ahead, self.sweep, self.meter, self.rounds = Ahead(), Sweep(), Meter(), Rounds()
        self._limits = Limits()
        self._limits_read_at = float("-inf")

    @contextmanager
    def begin(self) -> Iterator[Tx]:
        """A transaction with fresh routes, queues and breakers."""
        try:
            with self.database.begin() as tx:
                self.routes.refresh(tx)
                self.queues.refresh(tx)
                self.breakers.refresh(tx)
                yield tx
        except BaseException:
            self.breakers.forget()
            raise

    def run(
        self,
        tx: Tx,
        row: InstanceRow,
        moment: Moment,
        *,
        claimer: Claimer | None = None,
        created: bool = False,
    ) -> Run:
        """The run of an instance, nothing done to it yet."""
        return Run(
            self.around,
            row,
            self.library.get(tx, row.sequence_id),
            moment,
            claimer=claimer,
            created=created,
        )

    def limits(self, tx: Tx) -> Limits:
        """The stated limits, at most LIMITS_REFRESH seconds old: an operator's wins over the inline
        ones, of which the smallest rate does.
        """
        if time.monotonic() - self._limits_read_at > LIMITS_REFRESH:
            self._limits = read_limits(tx)
            self._limits_read_at = time.monotonic()
        return self._limits

    def close(self) -> None:
        """The process no longer holds connections."""
        self.database.close()


def read_limits(tx: Tx) -> Limits:
    """Every stated limit, one for each tenant and key: of its window and of what is in flight, each
    time the operator's, else the smallest.
    """
    rows: dict[tuple[str, str], list[Row]] = {}
    for row in fleet.rate_limits(tx):
        rows.setdefault((row.tenant_id, row.key), []).append(row)
    return Limits({at: _in_force(stated) for at, stated in rows.items()})


def _in_force(stated: list[Row]) -> Limit:
    def first(holds: Callable[[Row], bool], size: Callable[[Row], float]) -> Row | None:
        found = [row for row in stated if holds(row)]
        own = [row for row in found if row.source == fleet.OPERATOR]
        return min(own or found, key=size, default=None)

    window = first(lambda row: row.max is not None, lambda row: row.max / row.window_seconds)
    room = first(lambda row: row.max_in_flight is not None, lambda row: row.max_in_flight)
    in_flight = None if room is None else room.max_in_flight
    key = stated[0].key
    if window is None:
        return Limit(key, None, max_in_flight=in_flight)
    return Limit(
        key, window.max, window.window_seconds, window.slack_seconds, max_in_flight=in_flight
    )


def only(found: dict[UUID, InstanceRow], instance_id: UUID, tenant_id: str | None) -> InstanceRow:
    """The one instance that was asked for, if it is there and this tenant's."""
    row = found.get(instance_id)
    if row is None or (tenant_id is not None and row.tenant_id != tenant_id):
        raise NotFound(f"instance {instance_id}")
    return row
