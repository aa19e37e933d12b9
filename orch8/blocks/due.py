"""The JSON of when a step becomes due: ``delay`` and ``send_window``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from orch8.blocks.fields import Anything, Flag, Many, Part, Span, Text, Whole
from orch8.blocks.schema import Base, Draft
from orch8.engine.duration import Duration
from orch8.engine.timing import Delay, SendWindow

WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_LATER_CALENDAR = "holidays come as dates in a delay's holidays; calendars by name come later"


class DelaySchema(Base):
    """The long form of a delay."""

    duration = Span()
    business_days_only = Flag()
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


class SendWindowSchema(Base):
    """Local hours of the day, in either spelling."""

    start_hour = Whole(most=23)
    end_hour = Whole(most=23)
    start = Text()
    end = Text()
    days = Many(Anything(), most=7)
    business_days = Flag(later=_LATER_CALENDAR)
    calendar = Text(later=_LATER_CALENDAR)


def is_long_delay(value: Any) -> bool:
    """Whether a delay is written as an object of its own rather than as a duration."""
    return isinstance(value, dict) and not value.keys().isdisjoint(_LONG)


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
        bool(values.get("business_days_only")),
        jitter.total_ms() / 1000 if jitter else 0.0,
        frozenset(_holidays(draft, values.get("holidays") or (), f"{pointer}/holidays")),
        _local(draft, local, f"{pointer}/fire_at_local"),
        _zone(draft, values.get("timezone"), f"{pointer}/timezone"),
    )


def read_window(draft: Draft, values: Mapping[str, Any] | None, pointer: str) -> SendWindow | None:
    """The send window that loaded values describe; what is wrong is noted in the draft."""
    if values is None:
        return None
    start = _clock(draft, values, "start", 9, pointer)
    end = _clock(draft, values, "end", 17, pointer)
    if start == end:
        hint = "end is exclusive; leave send_window out if any time will do"
        draft.problem(pointer, "send_window never opens: start and end are the same", hint)
    days = frozenset(
        day
        for i, given in enumerate(values.get("days") or ())
        if (day := _weekday(draft, given, f"{pointer}/days/{i}")) is not None
    )
    return SendWindow(start, end, days)


def zone_named(name: str) -> ZoneInfo | None:
    """The time zone of that IANA name, None if there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _holidays(draft: Draft, given: Any, pointer: str) -> list[date]:
    found = []
    for i, text in enumerate(given):
        try:
            found.append(date.fromisoformat(text))
        except (ValueError, TypeError):
            _loose(draft, f"{pointer}/{i}", f"{text!r} is no date", 'write "2026-12-25"')
    return found


def _local(draft: Draft, text: str | None, pointer: str) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is not None:
        hint = 'write a local time without a zone: "2026-12-25T09:00:00"'
        _loose(draft, pointer, f"fire_at_local {text[:40]!r} is no local time", hint)
        return None
    return moment


def _zone(draft: Draft, name: str | None, pointer: str) -> ZoneInfo | None:
    zone = zone_named(name) if name is not None else None
    if name is not None and zone is None:
        _loose(draft, pointer, f"there is no time zone {name[:40]!r}", 'write "Europe/Berlin"')
    return zone


def _loose(draft: Draft, pointer: str, message: str, hint: str) -> None:
    """Existing clients may write what they like here: it is ignored, and they are told."""
    if draft.contract:
        draft.warn(pointer, message, hint, code="ignored")
    else:
        draft.problem(pointer, message, hint)


def _clock(draft: Draft, values: Mapping[str, Any], name: str, default: int, pointer: str) -> time:
    text = values.get(name)
    if text is None:
        return time(values.get(f"{name}_hour", default))
    if f"{name}_hour" in values:
        draft.problem(f"{pointer}/{name}", f"{name} and {name}_hour say the same: keep one")
    try:
        clock = time.fromisoformat(text)
        if clock.tzinfo is None:
            return clock
    except ValueError:
        pass
    draft.problem(f"{pointer}/{name}", f"{name} {text[:20]!r} is no time of day", 'write "09:00"')
    return time(default)


def _weekday(draft: Draft, given: Any, pointer: str) -> int | None:
    if isinstance(given, str) and given.lower() in WEEKDAYS:
        return WEEKDAYS.index(given.lower())
    if isinstance(given, int) and not isinstance(given, bool) and 0 <= given < len(WEEKDAYS):
        return given
    hint = f"write {', '.join(WEEKDAYS)}, or 0 for Monday to 6 for Sunday"
    draft.problem(pointer, f"{str(given)[:20]!r} is no day of the week", hint)
    return None
