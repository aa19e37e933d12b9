"""The JSON of when a step becomes due: ``delay``, ``schedule``, ``align`` and ``send_window``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, time
from typing import Any, Final

from orch8.blocks.align import read_align
from orch8.blocks.calendars import calendar_named
from orch8.blocks.fields import Anything, Flag, Many, Part, Span, Text, Whole
from orch8.blocks.local import (
    read_calendar,
    read_clock,
    read_dates,
    read_local,
    read_weekdays,
    read_zone,
)
from orch8.blocks.schema import Base, Draft
from orch8.engine.align import Align
from orch8.engine.calendar import WEEKDAYS, Calendar
from orch8.engine.duration import Duration
from orch8.engine.timing import Delay, Rules, Schedule, SendWindow, admissible

_MOST_OFFSETS: Final = 1000
_SOME_DAY: Final = datetime(2026, 1, 1, tzinfo=UTC)  # to see whether rules can be obeyed at all


class DelaySchema(Base):
    """The long form of a delay."""

    duration = Span()
    business_days_only = Flag()
    calendar = Text(blank=False)
    jitter = Span(fixed=True)
    holidays = Many(Text())
    fire_at_local = Text()
    timezone = Text()


_LONG = frozenset(DelaySchema().fields)


class DelayMember(Part):
    """A delay: a duration by itself, or an object with one in it."""

    def __init__(self, **more: Any) -> None:
        super().__init__(DelaySchema, **more)

    def _deserialize(
        self, value: Any, attr: Any, data: Any, partial: Any = None, **kwargs: Any
    ) -> Any:
        if is_long_delay(value):
            return super()._deserialize(value, attr, data, partial, **kwargs)
        return {"duration": Span().deserialize(value, attr, data)}


class ScheduleSchema(Base):
    """Waits by iteration, counted from one anchor."""

    offsets = Many(Span(), required=True, least=1, most=_MOST_OFFSETS)
    anchor = Text(blank=False)


class SendWindowSchema(Base):
    """Local hours of the day, in either spelling."""

    start_hour = Whole(most=23)
    end_hour = Whole(most=23)
    start = Text()
    end = Text()
    days = Many(Anything(), most=7)
    business_days = Flag()
    calendar = Text(blank=False)


def is_long_delay(value: Any) -> bool:
    """Whether a delay is written as an object of its own rather than as a duration."""
    # One in business days is a duration, and refused as such.
    return isinstance(value, dict) and bool(value.keys() & _LONG) and "business_days" not in value


def read_due(draft: Draft) -> dict[str, Any]:
    """The members of a leaf that say when it becomes due; what is wrong is noted in the draft."""
    values = draft.values
    if "delay" in values and "schedule" in values:
        draft.problem("/schedule", "delay and schedule both say how long: keep one")
    align = read_align(draft, values.get("align"), "/align")
    window = read_window(draft, values.get("send_window"), "/send_window")
    _check_days(draft, align, window)
    return {
        "delay": read_delay(draft, values.get("delay"), "/delay"),
        "schedule": read_schedule(draft, values.get("schedule"), "/schedule"),
        "not_before": draft.template(values.get("not_before"), "/not_before"),
        "align": align,
        "send_window": window,
    }


def read_delay(draft: Draft, values: Mapping[str, Any] | None, pointer: str) -> Delay | None:
    """The delay that loaded values describe; what is wrong with them is noted in the draft."""
    if values is None:
        return None
    duration, local = values.get("duration"), values.get("fire_at_local")
    if duration is None and (draft.contract or local is None):
        draft.problem(f"{pointer}/duration", "duration is required", 'such as "3d"', shape=True)
    jitter: Duration | None = values.get("jitter")
    return Delay(
        duration or Duration(),
        _only_open_days(draft, values, "business_days_only", pointer),
        jitter.total_ms() / 1000 if jitter else 0.0,
        read_dates(draft, values.get("holidays"), f"{pointer}/holidays"),
        read_local(draft, local, f"{pointer}/fire_at_local"),
        read_zone(draft, values.get("timezone"), f"{pointer}/timezone"),
        read_calendar(draft, values, pointer),
    )


def read_schedule(draft: Draft, values: Mapping[str, Any] | None, pointer: str) -> Schedule | None:
    """The schedule that loaded values describe; what is wrong with them is noted in the draft."""
    if values is None:
        return None
    offsets = tuple(each for each in values.get("offsets", ()) if isinstance(each, Duration))
    return Schedule(offsets, draft.template(values.get("anchor"), f"{pointer}/anchor"))


def read_window(draft: Draft, values: Mapping[str, Any] | None, pointer: str) -> SendWindow | None:
    """The send window that loaded values describe; what is wrong is noted in the draft."""
    if values is None:
        return None
    start = _clock(draft, values, "start", 9, pointer)
    end = _clock(draft, values, "end", 17, pointer)
    if start == end:
        hint = "end is exclusive; leave send_window out if any time will do"
        draft.problem(pointer, "send_window never opens: start and end are the same", hint)
    return SendWindow(
        start,
        end,
        read_weekdays(draft, values.get("days"), f"{pointer}/days"),
        _only_open_days(draft, values, "business_days", pointer),
        read_calendar(draft, values, pointer),
    )


def _only_open_days(draft: Draft, values: Mapping[str, Any], flag: str, pointer: str) -> bool:
    """Whether closed days do not count: said by the flag, or by naming a calendar."""
    if values.get(flag) is False and "calendar" in values:
        hint = f"set {flag} to true, or leave the calendar out"
        draft.problem(f"{pointer}/calendar", f"calendar has no effect: {flag} is false", hint)
    return bool(values.get(flag, "calendar" in values))


def _clock(draft: Draft, values: Mapping[str, Any], name: str, default: int, pointer: str) -> time:
    text = values.get(name)
    if text is None:
        return time(values.get(f"{name}_hour", default))
    if f"{name}_hour" in values:
        draft.problem(f"{pointer}/{name}", f"{name} and {name}_hour say the same: keep one")
    return read_clock(draft, text, name, f"{pointer}/{name}") or time(default)


def _check_days(draft: Draft, align: Align | None, window: SendWindow | None) -> None:
    """Days that never come are a problem, as far as that can be seen without a context."""
    calendars = [_calendar(draft, "align"), _calendar(draft, "send_window")]
    if None in calendars or (window is not None and window.start == window.end):
        return
    rules = Rules(
        zone=UTC, earliest=_SOME_DAY, align=align, align_calendar=calendars[0] or WEEKDAYS,
        window=window, window_calendar=calendars[1] or WEEKDAYS,
    )  # fmt: skip
    try:
        admissible(_SOME_DAY, rules)
    except ValueError as problem:
        pointer = "/align" if window is None else "/send_window"
        draft.problem(pointer, str(problem), "allow more days")


def _calendar(draft: Draft, member: str) -> Calendar | None:
    """The calendar that a member names; None if that is told by the context, or none is."""
    name = (draft.values.get(member) or {}).get("calendar")
    return WEEKDAYS if name is None else calendar_named(name)
