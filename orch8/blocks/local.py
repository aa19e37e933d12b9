"""The JSON of local times: times of day, days of the week, dates, zones and calendars."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from orch8.blocks.calendars import EXAMPLES, calendar_named, closest_calendar
from orch8.blocks.schema import Draft

if TYPE_CHECKING:
    from orch8.engine.expressions import Template

WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def zone_named(name: str) -> ZoneInfo | None:
    """The time zone of that IANA name, None if there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def read_clock(draft: Draft, text: str, name: str, pointer: str) -> time | None:
    """The time of day in the member ``name``; None, and a problem in the draft, if it is none."""
    try:
        clock = time.fromisoformat(text)
        if clock.tzinfo is None:
            return clock
    except ValueError:
        pass
    draft.problem(pointer, f"{name} {text[:20]!r} is no time of day", 'write "09:00"')
    return None


def read_weekdays(draft: Draft, given: Any, pointer: str) -> frozenset[int]:
    """The days of the week in a list, from Monday 0; what is none is noted in the draft."""
    found = (_weekday(draft, each, f"{pointer}/{i}") for i, each in enumerate(given or ()))
    return frozenset(day for day in found if day is not None)


def read_dates(draft: Draft, given: Any, pointer: str) -> frozenset[date]:
    """The dates in a list; what is none is noted in the draft."""
    found = []
    for i, text in enumerate(given or ()):
        day = date_of(text)
        if day is not None:
            found.append(day)
        else:
            _loose(draft, f"{pointer}/{i}", f"{text!r} is no date", 'write "2026-12-25"')
    return frozenset(found)


def date_of(text: Any) -> date | None:
    """The date that is written like 2026-12-25; None if it is none."""
    try:
        return date.fromisoformat(text)
    except (ValueError, TypeError):
        return None


def read_local(draft: Draft, text: str | None, pointer: str) -> datetime | None:
    """The local time that ``fire_at_local`` means, None if it means none."""
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


def read_zone(draft: Draft, name: str | None, pointer: str) -> ZoneInfo | None:
    """The time zone of that name; None, and a remark in the draft, if there is none."""
    zone = zone_named(name) if name is not None else None
    if name is not None and zone is None:
        _loose(draft, pointer, f"there is no time zone {name[:40]!r}", 'write "Europe/Berlin"')
    return zone


def read_calendar(draft: Draft, values: Mapping[str, Any], pointer: str) -> Template | None:
    """The template in the member ``calendar``, if any; a name of no calendar is a problem."""
    template = draft.template(values.get("calendar"), f"{pointer}/calendar")
    if template is None or not template.is_constant:
        return template
    name = values["calendar"]
    if calendar_named(name) is None:
        meant = closest_calendar(name)
        hint = f'did you mean "{meant}"?' if meant else f"such as {EXAMPLES}"
        draft.problem(f"{pointer}/calendar", f"there is no calendar {name[:40]!r}", hint)
    return template


def _weekday(draft: Draft, given: Any, pointer: str) -> int | None:
    if isinstance(given, str) and given.lower() in WEEKDAYS:
        return WEEKDAYS.index(given.lower())
    if isinstance(given, int) and not isinstance(given, bool) and 0 <= given < len(WEEKDAYS):
        return given
    hint = f"write {', '.join(WEEKDAYS)}, or 0 for Monday to 6 for Sunday"
    draft.problem(pointer, f"{str(given)[:20]!r} is no day of the week", hint)
    return None


def _loose(draft: Draft, pointer: str, message: str, hint: str) -> None:
    """Existing clients may write what they like here: it is ignored, and they are told."""
    if draft.contract:
        draft.warn(pointer, message, hint, code="ignored")
    else:
        draft.problem(pointer, message, hint)
