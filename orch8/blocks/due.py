"""The JSON of when a step becomes due: its delay or schedule, and what moves that moment."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
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
from orch8.engine.spread import LONGEST, Spread
from orch8.engine.timing import Delay, Rules, Schedule, SendWindow, admissible

_MOST_OFFSETS: Final = 1000
_SOME_DAY: Final = datetime(2026, 1, 1, tzinfo=UTC)  # to see whether rules can be obeyed at all


class ShortOrLong(Part):
    """A duration by itself, or an object in which it is the member ``short``."""

    def __init__(self, schema: type[Base], short: str, **more: Any) -> None:
        super().__init__(schema, **more)
        self.short = short

    def is_long(self, value: Any) -> bool:
        """Whether it is written as an object of its own rather than as a duration."""
        # One in business days is a duration, and refused as such.
        own = isinstance(value, dict) and not value.keys().isdisjoint(self.schema.fields)
        return own and "business_days" not in value

    def _deserialize(
        self, value: Any, attr: Any, data: Any, partial: Any = None, **kwargs: Any
    ) -> Any:
        if self.is_long(value):
            return super()._deserialize(value, attr, data, partial, **kwargs)
        return {self.short: self.schema.fields[self.short].deserialize(value, attr, data)}


class SpreadSchema(Base):
    """The long form of a spread."""

    over = Span(fixed=True, positive=True, required=True)
    by = Text(blank=False)


class SpreadMember(ShortOrLong):
    """A spread: how long it is, or an object with that in it."""

    def __init__(self, **more: Any) -> None:
        super().__init__(SpreadSchema, "over", **more)


class DelaySchema(Base):
    """The long form of a delay."""

    duration = Span()
    business_days_only = Flag()
    calendar = Text(blank=False)
    jitter = Span(fixed=True)
    spread = SpreadMember()
    holidays = Many(Text())
    fire_at_local = Text()
    timezone = Text()


class DelayMember(ShortOrLong):
    """A delay: how long it is, or an object with that in it."""

    def __init__(self, **more: Any) -> None:
        super().__init__(DelaySchema, "duration", **more)


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
        "spread": _read_spread(draft),
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


def _read_spread(draft: Draft) -> Spread | None:
    """The spread, wherever it stands; what is wrong with it is noted in the draft."""
    delay = draft.values.get("delay") or {}
    values, pointer = draft.values.get("spread"), "/spread"
    if delay.get("spread") is not None:
        if values is not None:
            draft.problem(pointer, "spread stands in delay, too: keep one")
        values, pointer = delay["spread"], "/delay/spread"
    if values is None:
        return None
    if delay.get("jitter"):
        hint = "spread is the same every time, jitter is by chance"
        draft.problem("/delay/jitter", "jitter and spread both move the moment: keep one", hint)
    given: Duration = values.get("over") or Duration()
    over = timedelta(milliseconds=given.total_ms())
    if over > LONGEST:
        draft.problem(pointer, f"spread must not be longer than {LONGEST.days} days")
    return Spread(over, draft.template(values.get("by"), f"{pointer}/by"))


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
