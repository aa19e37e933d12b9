"""The book of a pretend provider: who asked with which key, what was charged, and how often.

With a file every entry is in it before it is answered, so that the book survives a kill. An effect
and the result that is kept for its key are one record: neither is ever without the other.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter, deque
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from orch8.errors import InvalidArgument
from orch8.testing.entry import (
    MAX_ARRIVALS_OF_A_KEY,
    MAX_KEYS_OF_A_SUBJECT,
    Charge,
    Ending,
    Entry,
    Subject,
    Turn,
)
from orch8.testing.journal import Journal

MAX_KEYS: Final = 200_000
MAX_ARRIVALS: Final = 100_000
MAX_PAGE: Final = 10_000
MAX_OFFSET: Final = 10 * 366 * 86_400.0
_SUCCESS: Final = 300  # a status below is one


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
    EXISTS = "exists"
    BUSY = "busy"
    MISMATCH = "mismatch"


class Ledger:
    """The book itself; safe to use from any thread.

    ``key_ttl`` is in seconds of the provider's clock, which ``set_clock`` moves.
    ``checks_body`` False takes a key back with another request as if it were the same.
    """

    def __init__(
        self,
        file: Path | None = None,
        *,
        replay: Replay = Replay.FIRST_RESULT,
        key_ttl: float = 86_400.0,
        checks_body: bool = True,
    ) -> None:
        self._lock = threading.Lock()
        self._replay, self._key_ttl, self._checks_body = replay, key_ttl, checks_body
        self._entries: dict[str, Entry] = {}
        self._charges: dict[str, Charge] = {}
        self._subjects: dict[str, Subject] = {}
        self._totals: Counter[str] = Counter()
        self._arrivals: deque[tuple[float, float, str]] = deque(maxlen=MAX_ARRIVALS)
        self._offset = 0.0
        self._journal = Journal(file) if file is not None else None
        if self._journal is not None:
            for record in self._journal.records():
                self._count(record)

    def close(self) -> None:
        """The file, if any, is complete and closed; what happens from now on is not in it."""
        with self._lock:
            if self._journal is not None:
                self._journal.close()
                self._journal = None

    def now(self) -> float:
        """The provider's time, in Unix seconds."""
        return time.time() + self._offset

    def set_clock(self, offset: float) -> None:
        """The provider's clock is this many seconds ahead of the real one, also after a kill."""
        if not -MAX_OFFSET <= offset <= MAX_OFFSET:
            raise InvalidArgument(f"offset_seconds: must be within {MAX_OFFSET:.0f} of 0")
        with self._lock:
            self._apply({"op": "clock", "offset": offset})

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
                    if self._checks_body and entry.fingerprint != fingerprint:
                        self._totals["mismatches"] += 1
                        return Standing.MISMATCH
                    exists = self._replay is Replay.CONFLICT
                    return Standing.EXISTS if exists else Standing.STORED
            entry.in_flight = True
            entry.fingerprint = fingerprint
            return Standing.NEW

    def end(
        self, key: str, stored: tuple[int, Any] | None = None, charge: Charge | None = None
    ) -> None:
        """The key is no longer in flight; its charge has happened and its result is kept."""
        with self._lock:
            entry = self._entries[key]
            entry.in_flight = False
            if stored is None and charge is None:
                return
            record = {"op": "done", "key": key, "fingerprint": entry.fingerprint}
            self._apply(
                record
                | {"at": self.now(), "stored": stored}
                | {"charge": _written(charge) if charge is not None else None}
            )

    def turn(self, charge_id: str, ending: Ending, body: dict[str, Any]) -> Charge:
        """The charge stands so from now on."""
        with self._lock:
            key = self._charges[charge_id].key
            record = {"op": "turned", "key": key, "charge_id": charge_id, "ending": ending}
            self._apply(record | {"at": self.now(), "body": body})
            return self._charges[charge_id]

    def replay(self, key: str) -> tuple[int, Any]:
        """The result that is kept for a key, its replay counted."""
        with self._lock:
            self._apply({"op": "replayed", "key": key})
            return self._entries[key].stored or (500, {"error": {"message": "no stored result"}})

    def latest(self, key: str) -> str | None:
        """The id of the latest charge under a key."""
        with self._lock:
            charges = self._entries[key].charges
            return charges[-1].charge_id if charges else None

    def new_id(self, key: str) -> str:
        """The id for one more charge under a key: the same after a restart, unlike any other."""
        with self._lock:
            entry = self._entries[key]
            number = max(entry.numbered, len(entry.charges))
            entry.numbered = number + 1
        whole = f"{key}#{number}" if number else key
        return "ch_" + hashlib.sha256(whole.encode()).hexdigest()[:24]

    def search(self, key: str) -> list[Charge]:
        """The charges under a key, whatever came of them, the oldest first; the look is counted."""
        with self._lock:
            self._totals["searched"] += 1
            entry = self._entries.get(key)
            if entry is None:
                return []
            self._apply({"op": "looked", "key": key})
            return list(entry.charges)

    def charge(self, charge_id: str) -> Charge | None:
        """The charge with this id."""
        with self._lock:
            return self._charges.get(charge_id)

    def entry(self, key: str) -> dict[str, Any] | None:
        """What happened under one key, as JSON; None if nobody asked with it."""
        with self._lock:
            entry = self._entries.get(key)
            return entry.to_json() if entry is not None else None

    def totals(self) -> dict[str, int]:
        """The counts of the whole book.

        ``duplicates`` are effects beyond the first of one attempt or under one key;
        ``charged_twice`` are subjects (a step of an instance) with more than one effect, whatever
        the attempts and keys; ``open`` are charges that are neither done nor declined.
        """
        names = ("asked", "charged", "declined", "replayed", "busy", "mismatches", "duplicates")
        with self._lock:
            counts = {name: self._totals[name] for name in (*names, "searched", "open")}
            twice = sum(1 for subject in self._subjects.values() if subject.charged > 1)
            return counts | {"keys": len(self._entries), "charged_twice": twice}

    def page(self, *, after: int = 0, limit: int = 1000) -> list[dict[str, Any]]:
        """The entries from position ``after`` on, at most ``limit`` and never above 10,000."""
        with self._lock:
            entries = list(self._entries.values())[after : after + min(limit, MAX_PAGE)]
            return [entry.to_json() for entry in entries]

    def subjects(
        self, *, after: int = 0, limit: int = 1000, duplicates: bool = False
    ) -> list[dict[str, Any]]:
        """The subjects from position ``after`` on; with ``duplicates`` those that have any."""
        with self._lock:
            found = [s for s in self._subjects.values() if s.duplicates or not duplicates]
            return [s.to_json() for s in found[after : after + min(limit, MAX_PAGE)]]

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
        if entry.stored_at == 0.0 or self.now() - entry.stored_at >= self._key_ttl:
            return False
        if self._replay is Replay.CONFLICT:
            return bool(entry.charges)  # what exists exists, whatever was answered
        if entry.stored is None:
            return False
        return self._replay is not Replay.ONLY_SUCCESS or entry.stored[0] < _SUCCESS

    def _apply(self, record: dict[str, Any]) -> None:
        if self._journal is not None:
            self._journal.append(record)
        self._count(record)

    def _count(self, record: dict[str, Any]) -> None:
        match record["op"]:
            case "asked":
                self._count_arrival(record)
            case "done":
                self._count_end(record, self._entries[record["key"]])
            case "turned":
                self._count_turn(record)
            case "replayed":
                self._entries[record["key"]].replayed += 1
                self._totals["replayed"] += 1
            case "looked":
                self._entries[record["key"]].searched += 1
            case "clock":
                self._offset = record["offset"]

    def _count_arrival(self, record: dict[str, Any]) -> None:
        key, handler, wall = record["key"], record["handler"], record["wall"]
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = Entry(key, handler, record["subject"], first_at=wall)
        entry.asked += 1
        entry.last_at = wall
        if len(entry.arrivals) < MAX_ARRIVALS_OF_A_KEY:
            entry.arrivals.append(record["at"])
        subject = self._subjects.get(record["subject"])
        if subject is None:
            subject = self._subjects[record["subject"]] = Subject(record["subject"])
        subject.asked += 1
        if len(subject.keys) < MAX_KEYS_OF_A_SUBJECT:
            subject.keys[key] = None
        self._arrivals.append((record["at"], wall, handler))
        self._totals["asked"] += 1

    def _count_end(self, record: dict[str, Any], entry: Entry) -> None:
        entry.fingerprint = record["fingerprint"]
        stored = record["stored"]
        entry.stored = (stored[0], stored[1]) if stored is not None else None
        entry.stored_at = record["at"]
        if record["charge"] is not None:
            charge = _read(record["charge"])
            entry.charges.append(charge)
            self._charges[charge.charge_id] = charge
            self._count_ending(entry, charge)

    def _count_turn(self, record: dict[str, Any]) -> None:
        entry = self._entries[record["key"]]
        before = self._charges[record["charge_id"]]
        turned = Turn(record["at"], Ending(record["ending"]), record["body"])
        after = replace(before, turns=(*before.turns, turned))
        self._charges[after.charge_id] = after
        entry.charges[entry.charges.index(before)] = after
        self._totals["open"] -= 1
        self._count_ending(entry, after)

    def _count_ending(self, entry: Entry, charge: Charge) -> None:
        subject = self._subjects[entry.subject]
        if charge.last.ending is Ending.SUCCEEDED:
            again = entry.charged > 0 or subject.attempts[charge.attempt] > 0
            entry.charged += 1
            subject.charged += 1
            subject.attempts[charge.attempt] += 1
            subject.duplicates += again
            self._totals["duplicates"] += again
            self._totals["charged"] += 1
        elif charge.last.ending is Ending.DECLINED:
            entry.declined += 1
            subject.declined += 1
            self._totals["declined"] += 1
        else:
            self._totals["open"] += 1


def _written(charge: Charge) -> dict[str, Any]:
    (turn,) = charge.turns
    members = ("charge_id", "key", "handler", "attempt", "amount", "currency")
    written = {name: getattr(charge, name) for name in members}
    return written | {"at": turn.at, "ending": turn.ending, "body": turn.body}


def _read(written: dict[str, Any]) -> Charge:
    given = dict(written)
    turn = Turn(given.pop("at"), Ending(given.pop("ending")), given.pop("body"))
    return Charge(**given, turns=(turn,))
