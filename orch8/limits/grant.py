"""The values of the limiter: asked (Limit), answered (Grant), reported (Ended), shown (Usage)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from orch8.errors import InvalidArgument

DEFAULT_SLACK = 0.020
MAX_KEY_LENGTH = 512
MAX_PER_WINDOW = 1_000_000
MAX_WEIGHT = 100  # the smallest burst of a bucket: a heavier request could wait for ever
MAX_WINDOW = 366 * 86_400.0
MAX_SLACK = 10.0
MAX_IN_FLIGHT = 10_000
MAX_LEASE = 3600.0  # seconds; as in state.lua
MOST_ROOM = 1000  # calls in flight that a bound which nobody states grows to; as in ended.lua
LONG_WINDOW = 60.0  # seconds; above this a lost history is rebuilt instead of waited for
PARTS = 8  # of a window, as in state.lua
UNEVEN = 1.25  # times the pace is how fast the calls of a part may come, to catch up
_LISTED = (
    "key", "max", "window", "slack", "weight", "max_in_flight", "lease", "holder", "even", "calm",
)  # fmt: skip


class Refusal(StrEnum):
    """Why a request was not granted."""

    FULL = "full"
    """The window holds max calls."""
    HELD = "held"
    """As many calls are in flight as may be; ``retry_after`` is a guess."""
    BLOCKED = "blocked"
    """The provider has said until when it wants no calls."""
    SPENT = "spent"
    """The server lost its data: a window of up to 60 s counts as spent until it has passed."""
    REBUILD = "rebuild"
    """The server lost its data: a longer window, and what is in flight, is refused until
    ``Limiter.restore``."""
    AWAY = "away"
    """Nobody knows: Redis is away, and what is asked for cannot be divided among the processes."""
    CLOSED = "closed"
    """The weight is above max (perhaps 0): no wait helps until the limit changes."""


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``max`` units of ``key`` at the provider in any ``window`` seconds, and at most
    ``max_in_flight`` calls at a time; None means that this is not limited.
    """

    key: str
    max: int | None
    window: float = 1.0
    slack: float = DEFAULT_SLACK  # seconds between grant and send that the limiter allows for
    weight: int = 1  # units that one call uses
    max_in_flight: int | None = None
    lease: float = 60.0  # seconds after which a call that nobody ended counts as ended
    holder: str = ""  # names the call, the same whenever it is asked for; '': it has no name
    even: bool = False  # calls come evenly over the window, not in a burst
    calm: float = 0.0  # seconds between grant and send while less than half of the window is used

    def __post_init__(self) -> None:
        if not 0 < len(self.key) <= MAX_KEY_LENGTH:
            raise InvalidArgument(f"key must have 1 to {MAX_KEY_LENGTH} characters: {self.key!r}")
        if self.max is not None:
            self._check("max", self.max, 0, MAX_PER_WINDOW)
        elif self.max_in_flight is None:
            raise InvalidArgument(f"the limit {self.key!r} needs max, max_in_flight or both")
        if self.max_in_flight is not None:
            self._check("max_in_flight", self.max_in_flight, 1, MAX_IN_FLIGHT)
        self._check("window", self.window, 0.001, MAX_WINDOW)
        self._check("slack", self.slack, 0, MAX_SLACK)
        self._check("calm", self.calm, 0, MAX_SLACK)
        self._check("weight", self.weight, 1, MAX_WEIGHT)
        self._check("lease", self.lease, 0.001, MAX_LEASE)

    def to_json(self) -> dict[str, Any]:
        """The limit by the names of its fields, for a process of any version to read."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def of_json(cls, told: Mapping[str, Any] | Sequence[Any]) -> Limit:
        """The limit that ``to_json`` told, in whatever version: what is not known here is left out.
        Up to migration 0045 limits were told as lists.
        """
        named = told if isinstance(told, Mapping) else dict(zip(_LISTED, told, strict=False))
        return cls(**{name: named[name] for name in cls.__slots__ if name in named})

    @property
    def pace(self) -> float:
        """Units per second that the window lets through in the long run."""
        return math.inf if self.max is None else self.max / (self.window + self.slack)

    @property
    def most_in_part(self) -> int:
        """Units after which a part of the window is full; 0: none is."""
        return math.ceil(UNEVEN * self.max / PARTS) if self.even and self.max is not None else 0

    @property
    def long(self) -> bool:
        """Whether a lost history of the window is rebuilt instead of waited for."""
        return self.max is not None and self.window > LONG_WINDOW

    def _check(self, name: str, value: float, least: float, most: float) -> None:
        if not (math.isfinite(value) and least <= value <= most):
            raise InvalidArgument(
                f"{name} of the limit {self.key!r} must be {least:g} to {most:g}, not {value!r}"
            )


@dataclass(frozen=True, slots=True)
class Grant:
    """The answer to one request: the tokens of all its keys, or why there are none."""

    granted: bool
    tokens: tuple[tuple[str, str], ...]  # (key, member), one per unit
    granted_at: float  # time.monotonic() just before the limiter was asked
    slack: float  # seconds that it is good for; the smallest of the request's limits
    refused_by: str | None = None
    refusal: Refusal | None = None
    retry_after: float = 0.0  # seconds
    leases: tuple[tuple[str, str], ...] = ()  # (key, name) until ``Limiter.ended``
    room: int | None = None  # of HELD: how many of the key's places come free as calls end
    took: float | None = None  # of HELD: seconds that one takes on average, if that is known

    def expired(self, now: float) -> bool:
        """Whether the grant is too old to be used at ``now`` (time.monotonic()): release it."""
        return self.granted and now - self.granted_at > self.slack


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of a granted call, as far as its keys are concerned.

    ``blocked`` are the keys for which the provider wants no calls, with the seconds. ``crowded``
    are those of which it says that too many calls are in flight, with how many the caller knows.
    """

    request: Sequence[Limit]
    grant: Grant
    took: float  # seconds from the grant to the answer
    succeeded: bool = False
    blocked: Mapping[str, float] = field(default_factory=dict)
    crowded: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Usage:
    """How full a key is: ``used`` of ``max`` units and when there is room for one more; how many
    calls are in flight, of how many, and how many of those places come free as calls end; for how
    many seconds the provider wants none; and how many a call takes on average, if that is known.
    """

    used: int
    max: int | None
    free_at: float  # time.monotonic()
    in_flight: int = 0
    room: int | None = None
    blocked: float = 0.0
    turning: int | None = None
    took: float | None = None
