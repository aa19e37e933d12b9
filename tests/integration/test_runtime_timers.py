"""Timers are rows; business time can be moved; deadlines breach; lost claims come back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from orch8.errors import Forbidden, InvalidArgument
from orch8.runtime.claim import claim
from orch8.runtime.preparing import Task
from orch8.runtime.pump import Pump
from orch8.storage.rows import StepRow
from tests.support.house import LANE, House, until

CHARGE = {"type": "step", "handler": "charge"}
NOTIFY = {"type": "step", "handler": "notify"}
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)


# -- timers ------------------------------------------------------------------------------------
def test_timer_of_forty_days_is_a_row(house: House) -> None:
    """A wait holds nothing but a row; when its time comes, the next step is called."""
    wait = {"type": "step", "handler": "wait", "delay": {"days": 40}}
    before = house.advance()
    instance_id = house.run(CHARGE, wait, NOTIFY)
    row = house.step(instance_id, "wait")
    assert (row.state, row.claimed_by, row.epoch) == ("scheduled", None, 0)
    assert row.due_at is not None
    assert timedelta(0) <= row.due_at - before - 40 * DAY < MINUTE
    assert house.state(instance_id) == "scheduled"
    house.advance(40 * DAY - MINUTE)
    house.work()
    assert "notify" not in house.steps(instance_id)
    house.advance(MINUTE)
    house.work()
    assert house.state(instance_id) == "completed"
    assert house.totals()["asked"] == 2


def test_timer_that_is_near_is_waited_for_in_the_process(house: House) -> None:
    """A wait of less than a second needs no tick, and is not early."""
    instance_id = house.run({"type": "wait", "duration": "300ms"}, NOTIFY)
    rows = house.steps(instance_id)
    late = rows["notify"].created_at - rows["wait"].created_at
    assert timedelta(milliseconds=300) <= late < timedelta(seconds=2)
    assert house.state(instance_id) == "completed"


def test_timer_keeps_its_pace_when_the_clock_is_sped_up(house: House) -> None:
    """At 100,000 times the speed a day takes a second."""
    house.advance(rate=100_000.0)
    began = time.monotonic()
    instance_id = house.run({"type": "wait", "duration": "1d"}, NOTIFY)
    assert house.state(instance_id) == "completed"
    assert time.monotonic() - began < 5
    rows = house.steps(instance_id)
    assert rows["notify"].created_at - rows["wait"].created_at >= DAY


def test_timer_delays_a_call(house: House) -> None:
    """A delayed step is not called before; sleep shows as running and holds no worker."""
    instance_id = house.run({**NOTIFY, "delay": "3d"})
    assert house.totals()["asked"] == 0
    house.advance(3 * DAY)
    house.work()
    assert house.state(instance_id) == "completed"
    sleep = {"type": "step", "handler": "sleep", "params": {"duration_ms": 60_000}}
    sleeping = house.run(sleep, name="s")
    assert (house.state(sleeping), house.step(sleeping, "sleep").claimed_by) == ("running", None)
    house.advance(MINUTE)
    house.work()
    assert house.state(sleeping) == "completed"


def test_clock_moves_forward_only_and_in_development_only(houses: Callable[..., House]) -> None:
    """Timers that fired cannot be taken back, and production time is real."""
    house = houses()
    for wrong in ({"span": timedelta(seconds=-5)}, {"rate": 0.0}, {"rate": 1e9}):
        with pytest.raises(InvalidArgument):
            house.advance(**wrong)  # type: ignore[arg-type]
    with pytest.raises(Forbidden):
        houses(dev=False).advance(DAY)


# -- deadlines ---------------------------------------------------------------------------------
def test_deadline_fails_a_step_that_nobody_took(house: House) -> None:
    """An overdue step is not called: it fails with what was breached, and tells its handler."""
    breach = {"handler": "log", "params": {"message": "late"}}
    step = {**CHARGE, "delay": "2d", "deadline": "1d", "on_deadline_breach": breach}
    catch = {"type": "try_catch", "try": [step], "catch": [NOTIFY]}
    instance_id = house.run(catch)
    house.advance(3 * DAY)
    house.work()
    row = house.step(instance_id)
    assert (row.state, row.output["_error"]) == ("failed", "sla_deadline_breached")
    assert row.output["_deadline_ms"] == 86_400_000
    assert row.output["_elapsed_ms"] >= 86_400_000
    assert [entry["handler"] for entry in house.provider.ledger.page()] == ["notify"]
    assert house.state(instance_id) == "completed"
    assert "step.escalated" in house.actions(instance_id, "charge")


def test_deadline_never_fails_a_call_in_doubt(house: House) -> None:
    """A charge that may have happened is found out about, however late; then the flow goes on."""
    calls: list[str] = []

    def broken(request: Any) -> Any:
        calls.append(request.idempotency_key)
        if len(calls) < 3:
            raise RuntimeError("lost")
        return {"ok": True}

    house.handler("charge", broken)
    retry = {"max_attempts": 9, "backoff": "2h"}
    instance_id = house.run({**CHARGE, "deadline": "1h", "retry": retry})
    house.advance(timedelta(hours=1))
    house.work()
    row = house.step(instance_id)
    assert (row.state, row.outcome, len(calls)) == ("scheduled", "unknown", 1)
    house.advance(timedelta(hours=1))
    house.work()
    assert house.step(instance_id).state == "completed"
    assert len(set(calls)) == 1


# -- lost claims -------------------------------------------------------------------------------
def taken(house: House, pump: Pump) -> Task:
    """The one due step is claimed by the pump's process, and not called."""
    with house.office.begin() as tx:
        (task,) = claim(house.office, tx, LANE, pump.lease.hold(), 8)
    return task


