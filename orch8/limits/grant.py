"""The values of the limiter: what is asked (Limit), answered (Grant) and shown (Usage)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from orch8.errors import InvalidArgument

DEFAULT_SLACK = 0.020
MAX_KEY_LENGTH = 512
MAX_PER_WINDOW = 1_000_000
MAX_WEIGHT = 100  # the smallest burst of a bucket: a heavier request could wait for ever
MAX_WINDOW = 366 * 86_400.0
MAX_SLACK = 10.0


class Refusal(StrEnum):
    """Why a request was not granted."""

    FULL = "full"
    """The window holds max calls."""
    SPENT = "spent"
    """The server lost its data: a window of up to 60 s counts as spent until it has passed."""
    REBUILD = "rebuild"
    """The server lost its data: a longer window is refused until ``Limiter.restore``."""
    CLOSED = "closed"
    """The weight is above max (perhaps 0): no wait helps until the limit changes."""


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``max`` units of ``key`` at the provider in any ``window`` seconds."""

    key: str
    max: int
    window: float
    slack: float = DEFAULT_SLACK  # seconds between grant and send that the limiter allows for
    weight: int = 1  # units that one call uses

    def __post_init__(self) -> None:
        if not 0 < len(self.key) <= MAX_KEY_LENGTH:
            raise InvalidArgument(f"key must have 1 to {MAX_KEY_LENGTH} characters: {self.key!r}")
        self._check("max", self.max, 0, MAX_PER_WINDOW)
        self._check("window", self.window, 0.001, MAX_WINDOW)
        self._check("slack", self.slack, 0, MAX_SLACK)
        self._check("weight", self.weight, 1, MAX_WEIGHT)

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
    slack: float  # seconds; the smallest of the request's limits
    refused_by: str | None = None
    refusal: Refusal | None = None
    retry_after: float = 0.0  # seconds

    def expired(self, now: float) -> bool:
        """Whether the grant is too old to be used at ``now`` (time.monotonic()): release it."""
        return self.granted and now - self.granted_at > self.slack


@dataclass(frozen=True, slots=True)
class Usage:
    """How full a key is: ``used`` of ``max`` units, and when there is room for one more."""

    used: int
    max: int
    free_at: float  # time.monotonic()
