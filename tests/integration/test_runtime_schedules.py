"""Schedules in a whole orch8: months pass, and what they start is worked on."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from orch8.runtime.because import Because
from orch8.runtime.schedules import ScheduleRequest, change, create
from orch8.storage.transaction import Row
from tests.support.house import House

WHY = Because(actor="test")
CHARGE = {"type": "step", "id": "charge", "handler": "charge"}


def scheduled(house: House, cron_expr: str, **members: Any) -> Row:
    """A new schedule of a sequence that charges."""
    published = house.publish(CHARGE)
    asked: dict[str, Any] = {"tenant_id": "default", "namespace": "default"} | members
    request = ScheduleRequest(sequence_id=published.id, cron_expr=cron_expr, **asked)
    with house.office.begin() as tx:
        return create(house.office, tx, request, WHY)


def test_schedule_charges_once_a_month(house: House) -> None:
    """Whatever the number of ticks, each month's charge is made once."""
    scheduled(house, "0 9 1 * *", timezone="Europe/Vienna")
    for _ in range(4 * 31 // 5):
        house.advance(timedelta(days=5))
        house.tick()
        house.tick()
        house.work()
    months = house.sql("SELECT idempotency_key, state FROM instances ORDER BY id")
    assert len(months) == 4
    assert {row.state for row in months} == {"completed"}
    assert len({row.idempotency_key for row in months}) == len(house.keys()) == 4


def test_months_that_were_missed_are_one_charge(house: House) -> None:
    """And the next one comes when it is due."""
    scheduled(house, "0 9 1 * *")
    house.advance(timedelta(days=100))
    house.tick()
    house.tick()
    house.work()
    assert len(house.keys()) == 1
    house.advance(timedelta(days=31))
    house.tick()
    house.work()
    assert len(house.keys()) == 2


def test_change_between_look_and_fire_wins(house: House) -> None:
    """A schedule that was disabled is not fired by a tick that saw it enabled."""
    made = scheduled(house, "0 9 1 * *")
    house.advance(timedelta(days=40))
    with house.office.begin() as tx:
        change(tx, made.id, {"enabled": False}, WHY, tenant_id=None)
    house.tick()
    assert house.sql("SELECT id FROM instances") == []
