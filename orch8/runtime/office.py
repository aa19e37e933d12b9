"""The office: what one process needs for every use case, wired once by its composition root."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
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
from orch8.runtime.low_water import LowWater
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
from orch8.storage import rate_limits
from orch8.storage.cipher import Cipher
from orch8.storage.ids import uuid7
from orch8.storage.rows import InstanceRow, Moment
from orch8.storage.transaction import Database, Row, Tx

LIMITS_REFRESH = 0.5  # seconds: an edited limit holds in every process within twice that


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
        self.ahead, self.sweep, self.meter = Ahead(), Sweep(), Meter()
        self.low_water, self.rounds = LowWater(), Rounds()
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
        ones, of which the smallest rate does. Another object only if they may have changed.
        """
        if self._limits_are_old:
            changed_by = rate_limits.changed_by(tx)  # before the limits: what comes later differs
            if changed_by != self._limits.changed_by:
                self._limits = replace(read_limits(tx), changed_by=changed_by)
            self._limits_read_at = time.monotonic()
        return self._limits

    def limits_now(self) -> Limits:
        """As ``limits``, with a transaction only if they have to be read."""
        if self._limits_are_old:
            with self.begin() as tx:
                return self.limits(tx)
        return self._limits

    def limits_before(self) -> Limits:
        """As they were read last; that they could not be read again is known for a while."""
        self._limits_read_at = time.monotonic()
        return self._limits

    @property
    def _limits_are_old(self) -> bool:
        return time.monotonic() - self._limits_read_at >= LIMITS_REFRESH

    def close(self) -> None:
        """The process no longer holds connections."""
        self.database.close()


def read_limits(tx: Tx, tenant_id: str | None = None, key: str | None = None) -> Limits:
    """What holds for every key that a limit is stated for, of one tenant or one key if asked."""
    rows = rate_limits.in_force(tx, tenant_id, key)
    return Limits({(row.tenant_id, row.key): _limit(row) for row in rows})


def _limit(row: Row) -> Limit:
    if row.max is None:
        return Limit(row.key, None, max_in_flight=row.max_in_flight)
    return Limit(
        row.key, row.max, row.window_seconds, row.slack_seconds, max_in_flight=row.max_in_flight
    )


def only(found: dict[UUID, InstanceRow], instance_id: UUID, tenant_id: str | None) -> InstanceRow:
    """The one instance that was asked for, if it is there and this tenant's."""
    row = found.get(instance_id)
    if row is None or (tenant_id is not None and row.tenant_id != tenant_id):
        raise NotFound(f"instance {instance_id}")
    return row
