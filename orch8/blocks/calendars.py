"""Calendars by name: the holidays of countries and their parts, of the Fed and of TARGET."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from difflib import get_close_matches
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Final

from orch8.engine.calendar import Calendar

if TYPE_CHECKING:
    from holidays import HolidayBase

EXAMPLES: Final = '"DE", "GB-ENG", "US-FED" or "TARGET"'
# By their market identifier codes. The Fed does not close on the Friday before a Saturday's
# holiday, unlike the country, so "US" is not for money that moves by ACH or wire.
_BANKS: Final = {"US-FED": "XFED", "TARGET": "XECB"}
_LONGEST: Final = 40


@dataclass(frozen=True, slots=True)
class Working:
    """The working days of a calendar that exists."""

    name: str

    def is_open(self, day: date) -> bool:
        """Whether it is neither a holiday nor in the weekend of that country."""
        return day in _working_days(self.name, day.year)


def calendar_named(name: str) -> Calendar | None:
    """The calendar of that name in any case: a country (ISO 3166), a country and a part of it
    (``GB-ENG``), ``US-FED`` or ``TARGET``; None if there is none.
    """
    wanted = name.upper()
    return Working(wanted) if wanted in _BANKS or wanted in _names() else None


def closest_calendar(name: str) -> str | None:
    """The name of the calendar that ``name`` most resembles, if it resembles any."""
    known = [*_BANKS, *_names()]
    return next(iter(get_close_matches(name[:_LONGEST].upper(), known, n=1)), None)


@lru_cache(maxsize=2000)
def _working_days(name: str, year: int) -> frozenset[date]:
    # The package's calendars fill themselves while they are asked, which threads must not share:
    # so each year of each is asked out once and then never changes.
    found = _source(name, year)
    first = date(year, 1, 1)
    days = (first + timedelta(days=n) for n in range(date(year, 12, 31).timetuple().tm_yday))
    return frozenset(day for day in days if found.is_working_day(day))


def _source(name: str, year: int) -> HolidayBase:
    import holidays  # noqa: PLC0415 - only who names a calendar pays for it

    if name in _BANKS:
        return holidays.financial_holidays(_BANKS[name], years=year, expand=False)
    country, part = _names()[name]
    return holidays.country_holidays(country, subdiv=part, years=year, expand=False)


@cache
def _names() -> dict[str, tuple[str, str | None]]:
    """Every country and part of one, by its name in capitals."""
    import holidays  # noqa: PLC0415

    found: dict[str, tuple[str, str | None]] = {}
    for country, parts in holidays.list_supported_countries(include_aliases=False).items():
        found[country] = country, None
        found.update({f"{country}-{part}".upper(): (country, part) for part in parts})
    return found
