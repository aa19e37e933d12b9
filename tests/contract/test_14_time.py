"""CONTRACT 14.1 to 14.3: delays, send windows and rate limits, and when they let a step go."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zlib import crc32
from zoneinfo import ZoneInfo

import orjson
import pytest

from tests.support.api import NOOP, Api
from tests.support.desk import Desk

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
SLACK = timedelta(seconds=20)  # that a test may take between two looks at the clock


def step(**more: Any) -> Any:
    """A step that does nothing."""
    return {"type": "step", "id": "a", "handler": "noop", **more}


def sequence(*blocks: Any) -> Any:
    """A definition of these blocks."""
    return {"id": f"timed_{crc32(orjson.dumps(blocks))}", "blocks": list(blocks)}


def contract(api: Api, *blocks: Any) -> Any:
    """As sequence, published in the contract's form; its id."""
    body = {
        "id": "01890a5d-ac96-774b-bcce-b302099a8057", "tenant_id": "default",
        "namespace": "default", "name": "timed", "version": 1, "blocks": list(blocks),
        "created_at": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    return api.post("/sequences", body)["id"]


def due(instance: Any) -> datetime:
    """When the instance goes on."""
    return datetime.fromisoformat(instance["next_fire_at"])


def now(desk: Desk) -> datetime:
    """What time it is for the engine."""
    return desk.house.advance()


def set_clock(desk: Desk, at: datetime) -> None:
    """It is that time, which must not have been yet."""
    desk.house.advance(at - now(desk))


# -- 14.1 delay ------------------------------------------------------------------------------------
def test_delayed_instance_shows_when_it_goes_on(desk: Desk) -> None:
    """It is scheduled until then, and goes on then."""
    before = now(desk)
    found = desk.run(sequence(step(delay={"duration": 7_200_000})))
    assert found["state"] == "scheduled"
    assert before + 2 * HOUR <= due(found) <= before + 2 * HOUR + SLACK
    set_clock(desk, due(found) - timedelta(minutes=1))
    desk.house.work()
    assert desk.read(found)["state"] == "scheduled"
    desk.house.advance(timedelta(minutes=1))
    desk.house.work()
    assert desk.read(found)["state"] == "completed"


@pytest.mark.parametrize("signal", ["pause", {"custom": "hello"}, "update_context"])
def test_delay_is_never_computed_anew(desk: Desk, signal: Any) -> None:
    """Whatever wakes the instance meanwhile: the step is due when it was to be."""
    found = desk.run(sequence(step(delay={"days": 3})))
    at = found["next_fire_at"]
    desk.house.advance(DAY)
    body = {"signal_type": signal, "payload": {"data": {"x": 1}}}
    desk.api.post(f"/instances/{found['id']}/signals", body)
    desk.house.work()
    if signal == "pause":
        desk.api.post(f"/instances/{found['id']}/signals", {"signal_type": "resume"})
        desk.house.work()
    assert desk.read(found)["next_fire_at"] == at


def test_delay_is_served_once(desk: Desk) -> None:
    """A retry of the call is due by its back-off alone."""
    tries: list[int] = []

    def flaky(request: Any) -> Any:
        tries.append(request.dispatch)
        if len(tries) == 1:
            raise RuntimeError("not yet")
        return {}

    desk.house.handler("flaky", flaky)
    call = {
        "type": "step", "id": "a", "handler": "flaky", "effect": "none", "delay": {"days": 3},
        "retry": {"max_attempts": 3, "backoff": "10m"},
    }  # fmt: skip
    found = desk.run(sequence(call))
    desk.house.advance(3 * DAY)
    desk.house.work()
    assert due(desk.read(found)) <= now(desk) + HOUR
    desk.house.advance(HOUR)
    desk.house.work()
    assert (desk.read(found)["state"], len(tries)) == ("completed", 2)


def test_jitter_varies_and_stays_within_its_bounds(desk: Desk) -> None:
    """Either way, and each instance has its own."""
    delay = {"duration": 3_600_000, "jitter": 600_000}
    before = now(desk)
    found = [due(desk.run(sequence(step(delay=delay)))) for _ in range(8)]
    after = now(desk)
    assert len(set(found)) > 1
    for at in found:
        assert before + timedelta(minutes=50) <= at <= after + timedelta(minutes=70)


def test_no_jitter_is_exact(desk: Desk) -> None:
    """Two instances are due as far from each other as they were begun."""
    delay = {"duration": 3_600_000, "jitter": 0}
    before = now(desk)
    found = [due(desk.run(sequence(step(delay=delay)))) for _ in range(3)]
    assert before + HOUR <= min(found)
    assert max(found) <= now(desk) + HOUR


def test_business_days_pass_over_weekends_and_holidays(desk: Desk) -> None:
    """Those of the step, and those of the instance's own configuration."""
    set_clock(desk, datetime(2027, 3, 4, 12, tzinfo=UTC))  # a Thursday
    delay = {"duration": 86_400_000, "business_days_only": True}
    assert due(desk.run(sequence(step(delay=delay)))).date() == date(2027, 3, 5)
    delay |= {"holidays": ["2027-03-05"]}
    assert due(desk.run(sequence(step(delay=delay)))).date() == date(2027, 3, 8)
    config = {"holidays": ["2027-03-08", "no date", 7]}
    found = desk.run(sequence(step(delay=delay)), context={"config": config})
    assert due(found).date() == date(2027, 3, 9)


@pytest.mark.parametrize("config", [None, {}, {"holidays": None}, {"holidays": "2027-03-08"}])
def test_configuration_without_holidays_closes_nothing(desk: Desk, config: Any) -> None:
    """Whatever else it holds."""
    set_clock(desk, datetime(2027, 3, 5, 12, tzinfo=UTC))
    delay = {"duration": 86_400_000, "business_days_only": True}
    found = desk.run(sequence(step(delay=delay)), context={"config": config})
    assert due(found).date() == date(2027, 3, 8)


def test_holidays_are_days_of_the_instances_zone(desk: Desk) -> None:
    """Late on Friday in London it is Saturday in Tokyo."""
    set_clock(desk, datetime(2027, 3, 5, 18, tzinfo=UTC))
    delay = {"duration": 1000, "business_days_only": True}
    there = due(desk.run(sequence(step(delay=delay)), timezone="Asia/Tokyo"))
    assert there.astimezone(ZoneInfo("Asia/Tokyo")).date() == date(2027, 3, 8)


def test_holidays_without_business_days_mean_nothing(desk: Desk) -> None:
    """The flag says whether closed days count."""
    set_clock(desk, datetime(2027, 3, 4, 12, tzinfo=UTC))
    delay = {"duration": 86_400_000, "holidays": ["2027-03-05"]}
    assert due(desk.run(sequence(step(delay=delay)))).date() == date(2027, 3, 5)


@pytest.mark.parametrize(
    ("local", "meant"),
    [
        ("2027-07-01T09:00:00", datetime(2027, 7, 1, 7, tzinfo=UTC)),
        ("2028-03-26T02:30:00", datetime(2028, 3, 26, 1, 30, tzinfo=UTC)),  # skipped: an hour later
        ("2027-10-31T02:30:00", datetime(2027, 10, 31, 0, 30, tzinfo=UTC)),  # twice: the first
    ],
)
@pytest.mark.parametrize("where", ["delay", "instance"])
def test_local_time_is_of_the_delays_zone_or_the_instances(
    desk: Desk, local: str, meant: datetime, where: str
) -> None:
    """A time that a clock change skips is an hour later, of one that it repeats the first is meant.
    The duration does not matter then.
    """
    delay = {"duration": 1000, "fire_at_local": local}
    zone = {"timezone": "Europe/Vienna"}
    more = zone if where == "instance" else {}
    found = desk.run(sequence(step(delay=delay | (zone if where == "delay" else {}))), **more)
    assert due(found) == meant


@pytest.mark.parametrize(
    "wrong",
    [{"fire_at_local": "tomorrow"}, {"fire_at_local": "2030-01-01T00:00:00", "timezone": "Mars"}],
)
def test_local_time_that_is_none_gives_way(desk: Desk, wrong: Any) -> None:
    """To the duration, or to the instance's zone; publishing remarks on it."""
    sequence_id = contract(desk.api, step(delay={"duration": 3_600_000, **wrong}))
    body = {"sequence_id": sequence_id, "tenant_id": "default", "namespace": "default"}
    started = desk.api.post("/instances", body)
    desk.house.work()
    at = due(desk.read(started))
    if "timezone" in wrong:
        assert at == datetime(2030, 1, 1, tzinfo=UTC)
    else:
        assert at - now(desk) <= HOUR


def test_zone_of_an_instance_comes_back(api: Api) -> None:
    """UTC, if none is named; one that is none is 400, and not taken for UTC."""
    assert api.started(NOOP)["timezone"] == "UTC"
    started = api.started(NOOP, timezone="America/New_York")
    assert api.get(f"/instances/{started['id']}")["timezone"] == "America/New_York"
    api.refused(400, "POST", "/sequences/noop_once/instances", {"timezone": "Mars/Olympus"})


def test_instance_of_the_far_future_that_is_scheduled_runs_promptly(desk: Desk) -> None:
    """Without a time it is now."""
    started = desk.api.started(NOOP, next_fire_at="2999-01-01T00:00:00Z")
    path = f"/instances/{started['id']}/state"
    assert desk.api.send("PATCH", path, {"state": "paused"}).status_code == 200
    assert desk.api.send("PATCH", path, {"state": "scheduled"}).status_code == 200
    desk.house.work()
    assert desk.read(started)["state"] == "completed"


# -- 14.2 send window ------------------------------------------------------------------------------
def window(at: datetime, *, opens: int, closes: int, **more: Any) -> Any:
    """A window that opens and closes so many hours from a time."""
    hours = {"start_hour": (at.hour + opens) % 24, "end_hour": (at.hour + closes) % 24}
    return step(send_window=hours | more)


def test_step_waits_for_its_window(desk: Desk) -> None:
    """Scheduled, until the hour at which it opens."""
    found = desk.run(sequence(window(now(desk), opens=2, closes=4)))
    assert found["state"] == "scheduled"
    at = due(found)
    assert (at.minute, at.second, at > now(desk)) == (0, 0, True)
    set_clock(desk, at)
    desk.house.work()
    assert desk.read(found)["state"] == "completed"


def test_open_window_lets_a_step_go_at_once(desk: Desk) -> None:
    """Also one that goes over midnight."""
    assert desk.run(sequence(window(now(desk), opens=-2, closes=3)))["state"] == "completed"
    assert desk.run(sequence(window(now(desk), opens=0, closes=23)))["state"] == "completed"


def test_window_ends_before_its_last_hour(desk: Desk) -> None:
    """end_hour is no part of it."""
    set_clock(desk, (now(desk) + DAY).replace(hour=17, minute=0, second=0, microsecond=0))
    found = desk.run(sequence(step(send_window={"start_hour": 9, "end_hour": 17})))
    assert due(found).hour == 9
    assert desk.run(sequence(step(send_window={})))["state"] == "scheduled"


def test_window_is_one_of_the_instances_zone(desk: Desk) -> None:
    """Nine in the morning in Tokyo is midnight in UTC."""
    set_clock(desk, (now(desk) + DAY).replace(hour=12, minute=0, second=0, microsecond=0))
    found = desk.run(
        sequence(step(send_window={"start_hour": 9, "end_hour": 10})), timezone="Asia/Tokyo"
    )
    assert due(found).hour == 0


def test_window_opens_on_its_days_only(desk: Desk) -> None:
    """0 is Monday; none named is every day."""
    set_clock(desk, datetime(2027, 3, 5, 12, tzinfo=UTC))  # a Friday
    hours = {"start_hour": 9, "end_hour": 17}
    found = desk.run(sequence(step(send_window=hours | {"days": [0]})))
    assert due(found) == datetime(2027, 3, 8, 9, tzinfo=UTC)
    assert desk.run(sequence(step(send_window=hours | {"days": [4]})))["state"] == "completed"
    assert desk.run(sequence(step(send_window=hours | {"days": []})))["state"] == "completed"


def test_window_holds_inside_a_branch(desk: Desk) -> None:
    """Safer than the original, which ignores it in trees."""
    inside = window(now(desk), opens=2, closes=4)
    parallel = {"type": "parallel", "id": "p", "branches": [[inside]]}
    assert desk.run(sequence(parallel))["state"] == "scheduled"


# -- 14.3 rate limits ------------------------------------------------------------------------------
def test_key_without_a_limit_lets_every_step_go(desk: Desk) -> None:
    """As long as nobody states one."""
    desk.house.handler("call", lambda _: {})
    call = {"type": "step", "id": "a", "handler": "call", "rate_limit_key": "free"}
    for _ in range(3):
        assert desk.run(sequence(call))["state"] == "completed"


def test_step_over_its_limit_waits_and_uses_no_attempt(desk: Desk) -> None:
    """Meanwhile the instance is scheduled."""
    desk.house.handler("call", lambda _: {})
    limit = {"rate_limit_key": "tight", "rate_limit": {"max": 1, "window_seconds": 1}}
    call = {"type": "step", "id": "a", "handler": "call", "retry": {"max_attempts": 1}, **limit}
    started = [desk.api.started(sequence(call)) for _ in range(3)]
    states = [each["state"] for each in started]
    while states != ["completed"] * 3:
        assert set(states) <= {"scheduled", "running", "completed"}
        desk.house.tick()
        desk.house.work()
        states = [desk.read(each)["state"] for each in started]
    rows = desk.api.rows("SELECT failures, dispatches, deferrals > 0 FROM steps ORDER BY 3")
    assert {row[:2] for row in rows} == {(0, 1)}
    assert rows[-1][2]
