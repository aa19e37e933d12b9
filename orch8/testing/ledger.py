"""The book of a pretend provider: who asked with which key, what was charged, and how often.

With a file every entry is appended to it, and the effects are on disk before they are answered,
so that the book survives a kill.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Final

import orjson

MAX_KEYS: Final = 200_000
MAX_ARRIVALS: Final = 100_000
MAX_PAGE: Final = 10_000


class Replay(StrEnum):
    """What a provider does with a key that it has a result for."""

    FIRST_RESULT = "returns_first_result"  # Stripe v1, Adyen: errors too
    ONLY_SUCCESS = "only_success"  # Checkout.com: an error is tried again
    CONFLICT = "conflict_means_exists"  # GoCardless: 409 with the resource
    NONE = "none"  # keys mean nothing


class Standing(StrEnum):
    """What the book says about a request when it comes in."""

    NEW = "new"
    STORED = "stored"
    BUSY = "busy"
    MISMATCH = "mismatch"


@dataclass(slots=True)
class Entry:
    """All that happened under one key; ``stored`` is the result kept for it, [status, body]."""

    key: str
    handler: str
    subject: str
    fingerprint: str = ""
    asked: int = 0
    charged: int = 0
    declined: int = 0
    replayed: int = 0
    first_at: float = 0.0
    last_at: float = 0.0
    stored: tuple[int, Any] | None = None
    stored_at: float = 0.0
    in_flight: bool = False

    def to_json(self) -> dict[str, Any]:
        """The entry as GET /ledger shows it; times are Unix seconds."""
        names = ("key", "handler", "subject", "asked", "charged", "declined", "replayed")
        shown = {name: getattr(self, name) for name in names}
        return shown | {
            "first_at": self.first_at,
            "last_at": self.last_at,
            "result": list(self.stored) if self.stored is not None else None,
        }


class Ledger:
    """The book itself; safe to use from any thread."""

    def __init__(
        self,
        file: Path | None = None,
        *,
        replay: Replay = Replay.FIRST_RESULT,
        key_ttl: float = 86_400.0,
    ) -> None:
        self._lock = threading.Lock()
        self._replay = replay
        self._key_ttl = key_ttl
        self._entries: dict[str, Entry] = {}
        self._subjects: Counter[str] = Counter()
        self._totals: Counter[str] = Counter()
        self._arrivals: deque[tuple[float, float, str]] = deque(maxlen=MAX_ARRIVALS)
        self._file: BinaryIO | None = None
        if file is not None:
            self._load(file)
            self._file = file.open("ab")

    def close(self) -> None:
        """The file, if any, is complete and closed."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def arrive(self, handler: str, key: str, subject: str) -> bool:
        """The request is counted; False when the book has no room for another key."""
        with self._lock:
            if key not in self._entries and len(self._entries) >= MAX_KEYS:
                return False
            at, wall = time.monotonic(), time.time()
            record = {"op": "asked", "key": key, "handler": handler, "subject": subject}
            self._apply(record | {"at": at, "wall": wall})
            return True

    def begin(self, key: str, fingerprint: str) -> Standing:
        """The key is in flight if the answer is NEW: ``end`` it. Otherwise nothing has changed."""
        with self._lock:
            entry = self._entries[key]
            if self._replay is not Replay.NONE:
                if entry.in_flight:
                    self._totals["busy"] += 1
                    return Standing.BUSY
                if self._kept(entry):
                    if entry.fingerprint == fingerprint:
                        return Standing.STORED
                    self._totals["mismatches"] += 1
                    return Standing.MISMATCH
            entry.in_flight = True
            entry.fingerprint = fingerprint
            return Standing.NEW

    def charge(self, key: str) -> None:
        """The effect has happened once more under this key, and is on disk."""
        with self._lock:
            self._apply({"op": "charged", "key": key}, durable=True)

    def decline(self, key: str) -> None:
        """The issuer has said no once more under this key, and this is on disk."""
        with self._lock:
            self._apply({"op": "declined", "key": key}, durable=True)

    def end(self, key: str, stored: tuple[int, Any] | None) -> None:
        """The key is no longer in flight, and has this result to replay if there is one."""
        with self._lock:
            self._entries[key].in_flight = False
            if stored is not None:
                record = {"op": "stored", "key": key, "status": stored[0], "body": stored[1]}
                entry = self._entries[key]
                record |= {"fingerprint": entry.fingerprint, "wall": time.time()}
                self._apply(record, durable=True)

    def replay(self, key: str) -> tuple[int, Any]:
        """The result to answer to a request whose key is STORED, as this kind of provider does."""
        with self._lock:
            entry = self._entries[key]
            self._apply({"op": "replayed", "key": key})
            stored = entry.stored or (500, {"error": {"message": "no stored result"}})
            if self._replay is not Replay.CONFLICT:
                return stored
            links = {"conflicting_resource_id": (stored[1] or {}).get("charge_id")}
            return 409, {"error": {"code": "idempotent_creation_conflict", "links": links}}

    def entry(self, key: str) -> dict[str, Any] | None:
        """What happened under one key, as JSON; None if nobody asked with it."""
        with self._lock:
            entry = self._entries.get(key)
            return entry.to_json() if entry is not None else None

    def totals(self) -> dict[str, int]:
        """The counts of the whole book.

        ``duplicates`` are effects beyond the first under one key; ``charged_twice`` are subjects
        (a step of an instance) with more than one effect, whatever the keys.
        """
        names = ("asked", "charged", "declined", "replayed", "busy", "mismatches", "duplicates")
        with self._lock:
            counts = {name: self._totals[name] for name in names}
            twice = sum(1 for count in self._subjects.values() if count > 1)
            return counts | {"keys": len(self._entries), "charged_twice": twice}

    def page(self, *, after: int = 0, limit: int = 1000) -> list[dict[str, Any]]:
        """The entries from position ``after`` on, at most ``limit`` and never above 10,000."""
        with self._lock:
            entries = list(self._entries.values())
        return [entry.to_json() for entry in entries[after : after + min(limit, MAX_PAGE)]]

    def arrivals(self) -> list[tuple[float, float, str]]:
        """The last 100,000 requests: (monotonic seconds, Unix seconds, handler), oldest first."""
        with self._lock:
            return list(self._arrivals)

    def peak(self, window: float, handler: str | None = None) -> int:
        """The most requests seen in any window of this many seconds."""
        inside: deque[float] = deque()
        most = 0
        for at, _, name in self.arrivals():
            if handler is not None and name != handler:
                continue
            inside.append(at)
            while inside[0] <= at - window:
                inside.popleft()
            most = max(most, len(inside))
        return most

    def _kept(self, entry: Entry) -> bool:
        if entry.stored is None or time.time() - entry.stored_at >= self._key_ttl:
            return False
        return self._replay is not Replay.ONLY_SUCCESS or entry.stored[0] < 300  # noqa: PLR2004

    def _apply(self, record: dict[str, Any], *, durable: bool = False) -> None:
        self._count(record)
        if self._file is None:
            return
        self._file.write(orjson.dumps(record) + b"\n")
        self._file.flush()
        if durable:
            os.fsync(self._file.fileno())

    def _count(self, record: dict[str, Any]) -> None:
        op, key = record["op"], record["key"]
        if op == "asked":
            wall = record["wall"]
            entry = self._entries.setdefault(
                key, Entry(key, record["handler"], record["subject"], first_at=wall)
            )
            entry.asked += 1
            entry.last_at = wall
            self._arrivals.append((record["at"], wall, record["handler"]))
        else:
            entry = self._entries[key]
        if op == "stored":
            entry.stored, entry.stored_at = (record["status"], record["body"]), record["wall"]
            entry.fingerprint = record["fingerprint"]
            return
        self._totals[op] += 1
        if op == "charged":
            entry.charged += 1
            self._subjects[entry.subject] += 1
            self._totals["duplicates"] += entry.charged > 1
        elif op == "declined":
            entry.declined += 1
        elif op == "replayed":
            entry.replayed += 1

    def _load(self, file: Path) -> None:
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            return
        whole = 0
        with file.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break  # a kill in the middle of a write leaves half a line
                self._count(orjson.loads(line))
                whole += len(line)
        os.truncate(file, whole)
