"""The doorbell of a lane: lets one wake-up message through and merges the others into it.

A flag in Redis says that a message is on its way. It is a courtesy: without Redis every caller
sends its message, and the tick finds the work in any case.
"""

from __future__ import annotations

from redis.exceptions import RedisError

from orch8.limits.connection import connect

TIMEOUT = 0.2
FLAG_MS = 5000  # after this the message counts as lost and the next ring sends another


class Doorbell:
    """The flags of all lanes on one server."""

    def __init__(self, url: str, *, prefix: str = "o8") -> None:
        self._prefix = prefix
        self._redis = connect(url, connect_timeout=TIMEOUT, timeout=TIMEOUT)

    def ring(self, lane: str) -> bool:
        """Whether the caller must send the wake-up message; also True when Redis is away."""
        try:
            return bool(self._redis.set(self._flag(lane), 1, nx=True, px=FLAG_MS))
        except RedisError:
            return True

    def clear(self, lane: str) -> bool:
        """The next ring sends a message again; False when Redis is away and the flag may stand."""
        try:
            self._redis.delete(self._flag(lane))
        except RedisError:
            return False
        return True

    def close(self) -> None:
        """All connections are closed."""
        self._redis.close()

    def _flag(self, lane: str) -> str:
        return f"{self._prefix}:bell:{lane}"