def test_claim_of_a_lost_process_is_taken_back_under_the_same_key(house: House) -> None:
    """Whoever dies between claim and settle leaves a step in doubt: the same key is sent again."""
    house.publish(CHARGE)
    instance_id = house.start()
    dead = house.another_pump()
    task = taken(house, dead)
    assert house.tick().taken_back == 0
    assert house.step(instance_id).state == "running"
    house.lose(dead)
    assert house.tick().taken_back == 1
    row = house.step(instance_id)
    assert (row.state, row.outcome, row.crashes, row.failures) == ("scheduled", "unknown", 1, 0)
    assert dead.lease.worker_id not in {worker.id for worker in house.workers()}
    house.work()
    row = house.step(instance_id)
    assert (row.state, row.epoch, row.dispatches) == ("completed", 2, 2)
    assert row.idempotency_key == task.row.idempotency_key == house.keys()[0]["key"]
    assert house.totals()["charged"] == 1
    assert "step.claim_lost" in house.actions(instance_id)


def test_claim_of_a_paused_process_charges_once(house: House) -> None:
    """A process that comes back after its lease was lost has its answer taken as evidence only."""
    gate, called = threading.Event(), threading.Event()

    def slow(request: Any) -> Any:
        if not called.is_set():
            called.set()
            assert gate.wait(20)
        return {"n": request.dispatch}

    house.handler("charge", slow)
    house.publish(CHARGE)
    instance_id = house.start()
    stalled = house.another_pump()
    thread = threading.Thread(target=stalled.work, args=(LANE,))
    thread.start()
    assert called.wait(10)
    house.lose(stalled)
    house.tick()
    house.work()
    assert house.step(instance_id).output == {"n": 2}
    gate.set()
    thread.join(20)
    until(lambda: [e for e in house.evidence(instance_id) if e.kind == "late_answer"])
    assert house.step(instance_id).output == {"n": 2}


def test_claim_that_kills_its_process_again_and_again_is_parked(
    houses: Callable[..., House],
) -> None:
    """A step whose worker died five times is poison, and waits for a person."""
    house = houses(poison_crashes=3)
    house.publish(CHARGE)
    instance_id = house.start()
    for crash in range(1, 4):
        dead = house.another_pump()
        taken(house, dead)
        house.lose(dead)
        house.tick()
        assert house.step(instance_id).crashes == crash
    row: StepRow = house.step(instance_id)
    assert (row.state, row.attention["reason"]) == ("parked", "poison")
    house.work()
    assert house.totals()["asked"] == 0


def test_claim_of_a_live_process_is_never_touched(houses: Callable[..., House]) -> None:
    """Heartbeats hold a claim for as long as its call takes, whatever the lease."""
    house = houses(lease=0.5, heartbeat=0.1)
    gate, called = threading.Event(), threading.Event()

    def slow(request: Any) -> Any:
        called.set()
        assert gate.wait(20)
        return {}

    house.handler("charge", slow)
    house.publish(CHARGE)
    instance_id = house.start()
    thread = threading.Thread(target=house.work)
    thread.start()
    assert called.wait(10)
    began = time.monotonic()
    while time.monotonic() - began < 1.5:
        assert house.tick().taken_back == 0
    gate.set()
    thread.join(20)
    row = house.step(instance_id)
    assert (row.state, row.epoch, row.crashes) == ("completed", 1, 0)


def test_claim_with_a_key_that_is_too_old_is_parked(house: House) -> None:
    """A claim found two days later is not sent again: the provider may have forgotten its key."""
    house.publish(CHARGE)
    instance_id = house.start()
    dead = house.another_pump()
    taken(house, dead)
    house.lose(dead)
    house.advance(2 * DAY)
    house.tick()
    row = house.step(instance_id)
    assert (row.state, row.attention["reason"]) == ("parked", "key_too_old")


def test_claim_of_a_stopped_pump_is_given_back_by_its_tick(house: House) -> None:
    """A pump that stops leaves no worker behind, and what it held goes on elsewhere."""
    house.publish(CHARGE)
    instance_id = house.start()
    stopped = house.another_pump()
    taken(house, stopped)
    stopped.stop(0.1)
    house.tick()
    house.work()
    assert house.state(instance_id) == "completed"
    assert len(house.workers()) == 1


def test_claim_that_cannot_be_made_does_not_hold_up_its_lane(house: House) -> None:
    """A step whose version cannot be read any more is parked; the others go on."""
    bad = house.publish(CHARGE, name="bad")
    house.publish(CHARGE)
    broken = house.start(name="bad")
    good = [house.start() for _ in range(3)]
    house.sql("UPDATE sequences SET body = '{}' WHERE id = %s", str(bad.id))
    fresh = house.another_pump(house.another_office())
    fresh.work(LANE)
    assert {house.state(each) for each in good} == {"completed"}
    row = house.step(broken)
    assert (row.state, row.attention["reason"]) == ("parked", "cannot_claim")
    assert house.state(broken) == "waiting"
