"""Spreading: places are even and lasting, moments stay inside span and rules; how it is written."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orch8.engine.align import Align
from orch8.engine.calendar import WEEKDAYS, Roll
from orch8.engine.duration import Duration
from orch8.engine.spread import Spread, place, spread_from
from orch8.engine.timing import Rules, SendWindow, admissible
from orch8.testing import Simulator
from tests.support.documents import refusal, seed, step

BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")
MIDNIGHT = datetime(2026, 10, 5, tzinfo=UTC)  # a Monday
TWO_HOURS = timedelta(hours=2)


def free(zone: tzinfo = UTC, earliest: datetime = MIDNIGHT, **more: Any) -> Rules:
    """Rules that say nothing but what is given."""
    return Rules(zone=zone, earliest=earliest, **more)


# -- places ----------------------------------------------------------------------------------
def test_place_of_a_subject_never_changes() -> None:
    """Whatever is deployed later: renewals stay where they were."""
    assert place("default", "cus_1") == pytest.approx(0.25580697, abs=1e-8)
    assert place("default", "cus_1") == place("default", "cus_1")
    assert place("other", "cus_1") != place("default", "cus_1")


def test_place_tells_tenant_and_subject_apart() -> None:
    """No two pairs run into each other."""
    assert place("a", "bc") != place("ab", "c")


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=20), st.text(max_size=20))
def test_places_are_even(tenant: str, prefix: str) -> None:
    """Of 2,000 subjects about as many lie in each twentieth: chi-square below 62 of 19 degrees."""
    places = [place(tenant, f"{prefix}{n}") for n in range(2000)]
    counts = Counter(int(each * 20) for each in places)
    assert set(counts) == set(range(20))
    assert sum((counts[n] - 100) ** 2 / 100 for n in range(20)) < 62


# -- moments ---------------------------------------------------------------------------------
def test_moment_is_the_part_of_the_span() -> None:
    """The first place is the base itself, the last is just before the end."""
    rules = free()
    assert spread_from(MIDNIGHT, TWO_HOURS, 0.0, rules) == MIDNIGHT
    assert spread_from(MIDNIGHT, TWO_HOURS, 0.25, rules) == MIDNIGHT + timedelta(minutes=30)
    assert spread_from(MIDNIGHT, TWO_HOURS, 1 - 2**-53, rules) < MIDNIGHT + TWO_HOURS


def test_span_ends_where_the_window_closes() -> None:
    """What is left of the window is shared evenly: nobody is moved to the next opening."""
    rules = free(window=SendWindow(time(9), time(10)))
    half_past = MIDNIGHT + timedelta(hours=9, minutes=30)
    assert spread_from(half_past, TWO_HOURS, 0.5, rules) == half_past + timedelta(minutes=15)
    night = free(window=SendWindow(time(22), time(6)))
    late = MIDNIGHT + timedelta(hours=23)
    assert spread_from(late, timedelta(hours=14), 0.5, night) == late + timedelta(hours=3.5)


def test_span_ends_with_the_aligned_day() -> None:
    """Payday renewals begin on payday, not on the day after."""
    payday = Align(days_of_month=frozenset({5}), at=time(0, 5), roll=Roll.NONE)
    begin = MIDNIGHT + timedelta(minutes=5)
    moved = spread_from(begin, timedelta(days=3), 0.999, free(align=payday))
    assert moved.date() == begin.date()
    assert moved > begin + timedelta(hours=23)


def test_span_goes_on_over_days_that_are_aligned() -> None:
    """Two business days in a row are one span."""
    moved = spread_from(MIDNIGHT, timedelta(days=2), 0.75, free(align=Align()))
    assert moved == MIDNIGHT + timedelta(hours=36)


CLOCKS = st.times().map(lambda t: t.replace(microsecond=0))
ALIGNS = st.builds(
    Align,
    days_of_month=st.frozensets(st.integers(1, 31), max_size=3),
    weekdays=st.frozensets(st.integers(0, 6), max_size=2),
    at=st.none() | CLOCKS,
    max_shift=st.none() | st.integers(0, 10).map(lambda n: Duration(days=n)),
    roll=st.sampled_from(Roll),
)
WINDOWS = st.builds(
    SendWindow, CLOCKS, CLOCKS, st.frozensets(st.integers(0, 4)), st.booleans()
).filter(lambda w: w.start != w.end)


@settings(deadline=None)
@given(
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)).map(lambda t: t.replace(tzinfo=UTC)),  # noqa: DTZ001 - made aware
    st.none() | ALIGNS,
    st.none() | WINDOWS,
    st.sampled_from([BERLIN, NEW_YORK, ZoneInfo("Asia/Kolkata"), ZoneInfo("UTC")]),
    st.timedeltas(timedelta(milliseconds=1), timedelta(days=31)),
    st.floats(0, 1, exclude_max=True),
)
def test_spread_moment_obeys_span_and_rules(
    base: datetime,
    align: Align | None,
    window: SendWindow | None,
    zone: ZoneInfo,
    over: timedelta,
    at: float,
) -> None:
    """It is never before the base, always inside the span, and no rule moves it any more."""
    rules = free(
        zone, base, align=align, align_calendar=WEEKDAYS, window=window, window_calendar=WEEKDAYS
    )
    try:
        base = admissible(base, rules)
    except ValueError:
        return
    moved = spread_from(base, over, at, rules)
    assert base <= moved < base + over
    assert admissible(moved, rules) == moved


# -- how it is written -----------------------------------------------------------------------
@pytest.mark.parametrize(
    "members",
    [
        {"spread": "2h"}, {"spread": {"over": "2h"}}, {"spread": {"hours": 2}},
        {"delay": {"duration": "1d", "spread": "2h"}},
        {"delay": {"duration": "1d", "spread": {"over": {"hours": 2}}}},
    ],
)  # fmt: skip
def test_spread_is_read_in_every_spelling(members: dict[str, Any]) -> None:
    """Of its own or inside a delay, short or long."""
    assert step(**members).spread == Spread(TWO_HOURS)


@pytest.mark.parametrize(
    ("members", "at", "message"),
    [
        ({"spread": "soon"}, "/spread", "is no duration"),
        ({"spread": "0s"}, "/spread", "longer than nothing"),
        ({"spread": {"months": 1}}, "/spread", "must not count months"),
        ({"spread": {"by": "x"}}, "/spread/over", "is required"),
        ({"spread": {"over": "2h", "bye": "x"}}, "/spread/bye", "unknown member"),
        ({"spread": "32d"}, "/spread", "not be longer than 31 days"),
        ({"spread": {"over": "2h", "by": "{{nope.x}}"}}, "/spread/by", "unknown root"),
        ({"spread": "2h", "delay": {"duration": "1d", "spread": "1h"}}, "/spread", "keep one"),
        ({"delay": {"duration": "1d", "spread": "1h", "jitter": "1m"}}, "/delay/jitter", "one"),
    ],
)
def test_wrong_spread_is_refused(members: dict[str, Any], at: str, message: str) -> None:
    """With one problem that names the place."""
    _, problems = refusal(seed({"type": "step", "handler": "charge", **members}))
    assert [each.pointer for each in problems] == [f"/blocks/0{at}"], problems
    assert message in problems[0].message


# -- runs ------------------------------------------------------------------------------------
RENEWAL = {
    "type": "wait",
    "until": "{{data.renews_at}}",
    "spread": {"over": "2h", "by": "{{data.customer}}"},
}


def called_at(data: dict[str, Any], now: datetime, *blocks: dict[str, Any]) -> datetime:
    """When the step behind the wait is called."""
    charge = {"type": "step", "handler": "a"}
    sim = Simulator(seed(*(blocks or (RENEWAL,)), charge), {"a": {}}, now=now)
    run = sim.start({"data": data})
    sim.run()
    assert run.state == "completed", run.error
    return sim.calls[0].at


def test_customers_renew_at_their_own_moment_every_month() -> None:
    """A new instance of the same customer has the same offset, another customer another one."""
    before = MIDNIGHT - timedelta(days=1)
    first = called_at({"renews_at": "2026-10-05T00:00:00Z", "customer": "cus_1"}, before)
    second = called_at({"renews_at": "2026-11-05T00:00:00Z", "customer": "cus_1"}, before)
    other = called_at({"renews_at": "2026-10-05T00:00:00Z", "customer": "cus_2"}, before)
    assert MIDNIGHT < first < MIDNIGHT + TWO_HOURS
    assert second - datetime(2026, 11, 5, tzinfo=UTC) == first - MIDNIGHT
    assert other != first


def test_wait_that_is_entered_late_keeps_its_place() -> None:
    """The span has begun; whoever's moment has passed goes at once, the others in their turn."""
    data = {"renews_at": "2026-10-05T00:00:00Z", "customer": "cus_1"}
    at = MIDNIGHT + TWO_HOURS * place("default", "cus_1")
    assert abs(called_at(data, at - timedelta(minutes=1)) - at) < timedelta(milliseconds=1)
    late = at + timedelta(minutes=1)
    assert called_at(data, late) == late


def test_instances_without_a_subject_spread_themselves() -> None:
    """Ten instances of one midnight begin at ten moments."""
    wait = {"type": "wait", "delay": {"duration": "1h", "spread": "2h"}}
    sim = Simulator(seed(wait, {"type": "step", "handler": "a"}), {"a": {}}, now=MIDNIGHT)
    for _ in range(10):
        sim.start()
    sim.run()
    times = {call.at for call in sim.calls}
    base = MIDNIGHT + timedelta(hours=1)
    assert len(times) == 10
    assert all(base <= at < base + TWO_HOURS for at in times)


@pytest.mark.parametrize("customer", [None, "", True, {"id": 1}])
def test_subject_that_is_none_fails_the_step(customer: Any) -> None:
    """Two customers must not share a place because neither has a name."""
    sim = Simulator(seed(RENEWAL), {}, now=MIDNIGHT)
    run = sim.start({"data": {"renews_at": "2026-10-06", "customer": customer}})
    sim.run()
    assert run.state == "failed"
    assert run.error is not None
    assert "spread.by came to" in run.error["message"]
