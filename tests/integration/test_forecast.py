"""Forecasts: when queues drain, who comes too late, and what is shown of it."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from orch8.limits import Limiter, LimiterUnavailable
from orch8.runtime.forecast import MOST_KEYS, Forecast, forecast
from orch8.runtime.registry import put_limit
from orch8.storage import queued
from tests.support.house import LANE, House, until

HOURLY = {"max": 1, "window_seconds": 3600}
CHARGE: dict[str, Any] = {"type": "step", "handler": "charge", "rate_limit": HOURLY}


@pytest.fixture
def key(house: House) -> str:
    """A key that is spent for an hour, on a server of the limiter's that is known."""
    warm = {**CHARGE, "handler": "noop-call", "rate_limit_key": "warm"}
    house.handler("noop-call", lambda _request: {})
    house.run({**warm, "rate_limit": {"max": 5, "window_seconds": 0.5}}, name="warm")
    name = f"acquirer:{uuid4()}"  # the server outlives the test
    house.run({**CHARGE, "rate_limit_key": name}, name="first")
    return name


def queue(house: House, count: int, *, name: str = "t", **more: Any) -> list[UUID]:
    """So many instances whose charges wait for the key."""
    ids = [house.start(name=name, **more) for _ in range(count)]
    thread = threading.Thread(target=house.pump.work, args=(LANE,))
    thread.start()
    until(lambda: all(house.step(each).deferrals for each in ids))
    house.pump.wind_down(1.0)
    thread.join(20)
    house.pump = house.another_pump()
    house.sql("UPDATE steps SET due_at = NULL WHERE limit_key IS NOT NULL")
    return ids


def ahead(house: House, **asked: Any) -> list[Forecast]:
    """What is forecast."""
    with house.office.begin() as tx:
        return list(forecast(house.office, tx, **({"tenant_id": None} | asked)).keys)


def limited(house: House, key: str, maximum: int, window: float) -> None:
    """The operator's limit of the key."""
    with house.office.begin() as tx:
        put_limit(tx, key, tenant_id="default", maximum=maximum, window=window, actor="test")


def test_queue_drains_at_the_pace_of_its_limit(house: House, key: str) -> None:
    """Six in line of a limit of one in 9.98 seconds: the last one goes fifty seconds from now."""
    house.publish({**CHARGE, "rate_limit_key": key})
    queue(house, 6)
    limited(house, key, 1, 9.98)
    (found,) = ahead(house, idle=False)
    assert (found.key, found.waiting, found.paused) == (key, {LANE: 6}, 0)
    assert found.drain == pytest.approx(50.0, abs=0.01)
    assert found.drains_at is not None
    assert (found.will_miss, found.misses) == (0, ())
    assert found.limit is not None
    assert (found.limit.max, found.limit.window) == (1, 9.98)


def test_queue_of_mixed_costs_drains_by_what_they_cost(house: House, key: str) -> None:
    """Six steps of one and three units by turns, two on average, at a unit in ten seconds."""
    cost = {"key": key, "max": 3, "window_seconds": 3600, "cost": "{{context.data.cost}}"}
    house.publish({"type": "step", "handler": "charge", "rate_limits": [cost]})
    rest = {"type": "step", "handler": "charge", "rate_limits": [cost | {"cost": 2}]}
    house.run(rest, name="rest")
    for each in (1, 3) * 3:
        queue(house, 1, context={"data": {"cost": each}})
    limited(house, key, 3, 29.98)
    (found,) = ahead(house, idle=False)
    assert found.drain == pytest.approx(100.0, abs=0.01)


def test_queue_waits_until_its_limit_has_room_again(house: House, key: str) -> None:
    """A key that is spent for an hour does not drain before."""
    house.publish({**CHARGE, "rate_limit_key": key})
    queue(house, 2)
    (found,) = ahead(house, idle=False)
    assert 3600 < found.drain <= 2 * 3601


