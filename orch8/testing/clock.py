"""Virtual time and seeded chance: what makes a simulation come out the same every time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from orch8.engine.duration import Duration, parse_duration
from orch8.errors import InvalidArgument
from orch8.storage.rows import Moment


class VirtualClock:
    """A clock that stands still until it is moved, and never goes back."""

    def __init__(self, now: datetime) -> None:
        self.now = aware(now)

    @property
    def moment(self) -> Moment:
        """What time it is, as runs are told."""
        return Moment(self.now)

    def move(self, to: datetime) -> None:
        """It is ``to``, unless it was later already."""
        self.now = max(self.now, to)


class Chance:
    """Numbers and ids that look random and are the same for the same seed."""

    def __init__(self, clock: VirtualClock, seed: int) -> None:
        self._clock, self._random, self._made = clock, Random(seed), 0  # noqa: S311 - repeatable

    def entropy(self) -> float:
        """A number in [0, 1)."""
        return self._random.random()

    def new_id(self) -> UUID:
        """An id that sorts behind every earlier one of the same virtual millisecond (UUIDv7)."""
        self._made += 1
        milliseconds = int(self._clock.now.timestamp() * 1000)
        head = milliseconds << 80 | 7 << 76 | (self._made & 0xFFF) << 64
        return UUID(int=head | 0b10 << 62 | self._random.getrandbits(62))


def aware(moment: datetime) -> datetime:
    """The moment in UTC. Raises InvalidArgument for one without a time zone."""
    if moment.tzinfo is None:
        raise InvalidArgument(
            f"{moment!r} has no time zone: write datetime(2026, 1, 1, 9, tzinfo=UTC)"
        )
    return moment.astimezone(UTC)


def span(value: Any) -> Duration:
    """The duration that ``"5s"``, ``{"days": 3}``, milliseconds or a timedelta means."""
    if isinstance(value, timedelta):
        return Duration(absolute=value)
    try:
        return parse_duration(value)
    except ValueError as problem:
        raise InvalidArgument(str(problem)) from None
