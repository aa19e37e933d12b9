"""eyes: how full rate-limited keys are right now, as far as Redis can be asked."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import structlog

from orch8.limits import Limit, Limiter, LimiterUnavailable, Usage

log = structlog.get_logger(__name__)

AWAY: Final = 1.0  # seconds until Redis is tried again when it is away: a look may take a time-out


class Eyes:
    """Looks into Redis; without a limiter there is nothing to be seen."""

    def __init__(self, limiter: Limiter | None = None) -> None:
        self._limiter = limiter
        self._away_until = 0.0

    def usages(self, asked: Sequence[tuple[str, Limit]]) -> list[Usage | None]:
        """How full each key is, by its tenant and limit; None where that is not known."""
        if self._limiter is not None and asked and time.monotonic() >= self._away_until:
            try:
                return list(self._limiter.peek_many(asked))
            except LimiterUnavailable as problem:
                log.warning("eyes.limiter_away", error=str(problem))
                self._away_until = time.monotonic() + AWAY
        return [None] * len(asked)
