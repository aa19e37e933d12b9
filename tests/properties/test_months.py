"""Months of ids: each id is of exactly one, and the bounds of a batch leave nothing out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orch8.storage.ids import first_of, made_at
from orch8.storage.months import Month, span, within

moments = st.datetimes(datetime(1971, 1, 1), datetime(2900, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@st.composite
def ids(draw: st.DrawFn) -> UUID:
    """An id made at some moment."""
    return UUID(int=first_of(draw(moments)).int | draw(st.integers(0, 2**80 - 1)))


@given(ids())
def test_id_is_between_the_bounds_of_its_month(made: UUID) -> None:
    """From the first id of the month on, and below the first one of the next."""
    month = Month.of(made)
    assert month.low <= made < month.high
    assert (made_at(made).year, made_at(made).month) == (month.year, month.number)


@given(moments)
def test_months_follow_one_another_without_a_gap(moment: datetime) -> None:
    """Where one ends, the next one begins; it is the next by the calendar, too."""
    month = Month.at(moment)
    assert month.high == month.next.low
    assert made_at(month.next.low) - timedelta(days=1) >= made_at(month.low)
    assert Month.at(made_at(month.low) + timedelta(days=32)) == month.next
    assert Month.at(made_at(month.low) - timedelta(milliseconds=1)).next == month


@given(moments, st.integers(-400, 400))
def test_later_and_earlier_are_opposites(moment: datetime, months: int) -> None:
    """Going forth and back ends where it began, and order follows the calendar."""
    month = Month.at(moment)
    assert month.later(months).later(-months) == month
    assert (month.later(months) > month) == (months > 0)


@given(moments)
def test_month_has_a_name_that_means_it(moment: datetime) -> None:
    """Names sort as months do, so the newest partition is the last by name."""
    month = Month.at(moment)
    assert Month.named(str(month)) == month
    assert str(month) < str(month.next)


@pytest.mark.parametrize("name", ["2026-11", "2026_13", "2026_00", "26_11", "", "x2026_11"])
def test_what_is_no_month_is_refused(name: str) -> None:
    """The message shows how one is written."""
    with pytest.raises(ValueError, match="2026_11"):
        Month.named(name)


@given(st.lists(ids(), min_size=1, max_size=20))
def test_span_leaves_no_id_of_a_batch_out(batch: list[UUID]) -> None:
    """The bounds hold every id, and reach from a month's begin to a month's end."""
    bounds = span(batch)
    assert bounds["low"] <= min(batch)
    assert max(batch) <= bounds["high"]
    assert Month.of(bounds["low"]).low == bounds["low"]
    assert Month.of(bounds["high"]).high.int - 1 == bounds["high"].int


@given(st.uuids(), ids())
def test_span_takes_whatever_looks_like_an_id(given_id: UUID, made: UUID) -> None:
    """Callers ask for ids that nobody made, of years that no calendar has."""
    bounds = span([given_id, made])
    assert bounds["low"] <= given_id <= bounds["high"]
    assert bounds["low"] <= made <= bounds["high"]


@given(ids(), st.integers(0, 9 * 3600 * 1000))
def test_span_of_ids_far_from_the_end_of_a_month_is_that_month(made: UUID, after: int) -> None:
    """So a batch of one month is planned for one partition."""
    month = Month.of(made)
    middle = made_at(month.low) + timedelta(days=10, milliseconds=after)
    assert span([first_of(middle)]) == {"low": month.low, "high": UUID(int=month.high.int - 1)}


def test_condition_names_each_column() -> None:
    """The planner does not carry bounds over from one table to the next."""
    assert within("i.id", "s.instance_id") == (
        "i.id >= ALL (ARRAY[%(low)s]) AND i.id <= ALL (ARRAY[%(high)s])"
        " AND s.instance_id >= ALL (ARRAY[%(low)s]) AND s.instance_id <= ALL (ARRAY[%(high)s])"
    )
