"""Waits on the virtual clock: a dunning's next tries, calendars, zones, and times of outputs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from orch8.engine.keys import NodeKey
from orch8.errors import InvalidArgument
from orch8.runtime.run import Run
from orch8.testing import Simulator
from tests.support.documents import seed

BERLIN = ZoneInfo("Europe/Berlin")
START = datetime(2026, 10, 5, 12, tzinfo=UTC)  # a Monday, 14:00 in Berlin
NEXT_TRY = {
    "type": "wait",
    "id": "next_try",
    "schedule": {
        "offsets": [{"days": 1}, {"days": 3}, {"days": 7}, {"days": 10}, {"days": 24}],
        "anchor": "{{outputs.charge.finished_at}}",
    },
    "align": {
        "mode": "payday",
        "days_of_month": [1, 15, "last"],
        "max_shift": {"days": 3},
        "at": "00:05",
        "roll": "preceding",
    },
    "send_window": {"start": "00:05", "end": "21:00"},
}


def step(name: str, **more: Any) -> dict[str, Any]:
    """A step whose handler and id are ``name``."""
    return {"type": "step", "handler": name, **more}


def local_times(sim: Simulator, handler: str) -> list[str]:
    """When a handler was called, in Berlin."""
    calls = [call for call in sim.calls if call.handler == handler]
    return [call.at.astimezone(BERLIN).strftime("%a %m-%d %H:%M") for call in calls]


def test_dunning_tries_on_paydays_and_mails_on_working_days() -> None:
    """Each try is counted from the first charge, moved to a payday that is near; the mail waits for
    office hours of the customer's country.
    """
    notify = step(
        "notify",
        send_window={
            "start": "09:00",
            "end": "18:00",
            "business_days": True,
            "calendar": "{{context.data.country}}",
        },
    )
    body = [NEXT_TRY, step("retry_charge"), notify]
    loop = {"type": "loop", "id": "recover", "max_iterations": 6, "body": body}
    definition = seed(step("charge"), loop, timezone="{{context.data.customer_timezone or 'UTC'}}")
    sim = Simulator(
        definition, {"charge": {"outcome": "declined"}, "retry_charge": {}, "notify": {}}, now=START
    )
    sim.start({"data": {"customer_timezone": "Europe/Berlin", "country": "DE"}})
    sim.run()
    assert local_times(sim, "retry_charge") == [
        "Tue 10-06 14:00",  # a day later: no payday is near
        "Thu 10-08 14:00",
        "Thu 10-15 00:05",  # from the 12th to the payday three days later
        "Thu 10-15 14:00",  # payday itself
        "Fri 10-30 00:05",  # from Thursday to the last of October, a Saturday: wages come on Friday
        "Fri 10-30 09:00",  # the last offset again, which has passed
    ]
    assert local_times(sim, "notify") == [
        "Tue 10-06 14:00",
        "Thu 10-08 14:00",
        "Thu 10-15 09:00",
        "Thu 10-15 14:00",
        "Fri 10-30 09:00",
        "Fri 10-30 09:00",
    ]


def test_schedule_without_an_anchor_counts_from_when_it_is_entered() -> None:
    """So does one whose anchor is null; outside a loop the first offset holds."""
    waits = [
        {"type": "wait", "schedule": {"offsets": ["1d", "5d"]}},
        {"type": "wait", "schedule": {"offsets": ["2d"], "anchor": "{{data.nothing}}"}},
    ]
    sim = Simulator(seed(*waits, step("a")), {"a": {}}, now=START)
    sim.start()
    sim.run()
    assert sim.calls[0].at == START + timedelta(days=3)


def test_jitter_spreads_instances_inside_their_window() -> None:
    """None is before it opens, and no two of them are at the same moment."""
    when = {"delay": {"duration": "1d", "jitter": "1h"}, "send_window": {"start": "12:00"}}
    sim = Simulator(seed(step("a", **when)), {"a": {}}, now=START)
    for _ in range(10):
        sim.start()
    sim.run()
    noon = START + timedelta(days=1)
    assert all(noon <= call.at <= noon + timedelta(hours=1) for call in sim.calls)
    assert len({call.at for call in sim.calls}) == 10


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"schedule": {"offsets": ["1d"], "anchor": "{{data.text}}"}}, "the anchor is 'soon'"),
    ({"not_before": "{{data.text}}"}, "not_before is 'soon'"),
    ({"not_before": "{{data.far}}", "align": {"mode": "business_day"}}, "never becomes due"),
    ({"delay": {"duration": "1d", "calendar": "{{data.text}}"}}, "no calendar 'soon'"),
    ({"send_window": {"calendar": "{{data.seven}}"}}, "no calendar 7"),
    ({"send_window": {"days": ["fri"], "calendar": "{{data.saudi}}"}}, "does not open"),
]


@pytest.mark.parametrize(("when", "message"), BROKEN)
def test_due_time_that_cannot_be_told_fails_the_step(when: dict[str, Any], message: str) -> None:
    """The error says what was found; nothing is called at a moment that was not asked for."""
    sim = Simulator(seed(step("a", **when)), {"a": {}}, now=START)
    data = {"text": "soon", "far": "9999-12-31T00:00:00Z", "seven": 7, "saudi": "SA"}
    run = sim.start({"data": data})
    sim.run()
    assert (run.state, sim.calls) == ("failed", [])
    assert run.error is not None
    assert message in run.error["message"]


def test_calendar_that_comes_to_null_is_monday_to_friday() -> None:
    """As if it were left out: 26 October is a holiday in Austria only."""
    when = {"delay": "3w", "send_window": {"calendar": "{{data.country}}"}}
    sim = Simulator(seed(step("a", **when)), {"a": {}}, now=START)
    sim.start()
    sim.start({"data": {"country": "AT"}})
    sim.run()
    assert [f"{call.at:%a %d %H}" for call in sim.calls] == ["Mon 26 12", "Tue 27 09"]


def test_wait_that_was_woken_ends_at_once() -> None:
    """Its delay is not looked at any more, and its output says so."""
    sim = Simulator(seed(step("wait", params={"duration": "3d"})), now=START)
    instance = sim.start()
    sim.run_for("1h")

    def wake(run: Run) -> None:
        row = run.step(NodeKey("wait"))
        row.progress = {"woken": True}
        run.schedule(row, run.now)

    sim._driver.change(instance.id, wake)
    sim.run()
    assert sim.now == START + timedelta(hours=1)
    assert instance.outputs["wait"]["woken"] is True


# -- times of outputs -------------------------------------------------------------------------
def test_expressions_read_when_a_step_was_entered_and_ended() -> None:
    """As RFC 3339 texts; before it has run they are null."""
    params = {"from": "{{outputs.a.started_at}}", "to": "{{outputs.a.finished_at}}"}
    sim = Simulator(
        seed(step("early", params=params), step("a", delay="5s"), step("b", params=params)),
        {"early": {}, "a": {}, "b": {}},
        now=START,
    )
    sim.start()
    sim.run()
    assert sim.calls[0].params == {"from": None, "to": None}
    assert sim.calls[2].params == {
        "from": "2026-10-05T12:00:00.000000Z",
        "to": "2026-10-05T12:00:05.000000Z",
    }


def test_output_keeps_its_own_times() -> None:
    """What a handler says of itself is not overwritten."""
    sim = Simulator(
        seed(step("a"), step("b", params={"x": "{{outputs.a.finished_at}}"})),
        {"a": {"finished_at": "then"}, "b": {}},
        now=START,
    )
    sim.start()
    sim.run()
    assert sim.calls[1].params == {"x": "then"}


# -- zones from the context -------------------------------------------------------------------
ZONED = seed(step("a", send_window={"start": "09:00"}), timezone="{{context.data.zone}}")


def test_zone_of_an_instance_comes_from_its_context() -> None:
    """A zone that is asked for wins, and null is UTC."""
    sim = Simulator(ZONED, {"a": {}}, now=START.replace(hour=3))
    sim.start({"data": {"zone": "Europe/Berlin"}})
    sim.start({"data": {"zone": "Europe/Berlin"}}, timezone="Asia/Tokyo")
    sim.start()
    sim.run()
    assert [call.at.hour for call in sim.calls] == [3, 7, 9]


@pytest.mark.parametrize("zone", ["Mars/Olympus", 7, "", {}])
def test_zone_that_does_not_exist_refuses_the_start(zone: Any) -> None:
    """The answer names the member of the context."""
    sim = Simulator(ZONED, now=START)
    with pytest.raises(InvalidArgument, match="no time zone") as refused:
        sim.start({"data": {"zone": zone}})
    assert [each.pointer for each in refused.value.errors] == ["/context/data/zone"]


def test_zone_that_cannot_be_evaluated_refuses_the_start() -> None:
    """The answer says why."""
    sim = Simulator(seed(step("a"), timezone="{{data.zone | base64_decode}}"), now=START)
    with pytest.raises(InvalidArgument, match="bad base64") as refused:
        sim.start({"data": {"zone": "?"}})
    assert [each.pointer for each in refused.value.errors] == ["/timezone"]


def test_zone_of_a_child_comes_from_its_input() -> None:
    """One that does not exist fails the step that starts it."""
    sim = Simulator(ZONED, {"a": {}}, now=START)
    block = {"type": "sub_sequence", "sequence": sim.name, "input": {"zone": "{{data.zone}}"}}
    sim.publish({**seed(block), "id": "parent"})
    good = sim.start({"data": {"zone": "Europe/Berlin"}}, sequence="parent")
    bad = sim.start({"data": {"zone": "Mars"}}, sequence="parent")
    sim.run()
    assert (good.state, good.children[0].row.timezone) == ("completed", "Europe/Berlin")
    assert (bad.state, bad.children) == ("failed", [])