def test_paused_instances_stand_aside(house: House, key: str) -> None:
    """They are counted on their own, and nobody waits behind them."""
    house.publish({**CHARGE, "rate_limit_key": key})
    ids = queue(house, 3)
    limited(house, key, 1, 9.98)
    house.signal(ids[0], "pause")
    (found,) = ahead(house, idle=False)
    assert (found.waiting, found.paused) == ({LANE: 2}, 1)
    assert found.drain == pytest.approx(10.0, abs=0.01)


def test_steps_that_come_too_late_are_named_with_what_they_miss(house: House, key: str) -> None:
    """By their deadline, by the SLA of their run, and by their send window, in order of turns."""
    now = house.advance()
    closes = (now + timedelta(minutes=35)).strftime("%H:%M")
    window = {"start": (now - timedelta(hours=1)).strftime("%H:%M"), "end": closes}
    kinds: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "plain": ({}, {}),
        "deadline": ({"deadline": "45m"}, {}),
        "sla": ({}, {"sla": {"max_duration": "40m"}}),
        "send_window": ({"send_window": window}, {}),
    }
    for name, (step, members) in kinds.items():
        house.publish({**CHARGE, "rate_limit_key": key, **step}, name=name, **members)
    first = {name: queue(house, 1, name=name)[0] for name in kinds}
    second = {name: queue(house, 1, name=name)[0] for name in kinds}
    limited(
        house, key, 1, 599.98
    )  # the fifth to eighth have their turns after 40, 50, 60, 70 minutes
    (found,) = ahead(house, key=key)
    told = [(each.instance_id, each.what) for each in found.misses]
    assert told == [
        (second["deadline"], "deadline"),
        (second["sla"], "sla"),
        (second["send_window"], "send_window"),
    ]
    assert found.will_miss == 3
    assert all(each.ends_at < each.turn_at for each in found.misses)
    assert {each.node_key for each in found.misses} == {"charge"}
    assert found.misses[2].ends_at.strftime("%H:%M") == closes
    assert len(first) == 4


def test_forecast_is_of_one_tenant_and_of_one_key(house: House, key: str) -> None:
    """Nobody sees the queue of somebody else; a key that nobody knows has no forecast."""
    house.publish({**CHARGE, "rate_limit_key": key})
    queue(house, 1)
    limited(house, "idle", 5, 1.0)
    assert [each.key for each in ahead(house)] == [key, "idle", "warm"]
    assert [each.key for each in ahead(house, idle=False)] == [key]
    assert [each.key for each in ahead(house, key="idle", tenant_id="default")] == ["idle"]
    assert ahead(house, tenant_id="other") == []
    assert ahead(house, key="unheard-of") == []


def test_forecast_tells_what_is_used_as_far_as_redis_answers(house: House, key: str) -> None:
    """A call that was made counts; without Redis the rest is told all the same."""
    limiter = Limiter(house.settings.redis_url)
    (found,) = ahead(house, key=key, limiter=limiter)
    limiter.close()
    assert found.usage is not None
    assert found.usage.used == 1
    away = Limiter("redis://127.0.0.1:1/0")
    with pytest.raises(LimiterUnavailable):
        away.ping()
    (found,) = ahead(house, key=key, limiter=away)
    assert found.usage is None


def test_longest_queues_are_told_first_and_the_rest_is_counted(house: House) -> None:
    """Of 102 keys a hundred are told, whatever they are called; idle ones come behind them."""
    house.publish({**CHARGE, "rate_limit_key": "x"})
    for _ in range(103):
        house.start()
    house.sql(
        """UPDATE steps s SET due_at = NULL, queued_at = orch8_now(),
               limit_key = CASE WHEN r.n < 102 THEN 'a:' || r.n ELSE 'z' END
           FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM steps) r WHERE r.id = s.id"""
    )
    with house.office.begin() as tx:
        found = forecast(house.office, tx, tenant_id=None)
        longest, *_ = waiting = queued.keys(tx)
    assert (found.keys[0].key, found.keys[0].waiting) == ("z", {LANE: 2})
    assert (len(found.keys), found.left_out) == (MOST_KEYS, 3)  # "x" has a limit and no queue
    assert (longest.limit_key, longest.waiting, len(waiting)) == ("z", 2, 102)
