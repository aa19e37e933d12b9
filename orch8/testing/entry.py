"""What a pretend provider knows of one key, and of the charges that were made under it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

MAX_ARRIVALS_OF_A_KEY: Final = 1000
MAX_KEYS_OF_A_SUBJECT: Final = 1000
_COUNTS: Final = ("asked", "charged", "declined", "replayed", "searched")


class Ending(StrEnum):
    """Where a charge stands."""

    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    PENDING = "pending"
    REQUIRES_ACTION = "requires_action"


@dataclass(frozen=True, slots=True)
class Turn:
    """A charge stands so from ``at`` on, provider's Unix seconds; ``body`` tells it as JSON."""

    at: float
    ending: Ending
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Charge:
    """One resource that a request made: a payment, or the record of one that was declined.

    ``attempt`` is the attempt of orch8 that asked for it. ``turns`` only grows: the last is the
    truth, and an eventually consistent search shows an older one.
    """

    charge_id: str
    key: str
    handler: str
    attempt: str
    amount: Any
    currency: Any
    turns: tuple[Turn, ...]

    @property
    def last(self) -> Turn:
        """How things stand."""
        return self.turns[-1]

    def seen_at(self, moment: float) -> Turn | None:
        """How things stood at a moment of the provider's time; None before there was a charge."""
        return next((turn for turn in reversed(self.turns) if turn.at <= moment), None)

    def to_json(self) -> dict[str, Any]:
        """The charge as GET /ledger and GET /charges show it."""
        return {
            "charge_id": self.charge_id,
            "idempotency_key": self.key,
            "handler": self.handler,
            "attempt": self.attempt,
            "amount": self.amount,
            "currency": self.currency,
            "outcome": self.last.ending,
            "turns": [[turn.at, turn.ending] for turn in self.turns],
        }


@dataclass(slots=True)
class Entry:
    """All that happened under one key; ``stored`` is the result kept for it, (status, body).

    ``arrivals`` are monotonic seconds, of the first 1,000 requests.
    """

    key: str
    handler: str
    subject: str
    fingerprint: str = ""
    asked: int = 0
    charged: int = 0
    declined: int = 0
    replayed: int = 0
    searched: int = 0
    first_at: float = 0.0
    last_at: float = 0.0
    stored: tuple[int, Any] | None = None
    stored_at: float = 0.0
    in_flight: bool = False
    numbered: int = 0
    charges: list[Charge] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The entry as GET /ledger shows it; first_at and last_at are Unix seconds."""
        names = ("key", "handler", "subject", *_COUNTS, "first_at", "last_at")
        return {name: getattr(self, name) for name in names} | {
            "arrivals": list(self.arrivals),
            "charges": [charge.to_json() for charge in self.charges],
            "result": list(self.stored) if self.stored is not None else None,
        }


@dataclass(slots=True)
class Subject:
    """All that happened for one step of one instance, under whatever keys.

    ``attempts`` counts the money that moved for each attempt of orch8: more than 1 is what must
    not be. ``charged`` above 1 over several attempts may be wanted, or not.
    """

    subject: str
    asked: int = 0
    charged: int = 0
    declined: int = 0
    duplicates: int = 0
    keys: dict[str, None] = field(default_factory=dict)
    attempts: Counter[str] = field(default_factory=Counter)

    def to_json(self) -> dict[str, Any]:
        """The subject as GET /ledger?by=subject shows it."""
        names = ("subject", "asked", "charged", "declined", "duplicates")
        shown = {name: getattr(self, name) for name in names}
        return shown | {"keys": list(self.keys), "attempts": dict(self.attempts)}
