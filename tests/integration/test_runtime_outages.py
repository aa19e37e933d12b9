"""Postgres or Redis away: nothing is lost, nothing is sent twice, and all goes on afterwards."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from orch8.dev.postgres import EmbeddedPostgres
from orch8.dev.redis import EmbeddedRedis
from orch8.errors import Unavailable
from orch8.storage.migrate import migrate
from orch8.storage.transaction import Database as Pool
from orch8.storage.transaction import Tx
from orch8.testing.provider import Provider
from tests.support.house import House, until
from tests.support.servers import Database

CHARGE = {"type": "step", "handler": "charge"}
NOTIFY = {"type": "step", "handler": "notify"}
LIMITED = {**CHARGE, "rate_limit_key": "acquirer", "rate_limit": {"max": 500, "window_seconds": 1}}


@pytest.fixture
def lonely(tmp_path: Path, provider: Provider) -> Iterator[House]:
    """A house with servers of its own, which a test may stop."""
    server = EmbeddedPostgres(tmp_path / "postgres", durable=False)
    redis = EmbeddedRedis(tmp_path / "redis", durable=False)
    try:
        server.start()
        redis.start()
        migrate(server.owner_url, server.url)
        house = House(Database("orch8", server), redis, provider)
        yield house
        house.close()
    finally:
        redis.stop()
        server.erase()


class Forgetful(Pool):
    """A database whose next commits take place, but are not confirmed."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.unconfirmed: Callable[[], bool] = lambda: False

    @contextmanager
    def begin(self) -> Iterator[Tx]:
        with super().begin() as tx:
            yield tx
        if self.unconfirmed():
            raise Unavailable("the connection broke in the middle of the commit")


def test_answer_that_comes_while_postgres_is_away_is_settled_later(lonely: House) -> None:
    """Answers that cannot be written are kept, and settled when the database is back."""
    called, back = threading.Event(), threading.Event()

    def slow(request: Any) -> Any:
        called.set()
        assert back.wait(30)
        return {"done": True}

    lonely.handler("slow", slow)
    lonely.publish({"type": "step", "handler": "slow"}, CHARGE)
    instance_id = lonely.start()
    thread = threading.Thread(target=lonely.work)
    thread.start()
    assert called.wait(10)
    server = lonely.database.server
    server.stop()
    back.set()
    until(lambda: lonely.pump._unsettled)
    server.start()
    thread.join(60)
    assert lonely.state(instance_id) == "completed"
    row = lonely.step(instance_id, "slow")
    assert (row.dispatches, row.epoch, row.output["done"]) == (1, 1, True)
    assert lonely.totals()["asked"] == 1


def test_work_begins_when_postgres_is_back(lonely: House) -> None:
    """A pump without a database gives up quietly; a start says that the database is away."""
    lonely.publish(CHARGE)
    instance_id = lonely.start()
    lonely.database.server.stop()
    with pytest.raises(Unavailable):
        lonely.start()
    thread = threading.Thread(target=lonely.work)
    thread.start()
    lonely.database.server.start()
    thread.join(30)
    lonely.work()
    assert lonely.state(instance_id) == "completed"


def test_claim_whose_commit_was_not_confirmed_is_not_forgotten(house: House) -> None:
    """The process is alive, so no tick takes it back: the pump finds it itself."""
    pool = Forgetful(house.settings.database_url)
    house.office.database.close()
    house.office.database = pool
    house.publish(CHARGE, NOTIFY)
    instance_id = house.start()
    armed = [True]

    def claimed() -> bool:
        if armed and house.sql("SELECT 1 FROM steps WHERE state = 'running'"):
            armed.clear()
            return True
        return False

    pool.unconfirmed = claimed
    house.work()
    assert not armed
    assert house.state(instance_id) == "completed"
    row = house.step(instance_id)
    assert (row.epoch, row.dispatches, row.crashes) == (2, 2, 1)
    assert (house.totals()["asked"], house.totals()["charged"]) == (2, 2)


