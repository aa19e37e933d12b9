"""Spreading: recurring work begins at many moments of a span, not all of it at the start.

A subject's place in the span comes from a hash, so it is the same every time and in every process,
and nothing has to be remembered.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from orch8.engine.calendar import from_local
from orch8.engine.timing import Rules, admissible

if TYPE_CHECKING:
    from orch8.engine.expressions import Template

LONGEST: Final = timedelta(days=31)
_BITS: Final = 53  # as many as a float tells apart in [0, 1)


@dataclass(frozen=True, slots=True)
class Spread:
    """Begin up to ``over`` later, the same subject always by as much.

    ``by`` renders to the subject; None is the instance itself.
    """

    over: timedelta
    by: Template | None = None


def place(tenant_id: str, subject: str) -> float:
    """The subject's place in [0, 1): always the same one, evenly distributed over subjects."""
    digest = sha256(json.dumps([tenant_id, subject]).encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 64 - _BITS) / (1 << _BITS)


def spread_from(moment: datetime, over: timedelta, at: float, rules: Rules) -> datetime:
    """``moment``, which obeys the rules, later by the part ``at`` in [0, 1) of ``over``.

    Where the window closes or the aligned day ends before ``over`` has passed, it is the part of
    what is left until then, so that the moment obeys the rules still, and evenly so.
    """
    room = _room(moment, over, rules) // timedelta(microseconds=1)
    moved = moment + timedelta(microseconds=int(room * at))
    # A clock change or a max_shift may break a rule inside the room.
    return moved if admissible(moved, rules) == moved else moment


def _room(moment: datetime, over: timedelta, rules: Rules) -> timedelta:
    """How much of ``over`` passes before the first moment that breaks a rule."""
    for edge in _edges(moment, moment + over, rules):
        try:
            obeys = admissible(edge, rules) == edge
        except ValueError:  # pragma: no cover - rules that no moment obeys are refused before
            obeys = False
        if not obeys:
            return edge - moment
    return over


def _edges(first: datetime, last: datetime, rules: Rules) -> Iterator[datetime]:
    """The moments after ``first`` and before ``last`` at which a rule may begin to be broken, in
    their order: the ends of windows, and midnights, at which an aligned day ends.
    """
    clocks = set[time]()
    if rules.align is not None:
        clocks.add(time())
    if rules.window is not None:
        clocks.add(rules.window.end)
    day, end = (each.astimezone(rules.zone).date() for each in (first, last))
    while clocks and day <= end:
        for clock in sorted(clocks):
            edge = from_local(datetime.combine(day, clock), rules.zone)
            if first < edge < last:
                yield edge
        day += timedelta(days=1)
