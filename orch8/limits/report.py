"""A report: what several calls that ended say of one key, as the script ended.lua wants it."""

from __future__ import annotations

from orch8.limits.grant import Ended, Limit

MICROSECONDS = 1_000_000


class Report:
    """What several calls that ended say of one key, as the script wants it."""

    def __init__(self) -> None:
        self._leases: list[str] = []
        self._succeeded = self._crowded = 0
        self._most = -1
        self._blocked = self._sent_ago = 0.0
        self._took: list[float] = []

    def add(self, limit: Limit, call: Ended, lease: str | None) -> None:
        """One more call, with its lease of this key, if it had one."""
        if lease is not None:
            self._leases.append(lease)
            self._took.append(call.took)
        self._succeeded += call.succeeded
        self._most = or_none(limit.max_in_flight)
        self._blocked = max(self._blocked, call.blocked.get(limit.key, 0.0))
        if limit.key in call.crowded:
            self._crowded = max(self._crowded, call.crowded[limit.key], 1)
            self._sent_ago = max(self._sent_ago, call.took)

    @property
    def args(self) -> list[str | int]:
        """The key's part of the script's arguments."""
        average = sum(self._took) / len(self._took) if self._took else 0.0
        seconds = (self._blocked, self._sent_ago, average)
        blocked, sent_ago, took = (round(value * MICROSECONDS) for value in seconds)
        return [
            len(self._leases), *self._leases, self._succeeded, self._most, blocked, self._crowded,
            sent_ago, took,
        ]  # fmt: skip


def or_none(value: int | None) -> int:
    """A bound as scripts want it: -1 if there is none."""
    return -1 if value is None else value
