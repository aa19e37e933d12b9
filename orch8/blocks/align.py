"""The JSON of ``align``: to which days a moment moves forward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from orch8.blocks.fields import Anything, Choice, Many, Span, Text
from orch8.blocks.local import read_calendar, read_clock, read_weekdays
from orch8.blocks.schema import Base, Draft
from orch8.engine.align import LAST, Align
from orch8.engine.calendar import Roll

_ROLL_OF_MODE: Final = {
    "payday": Roll.PRECEDING,  # wages come before the weekend
    "weekday": Roll.NONE,
    "business_day": Roll.FOLLOWING,
}


class AlignSchema(Base):
    """Days to move forward to."""

    mode = Choice(*_ROLL_OF_MODE, required=True)
    days_of_month = Many(Anything(), least=1, most=31)
    weekdays = Many(Anything(), least=1, most=7)
    at = Text()
    max_shift = Span()
    roll = Choice(*Roll)
    calendar = Text(blank=False)


def read_align(draft: Draft, values: Mapping[str, Any] | None, pointer: str) -> Align | None:
    """The days to align with; what is wrong with them is noted in the draft."""
    if values is None:
        return None
    mode = values.get("mode")
    wanted = {"payday": ("days_of_month", "weekdays"), "weekday": ("weekdays",)}.get(mode or "", ())
    if wanted and values.keys().isdisjoint(wanted):
        hint = 'such as [1, 15, "last"]' if mode == "payday" else 'such as ["tue", "thu"]'
        draft.problem(f"{pointer}/{wanted[0]}", f"{wanted[0]} is required with mode {mode}", hint)
    for name in ("days_of_month", "weekdays"):
        if mode is not None and name in values and name not in wanted:
            draft.problem(f"{pointer}/{name}", f"mode {mode} does not read {name}", "leave it out")
    roll = Roll(values.get("roll") or _ROLL_OF_MODE.get(mode or "", Roll.NONE))
    if mode == "business_day" and roll is Roll.NONE:
        draft.problem(f"{pointer}/roll", "mode business_day has to roll", "leave roll out")
    elif mode == "business_day" and roll is not Roll.FOLLOWING:
        hint = "leave roll out, or let the wait end earlier"
        message = f"roll {roll} is as following here: a moment is never moved back"
        draft.warn(f"{pointer}/roll", message, hint)
    at = values.get("at")
    return Align(
        _days_of_month(draft, values.get("days_of_month"), f"{pointer}/days_of_month"),
        read_weekdays(draft, values.get("weekdays"), f"{pointer}/weekdays"),
        None if at is None else read_clock(draft, at, "at", f"{pointer}/at"),
        values.get("max_shift"),
        roll,
        read_calendar(draft, values, pointer),
    )


def _days_of_month(draft: Draft, given: Any, pointer: str) -> frozenset[int]:
    found = set()
    for i, each in enumerate(given or ()):
        day = LAST if each == "last" else each
        if isinstance(day, int) and not isinstance(day, bool) and 1 <= day <= LAST:
            found.add(day)
        else:
            hint = 'write 1 to 31, or "last"'
            draft.problem(f"{pointer}/{i}", f"{str(each)[:20]!r} is no day of a month", hint)
    return frozenset(found)
