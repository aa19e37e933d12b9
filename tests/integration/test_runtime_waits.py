"""Waits by schedule, calendar and zone, on the real database and the real pump."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from orch8.blocks.calendars import calendar_named
from orch8.errors import InvalidArgument
from tests.support.house import House

CHARGE = {"type": "step", "handler": "charge"}
NEXT_TRY = {
    "type": "wait",
    "id": "next_try",
    "schedule": {
        "offsets": [{"days": 1}, {"days": 3}],
        "anchor": "{{outputs.charge.finished_at}}",
    },
}
ZONED: dict[str, Any] = {"timezone": "{{context.data.zone}}"}


def test_schedule_counts_from_the_end_of_an_earlier_step(house: House) -> None:
    """The output was written in one transaction and is read in another: its time is the same."""
    notify = {"type": "step", "handler": "notify"}
    loop = {"type": "loop", "id": "again", "max_iterations": 2, "body": [NEXT_TRY, notify]}
    zone = {"zone": "Europe/Berlin"}
    instance_id = house.run(CHARGE, loop, data=zone, **ZONED)
    charged = house.step(instance_id).finished_at
    assert charged is not None
    berlin = ZoneInfo("Europe/Berlin")
    for iteration, days in enumerate((1, 3)):
        due = house.step(instance_id, f"next_try[{iteration}]").due_at
        wall = charged.astimezone(berlin).replace(tzinfo=None) + timedelta(days=days)
        assert due == wall.replace(tzinfo=berlin).astimezone(UTC)
        house.advance(timedelta(days=2))
        house.work()
    assert house.state(instance_id) == "completed"


def test_window_of_business_days_opens_on_one(house: House) -> None:
    """The calendar comes from the context."""
    window = {"start": "09:00", "end": "17:00", "calendar": "{{context.data.country}}"}
    late = {**CHARGE, "delay": {"days": 30}, "send_window": window}
    instance_id = house.run(late, data={"zone": "Europe/Berlin", "country": "DE"}, **ZONED)
    due = house.step(instance_id).due_at
    calendar = calendar_named("DE")
    assert due is not None
    assert calendar is not None
    local = due.astimezone(ZoneInfo("Europe/Berlin"))
    assert calendar.is_open(local.date())
    assert 9 <= local.hour < 17
    assert house.instance(instance_id).timezone == "Europe/Berlin"


def test_zone_that_does_not_exist_starts_nothing(house: House) -> None:
    """The answer names the member, and the idempotency key is free."""
    house.publish(CHARGE, **ZONED)
    with pytest.raises(InvalidArgument) as refused:
        house.start({"zone": "Mars"}, idempotency_key="k")
    assert [each.pointer for each in refused.value.errors] == ["/context/data/zone"]
    assert house.request({"zone": "UTC"}, idempotency_key="k").deduplicated is False
