"""A whole orch8 in one process: a real Postgres, a real Redis, a pump, a pretend provider."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import psycopg2
import psycopg2.extras
import pytest

from orch8.config import Settings
from orch8.dev.redis import EmbeddedRedis
from orch8.handlers import python
from orch8.handlers.python import Function
from orch8.limits import Limiter
from orch8.runtime.clock import move_clock
from orch8.runtime.library import Published
from orch8.runtime.office import Office
from orch8.runtime.publish import publish
from orch8.runtime.pump import Pump
from orch8.runtime.retry import retry
from orch8.runtime.signal import SignalRequest, run_errand, signal
from orch8.runtime.start import StartRequest, StartResult, start
from orch8.runtime.tick import Ticked, tick
from orch8.storage import audit, fleet, instances, steps
from orch8.storage.rows import InstanceRow, StepRow
from orch8.storage.transaction import Row
from orch8.testing.misbehaviour import Do, Rule
from orch8.testing.provider import Provider
from tests.support.servers import Database, Spares

LANE = "renewal"
WITHIN = 20.0  # seconds in which a condition has to come true


class House:
    """One office with its pumps. ``sql`` looks at the database as its owner."""

    def __init__(
        self, database: Database, redis: EmbeddedRedis, provider: Provider, **settings: Any
    ) -> None:
        self.database, self.redis, self.provider = database, redis, provider
        given: dict[str, Any] = {
            "database_url": database.url, "database_owner_url": database.owner_url,
            "redis_url": redis.redis_url, "handler_url": provider.url, "key_secret": "s" * 32,
            "dev": True, "lease": 30.0, "heartbeat": 5.0, "worker_width": 8, "handler_timeout": 5.0,
        }  # fmt: skip
        self.settings = Settings(**(given | settings))
        self._ends = ExitStack()
        self.office = self.another_office()
        self.pump = self.another_pump()

    # -- parts ---------------------------------------------------------------------------------
    def another_office(self, **settings: Any) -> Office:
        """An office as another process would have it."""
        office = Office(replace(self.settings, **settings))
        self._ends.callback(office.close)
        return office

    def another_pump(self, office: Office | None = None, **more: Any) -> Pump:
        """A pump as another worker process would have it."""
        office = office or self.office
        limiter = Limiter(self.settings.redis_url)
        self._ends.callback(limiter.close)
        errands = partial(run_errand, office)
        pump = Pump(office, "test", limiter=limiter, run_errand=errands, **more)
        self._ends.callback(pump.stop, 1.0)
        return pump

    def handler(self, name: str, function: Function) -> None:
        """Until the house closes, the function is the handler of this name."""
        python.FUNCTIONS[name] = function
        self.office.routes.forget()
        self._ends.callback(python.FUNCTIONS.pop, name, None)

    def close(self) -> None:
        """Pumps are stopped, connections closed."""
        self._ends.close()

    # -- verbs ---------------------------------------------------------------------------------
    def publish(self, *blocks: Any, name: str = "t", **members: Any) -> Published:
        """These blocks are a published sequence."""
        body = {"id": name, **members, "blocks": list(blocks)}
        with self.office.begin() as tx:
            return publish(self.office, tx, body, tenant_id=None, actor="test").published

    def start(self, data: Any = None, *, name: str = "t", **more: Any) -> UUID:
        """A new instance of the sequence; its id."""
        return self.request(data, name=name, **more).instance.id

    def request(self, data: Any = None, *, name: str = "t", **more: Any) -> StartResult:
        """What a request for an instance comes to."""
        context = {"data": data or {}, "config": {}}
        return start(self.office, StartRequest(**({"sequence": name, "context": context} | more)))

    def run(self, *blocks: Any, data: Any = None, **members: Any) -> UUID:
        """An instance of these blocks has been worked on; its id."""
        self.publish(*blocks, **members)
        instance_id = self.start(data, name=members.get("name", "t"))
        self.work()
        return instance_id

    def work(self, lane: str = LANE) -> None:
        """Everything that is due, or due within seconds, has been worked on."""
        self.pump.work(lane)

    def tick(self) -> Ticked:
        """A tick has passed, with all its parts; nobody is woken."""
        ticked = tick(self.office, lambda *_: None)
        assert not ticked.failed
        return ticked

    def advance(self, span: timedelta | None = None, *, rate: float | None = None) -> datetime:
        """Business time is later; what time it is now."""
        with self.office.begin() as tx:
            return move_clock(self.office, tx, advance=span, rate=rate).at

    def signal(self, instance_id: UUID, control: str | None = None, **more: Any) -> UUID:
        """The signal is in the inbox."""
        with self.office.begin() as tx:
            request = SignalRequest(control=control, **more)
            return signal(self.office, tx, instance_id, request, tenant_id=None)

    def retry(self, instance_id: UUID) -> InstanceRow:
        """The failed instance goes on."""
        with self.office.begin() as tx:
            return retry(self.office, tx, instance_id, tenant_id=None, actor="test")

    def lose(self, pump: Pump) -> None:
        """The process of the pump is gone, as far as anybody else can tell."""
        self.sql("UPDATE workers SET lease_until = '-infinity' WHERE id = %s", pump.lease.worker_id)

    # -- what there is -------------------------------------------------------------------------
    def instance(self, instance_id: UUID) -> InstanceRow:
        """The row of an instance."""
        with self.office.begin() as tx:
            return instances.read_instances(tx, [instance_id])[instance_id]

    def state(self, instance_id: UUID) -> str:
        """The state that an instance shows."""
        return self.instance(instance_id).state

    def steps(self, instance_id: UUID) -> dict[str, StepRow]:
        """The rows of an instance's steps, by node key, as they were entered."""
        with self.office.begin() as tx:
            return {row.node_key: row for row in steps.steps_of(tx, instance_id)}

    def step(self, instance_id: UUID, node_key: str = "charge") -> StepRow:
        """One step's row."""
        return self.steps(instance_id)[node_key]

    def actions(self, instance_id: UUID, node_key: str | None = None) -> list[str]:
        """What the audit log tells of an instance, in order."""
        with self.office.begin() as tx:
            found = audit.audit_of(tx, instance_id)
        return [e.action for e in found if node_key is None or e.node_key == node_key]

    def evidence(self, instance_id: UUID) -> list[Row]:
        """What was observed of an instance's calls."""
        with self.office.begin() as tx:
            return audit.evidence_of(tx, instance_id)

    def workers(self) -> list[Row]:
        """The worker processes that are known."""
        with self.office.begin() as tx:
            return fleet.fleet(tx)

    def totals(self) -> Mapping[str, int]:
        """What the provider's ledger adds up to."""
        return self.provider.ledger.totals()

    def keys(self, handler: str = "charge") -> list[dict[str, Any]]:
        """The provider's ledger of one handler: an entry for each idempotency key."""
        return [
            e for e in self.provider.ledger.page(after=0, limit=1000) if e["handler"] == handler
        ]

    def provider_does(self, *rules: Rule | Do) -> None:
        """From now on the provider follows these rules; a bare deed is done once."""
        made = [rule if isinstance(rule, Rule) else Rule(rule, times=1) for rule in rules]
        self.provider.acquirer.script.replace(made)

    def sql(self, statement: str, *params: Any) -> list[Row]:
        """The rows that a statement of the owner returns, if it returns any."""
        return execute(self.database.owner_url, statement, *params)

    def sql_as_admin(self, statement: str, *params: Any) -> list[Row]:
        """As ``sql``, but as superuser."""
        return execute(self.database.admin_url, statement, *params)


