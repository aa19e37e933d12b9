"""Backlogs of a rate-limited key: how often a waiting step is written, whatever their size."""

from __future__ import annotations

import threading

import pytest

from orch8.runtime.start import StartRequest
from orch8.runtime.start_many import start_many
from tests.support.house import LANE, House, until

LIMIT = {"max": 200, "window_seconds": 1.0}
CALL = {"type": "step", "handler": "call", "rate_limit_key": "acquirer", "rate_limit": LIMIT}
BACKLOG, NEWCOMERS = 2000, 300
COUNTED = """
CREATE TABLE writes (step uuid, deferral boolean, back boolean, admission boolean);
CREATE FUNCTION note_write() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO writes VALUES (NEW.id, NEW.deferrals > OLD.deferrals,
        OLD.state = 'running' AND NEW.state = 'scheduled',
        NEW.limit_key IS NOT NULL AND OLD.due_at IS NULL AND NEW.due_at IS NOT NULL);
    RETURN NULL;
END $$;
CREATE TRIGGER note AFTER UPDATE ON steps FOR EACH ROW EXECUTE FUNCTION note_write();
"""


@pytest.fixture(autouse=True)
def ready(house: House) -> None:
    """The limiter's server is known, every write to a step counted."""
    house.handler("call", lambda _request: {})
    warm = {"type": "step", "handler": "call", "rate_limit_key": "warm", "rate_limit": LIMIT}
    house.run(warm, name="warm")
    house.publish(CALL)
    house.publish(CALL, CALL | {"id": "next"}, CALL | {"id": "last"}, name="chain")
    house.sql(COUNTED)


def start(house: House, name: str, count: int) -> None:
    with house.office.begin() as tx:
        found = house.office.library.named(tx, "default", "default", name)
    assert found is not None
    request = StartRequest(sequence=str(found.id), context={"data": {}, "config": {}})
    start_many(house.office, [request] * count)


def test_waiting_step_is_sent_back_twice_at_most_whatever_the_backlog(house: House) -> None:
    """Two thousand steps, newcomers behind them, three pumps: at most two deferrals of each are
    written, and nobody is written again and again for waiting.
    """
    start(house, "t", BACKLOG)
    pumps = [house.another_pump(width=64) for _ in range(3)]
    threads = [threading.Thread(target=pump.work, args=(LANE,)) for pump in pumps]
    for thread in threads:
        thread.start()
    queued = "SELECT 1 FROM steps WHERE limit_key IS NOT NULL OFFSET 500"
    until(lambda: house.sql(queued), 60)
    start(house, "t", NEWCOMERS)
    open_ = "SELECT 1 FROM steps WHERE state <> 'completed' LIMIT 1"
    until(lambda: house.tick() and not house.sql(open_), 90)
    for thread in threads:
        thread.join(30)
    (found,) = house.sql(
        """SELECT max(deferrals) AS most, count(*) AS steps FROM steps WHERE handler = 'call'"""
    )
    assert found.steps == BACKLOG + NEWCOMERS + 1
    assert found.most <= 2
    (per_step,) = house.sql(
        """SELECT max(deferrals) AS deferrals, sum(backs) AS backs, sum(deferrals) AS deferred,
               sum(admissions) AS admissions
           FROM (SELECT step, count(*) FILTER (WHERE deferral) AS deferrals,
                     count(*) FILTER (WHERE back) AS backs,
                     count(*) FILTER (WHERE admission) AS admissions
                 FROM writes GROUP BY step) s"""
    )
    assert 1 <= per_step.deferrals <= 2
    assert per_step.deferred <= 1.5 * (BACKLOG + NEWCOMERS)
    assert per_step.admissions <= per_step.deferred
    # Whoever was too late for a token asks for another; only a very busy process gives up.
    assert per_step.backs - per_step.deferred <= 0.05 * BACKLOG


def test_follow_ups_of_a_key_without_a_queue_are_claimed_where_they_arise(house: House) -> None:
    """Each step of a chain is written once when it is entered and once when it has ended: none of
    them waits to be claimed, and the limit is asked all the same.
    """
    start(house, "chain", 20)
    house.work()
    (found,) = house.sql(
        """SELECT count(*) AS done, count(*) FILTER (WHERE deferrals > 0) AS deferred FROM steps
           WHERE state = 'completed' AND handler = 'call' AND node_key IN ('next', 'last')"""
    )
    assert tuple(found) == (40, 0)
    (writes,) = house.sql(
        """SELECT count(*) AS updates FROM writes w JOIN steps s ON s.id = w.step
           WHERE s.node_key IN ('next', 'last')"""
    )
    assert writes.updates == 40


def test_follow_up_does_not_overtake_its_keys_queue(house: House) -> None:
    """The second step of a run that got a token joins the line behind those who wait."""
    order: list[str] = []
    house.handler("call", lambda request: order.append(f"{request.step}"))
    house.publish(
        CALL | {"rate_limit": {"max": 3, "window_seconds": 1.0}},
        CALL | {"id": "next", "rate_limit": {"max": 3, "window_seconds": 1.0}},
        name="chain",
    )
    start(house, "chain", 9)
    thread = threading.Thread(target=house.work)
    thread.start()
    left = "SELECT 1 FROM instances WHERE state <> 'completed' LIMIT 1"
    until(lambda: house.tick() and not house.sql(left), 60)
    thread.join(30)
    assert len(order) == 18
    assert max(n for n, step in enumerate(order) if step != "next") < 12
