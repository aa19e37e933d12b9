"""Ids: UUIDv7, so that they sort by the time they were made, and random ones (RFC 9562)."""

from __future__ import annotations

import os
import random
import threading
import time
from datetime import UTC, datetime
from uuid import UUID

_lock = threading.Lock()
_last = 0
# Ids need to be unique, not secret. Each process draws from a generator of its own.
_random = random.Random(os.urandom(32))  # noqa: S311
os.register_at_fork(after_in_child=lambda: _random.seed(os.urandom(32)))


def uuid7() -> UUID:
    """A new id, greater than every one this process made before: 48 bits of milliseconds, 12 of a
    sub-millisecond fraction that also counts, 62 random ones.
    """
    global _last  # noqa: PLW0603 - the one counter that keeps a process's ids in order
    ticks = time.time_ns() * 4096 // 1_000_000
    with _lock:
        _last = ticks = max(ticks, _last + 1)
        tail = _random.getrandbits(62)
    return UUID(int=(ticks >> 12) << 80 | 7 << 76 | (ticks & 0xFFF) << 64 | 0b10 << 62 | tail)


def uuid4() -> UUID:
    """A random id that need not sort, and that nobody may rely on not being guessed. The library's
    own asks the system for chance, and lets other threads go first meanwhile.
    """
    return UUID(int=_random.getrandbits(128), version=4)


def first_of(moment: datetime) -> UUID:
    """The smallest id that can be made at or after ``moment``."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)


def made_at(made: UUID) -> datetime:
    """When an id was made, to the millisecond."""
    return datetime.fromtimestamp((made.int >> 80) / 1000, UTC)