def execute(url: str, statement: str, *params: Any) -> list[Row]:
    """A statement has been committed by the role of ``url``; its rows, if it returns any."""
    factory = psycopg2.extras.NamedTupleCursor
    with (
        closing(psycopg2.connect(url, cursor_factory=factory)) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(statement, params or None)
        return cursor.fetchall() if cursor.description else []


def until(condition: Callable[[], Any], within: float = WITHIN) -> Any:
    """The first true value of the condition; an AssertionError if there is none in time."""
    deadline = time.monotonic() + within
    pause = threading.Event()
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition did not come true in time"
        pause.wait(0.01)
    return value


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A pretend payment provider."""
    with Provider() as running:
        yield running


@pytest.fixture(scope="session")
def spares() -> Spares:
    """The databases of houses that are gone."""
    return Spares()


@pytest.fixture
def houses(
    postgres: Database, redis_server: EmbeddedRedis, provider: Provider, spares: Spares
) -> Iterator[Callable[..., House]]:
    """Makes a house with the given settings on a database of its own."""
    with ExitStack() as ends:
        made = 0

        def build(**settings: Any) -> House:
            nonlocal made
            made += 1
            name = f"{postgres.name}_house_{made}"
            database = spares.take(postgres.server, name)
            house = House(database, redis_server, provider, **settings)
            ends.callback(house.close)
            return house

        yield build


@pytest.fixture
def house(houses: Callable[..., House]) -> House:
    """A house with the settings of a test."""
    return houses()