def test_settle_whose_commit_was_not_confirmed_is_not_repeated(house: House) -> None:
    """The answer was written already: it is late now, and its follow-up is taken back."""
    pool = Forgetful(house.settings.database_url)
    house.office.database.close()
    house.office.database = pool
    house.publish(CHARGE, NOTIFY)
    instance_id = house.start()
    armed = [True]

    def settled() -> bool:
        done = "SELECT 1 FROM steps WHERE node_key = 'charge' AND state = 'completed'"
        if armed and house.sql(done):
            armed.clear()
            return True
        return False

    pool.unconfirmed = settled
    house.work()
    assert not armed
    assert house.state(instance_id) == "completed"
    assert house.step(instance_id).dispatches == 1
    row = house.step(instance_id, "notify")
    assert (row.epoch, row.crashes) == (2, 1)
    assert house.totals()["charged_twice"] == 0


def test_step_of_a_small_limit_waits_until_redis_is_back(lonely: House) -> None:
    """What cannot be divided among the processes is not called without Redis; others go on."""
    lonely.publish({**LIMITED, "rate_limit": {"max": 1, "window_seconds": 1}})
    lonely.publish(NOTIFY, name="free")
    lonely.redis.stop()
    instance_id, other = lonely.start(), lonely.start(name="free")
    thread = threading.Thread(target=lonely.work)
    thread.start()
    until(lambda: lonely.state(other) == "completed")
    until(lambda: lonely.step(instance_id).epoch >= 2)
    row = lonely.step(instance_id)
    assert (row.dispatches, row.failures) in {(0, 0), (1, 0)}
    assert lonely.keys() == []
    lonely.redis.start()
    until(lambda: lonely.tick() and lonely.state(instance_id) == "completed")
    thread.join(30)
    assert lonely.step(instance_id).dispatches == 1
    assert lonely.evidence(instance_id) == []


def test_limited_steps_go_on_within_their_share_without_redis(lonely: House) -> None:
    """One process alone calls half of what the limit allows, after a window that counts as spent,
    and what it called is not forgotten when Redis, which knows nothing of it, is back.
    """
    lonely.publish({**LIMITED, "rate_limit": {"max": 10, "window_seconds": 2}})
    warm = lonely.start()
    lonely.work()
    assert lonely.state(warm) == "completed"
    lonely.redis.kill(signal.SIGSTOP)  # it keeps what it knows
    ids = [lonely.start() for _ in range(12)]
    thread = threading.Thread(target=lonely.work)
    thread.start()
    done = partial(lambda: [lonely.state(each) for each in ids].count("completed"))
    until(lambda: lonely.tick() and done() >= 5)
    lonely.redis.kill(signal.SIGCONT)
    until(lambda: lonely.tick() and done() == 12, 40)
    thread.join(30)
    assert lonely.provider.ledger.peak(1.9, "charge") <= 10
    assert lonely.totals()["charged"] == 13


def test_limited_step_survives_a_flush_of_redis(lonely: House) -> None:
    """A Redis that forgot everything counts its windows as spent, and then goes on."""
    lonely.publish(LIMITED)
    first = lonely.start()
    lonely.work()
    assert lonely.state(first) == "completed"
    lonely.redis.flush()
    second = lonely.start()
    lonely.work()
    assert lonely.state(second) == "completed"


def test_long_window_goes_on_soon_after_redis_is_back(lonely: House) -> None:
    """What a day's window has room for goes out within seconds after Redis was away for a moment,
    newcomers too, and never more than the window holds.
    """
    lonely.publish({**LIMITED, "rate_limit": {"max": 5, "window_seconds": 86_400}})
    warm = lonely.start()
    lonely.work()
    assert lonely.state(warm) == "completed"
    lonely.redis.kill(signal.SIGSTOP)
    stalled_at = time.monotonic()
    ids = [lonely.start() for _ in range(2)]
    thread = threading.Thread(target=lonely.work)
    thread.start()
    until(lambda: all(lonely.step(each).epoch >= 1 for each in ids))
    until(lambda: time.monotonic() > stalled_at + 1.5)  # what Redis was asked has been given up
    lonely.redis.kill(signal.SIGCONT)
    ids += [lonely.start() for _ in range(4)]

    def ended() -> bool:
        rows = [lonely.step(each) for each in ids]
        states = [row.state for row in rows]
        return states.count("completed") == 4 and sum(row.deferrals for row in rows) == 2

    until(ended)  # the pump stays, since there is a queue
    lonely.pump.wind_down(1.0)
    thread.join(30)
    assert ended()
    assert lonely.totals()["charged"] == 5
