"""The functions of expressions (CONTRACT 8.3), and the seed's now, days and hours.

Every function takes any values at all and answers null for what it cannot use.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from orch8.engine.duration import MAX_DAYS, Duration
from orch8.engine.expressions import values
from orch8.engine.expressions.environment import Environment
from orch8.engine.expressions.values import compact, equal, moment, number, tidy

MAX_ARRAY: Final = 100_000
_HOURS_PER_DAY: Final = 24
_HOUR_MS: Final = 3_600_000


class Function(NamedTuple):
    """A function: what it computes, how many arguments it takes, and whether it needs more.

    ``apply`` gets the environment first if ``surrounded``. Arrays longer than 100 000 make the
    result null unless ``any_length``.
    """

    apply: Callable[..., Any]
    least: int = 1
    most: int = 1
    surrounded: bool = False
    any_length: bool = False


def _abs(value: Any) -> Any:
    amount = number(value)
    return None if amount is None else abs(amount)


def _len(value: Any) -> int:
    if isinstance(value, str):
        return values.utf8_length(value)
    return len(value) if isinstance(value, list | Mapping) else 0


def _now(env: Environment) -> str:
    return values.timestamp(env.now())


def _uuid(env: Environment) -> str:
    bits = 0
    for _ in range(4):
        bits = bits << 32 | int(env.entropy() * 2**32)
    digits = f"{bits:032x}"
    variant = f"{int(digits[16], 16) & 0x3 | 0x8:x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def _random(env: Environment, low: Any = 0, high: Any = 100) -> Any:
    start, end = number(low), number(high)
    if start is None or end is None or start >= end:
        return None
    return tidy(start + env.entropy() * (end - start))


# Spelled out, as the names of strftime depend on the machine's locale.
_WEEKDAYS: Final = (
    "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday",
)  # fmt: skip
_MONTHS: Final = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
_DIRECTIVES: Final[Mapping[str, Callable[[datetime], str]]] = {
    "Y": lambda at: f"{at.year:04}",
    "y": lambda at: f"{at.year % 100:02}",
    "m": lambda at: f"{at.month:02}",
    "d": lambda at: f"{at.day:02}",
    "e": lambda at: f"{at.day:2}",
    "H": lambda at: f"{at.hour:02}",
    "I": lambda at: f"{at.hour % 12 or 12:02}",
    "M": lambda at: f"{at.minute:02}",
    "S": lambda at: f"{at.second:02}",
    "f": lambda at: f"{at.microsecond:06}",
    "p": lambda at: "PM" if at.hour // 12 else "AM",
    "j": lambda at: f"{at.timetuple().tm_yday:03}",
    "F": lambda at: at.date().isoformat(),
    "T": lambda at: f"{at:%H:%M:%S}",
    "u": lambda at: str(at.isoweekday()),
    "A": lambda at: _WEEKDAYS[at.weekday()],
    "a": lambda at: _WEEKDAYS[at.weekday()][:3],
    "B": lambda at: _MONTHS[at.month - 1],
    "b": lambda at: _MONTHS[at.month - 1][:3],
    "z": lambda at: f"{at:%z}",
    "s": lambda at: str(int(at.timestamp())),
    "%": lambda _: "%",
}


def _format_date(value: Any, form: Any = "%Y-%m-%d") -> Any:
    at = moment(value)
    if at is None or not isinstance(form, str):
        return None
    first, *rest = form.replace("%%", "%\0").split("%")
    shown = [first]
    for part in rest:
        directive = "%" if part[:1] == "\0" else part[:1]
        if directive not in _DIRECTIVES:
            return None
        shown += (_DIRECTIVES[directive](at), part[1:])
    return "".join(shown)


def _day_of_week(value: Any) -> Any:
    at = moment(value)
    return None if at is None else at.weekday()


def _keys(value: Any) -> Any:
    return list(value.keys()) if isinstance(value, Mapping) else None


def _values(value: Any) -> Any:
    return list(value.values()) if isinstance(value, Mapping) else None


def _contains(whole: Any, part: Any) -> bool:
    if isinstance(whole, list):
        return any(equal(each, part) for each in whole)
    return isinstance(whole, str) and isinstance(part, str) and part in whole


def _starts_with(whole: Any, part: Any) -> bool:
    return isinstance(whole, str) and isinstance(part, str) and whole.startswith(part)


def _ends_with(whole: Any, part: Any) -> bool:
    return isinstance(whole, str) and isinstance(part, str) and whole.endswith(part)


def _sum(value: Any) -> Any:
    """Null if any element is no number: a total that left something out would be a lie."""
    if not isinstance(value, list):
        return None
    total: float = 0
    for each in value:
        amount = number(each)
        if amount is None:
            return None
        total += amount
    return tidy(total)


def _avg(value: Any) -> Any:
    total = _sum(value)
    return values.divided(total, len(value)) if value and total is not None else None


def _rank(value: Any) -> tuple[int, Any]:
    """The place of a value in the order null < bool < number < string < array < object."""
    if value is None:
        return 0, 0
    if isinstance(value, bool):
        return 1, value
    if isinstance(value, int | float):
        return 2, value
    if isinstance(value, str):
        return 3, value
    return (4, 0) if isinstance(value, list) else (5, 0)


def _extreme(choose: Callable[..., Any]) -> Callable[..., Any]:
    """The least or greatest of what is not null: timestamps by instant, everything else by rank."""

    def apply(*given: Any) -> Any:
        items = given[0] if len(given) == 1 else given
        if not isinstance(items, list | tuple):
            return None
        present = [each for each in items if each is not None]
        instants = [moment(each) for each in present]
        if None in instants:
            return choose(present, key=_rank, default=None)
        pairs = zip(instants, present, strict=True)
        return choose(pairs, key=lambda pair: pair[0], default=(None, None))[1]

    return apply


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else None


def _last(value: Any) -> Any:
    return value[-1] if isinstance(value, list) and value else None


def _index(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value)


def _slice(value: Any, start: Any, end: Any = None) -> Any:
    begin, stop = _index(start), _index(end)
    if not isinstance(value, list | str) or begin is None or (stop is None and end is not None):
        return None
    return value[begin:stop]


def _sort(value: Any, direction: Any = "asc") -> Any:
    if not isinstance(value, list):
        return None
    return sorted(value, key=_rank, reverse=direction == "desc")


def _identity(value: Any) -> Any:
    """A hashable stand-in that is equal exactly when the values are."""
    if isinstance(value, bool):
        return "bool", value
    if isinstance(value, list):
        return "array", tuple(map(_identity, value))
    if isinstance(value, Mapping):
        return "object", frozenset((key, _identity(each)) for key, each in value.items())
    return value


def _unique(value: Any) -> Any:
    if not isinstance(value, list):
        return None
    found: dict[Any, Any] = {}
    for each in value:
        found.setdefault(_identity(each), each)
    return list(found.values())


def _count(value: Any, wanted: Any) -> Any:
    return sum(equal(each, wanted) for each in value) if isinstance(value, list) else None


def _change_pct(old: Any, new: Any) -> Any:
    return values.times(values.divided(values.minus(new, old), old), 100)


def _clamp(value: Any, low: Any, high: Any) -> Any:
    amount, least, most = number(value), number(low), number(high)
    if amount is None or least is None or most is None or least > most:
        return None
    return min(max(amount, least), most)


def _days(value: Any) -> Any:
    amount = number(value)
    if amount is None or abs(amount) > MAX_DAYS:
        return None
    whole = math.trunc(amount)
    return Duration(days=whole, absolute=_hours((amount - whole) * _HOURS_PER_DAY).absolute)


def _hours(value: Any) -> Any:
    amount = number(value)
    if amount is None or abs(amount) > MAX_DAYS * _HOURS_PER_DAY:
        return None
    return Duration(absolute=timedelta(milliseconds=round(amount * _HOUR_MS)))


CONTRACT_FUNCTIONS: Final[Mapping[str, Function]] = {
    "abs": Function(_abs),
    "len": Function(_len, any_length=True),
    "json": Function(compact),
    "now": Function(_now, 0, 0, surrounded=True),
    "uuid": Function(_uuid, 0, 0, surrounded=True),
    "random": Function(_random, 0, 2, surrounded=True),
    "format_date": Function(_format_date, 1, 2),
    "day_of_week": Function(_day_of_week),
    "keys": Function(_keys),
    "values": Function(_values),
    "contains": Function(_contains, 2, 2),
    "starts_with": Function(_starts_with, 2, 2),
    "ends_with": Function(_ends_with, 2, 2),
    "sum": Function(_sum),
    "avg": Function(_avg),
    "min": Function(_extreme(min)),
    "max": Function(_extreme(max)),
    "first": Function(_first, any_length=True),
    "last": Function(_last, any_length=True),
    "slice": Function(_slice, 2, 3),
    "sort": Function(_sort, 1, 2),
    "unique": Function(_unique),
    "count": Function(_count, 2, 2),
    "change_pct": Function(_change_pct, 2, 2),
    "clamp": Function(_clamp, 3, 3),
}

SEED_FUNCTIONS: Final[Mapping[str, Function]] = {
    **CONTRACT_FUNCTIONS,
    "min": Function(_extreme(min), 1, 64),
    "max": Function(_extreme(max), 1, 64),
    "days": Function(_days),
    "hours": Function(_hours),
}
