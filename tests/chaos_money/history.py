"""What happened, by the engine's tables and by the books of the providers: for the checker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.support.stack import ProviderProcess, World

_PAGE: Final = 10_000
_PAYMENTS: Final = """
SELECT s.instance_id::text, s.node_key, s.state, s.outcome, s.handler, s.output,
    s.waits_for, i.idempotency_key AS name, s.attention ->> 'reason' AS parked_for
FROM steps s JOIN instances i ON i.id = s.instance_id WHERE s.effect = 'money'"""
_ENDS: Final = """
SELECT instance_id::text, node_key, extract(epoch FROM min(at))::float AS at, count(*) AS times
FROM audit_log WHERE action IN ('step.completed', 'step.failed', 'step.cancelled') GROUP BY 1, 2"""
_DOUBTS: Final = """
SELECT d.instance_id::text, d.node_key, d.reason, d.resolved_by,
    extract(epoch FROM d.resolved_at - d.opened_at)::float AS took
FROM doubts d"""
_INCIDENTS: Final = """
SELECT instance_id::text, node_key, kind, body FROM incidents WHERE closed_at IS NULL"""


@dataclass(frozen=True, slots=True)
class Book:
    """What a provider did for one payment. Times are Unix seconds; ``charge_ids`` moved money."""

    charged: int = 0
    declined: int = 0
    first_at: float | None = None
    charge_ids: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Payment:
    """One step that moves money: what the engine says of it, and what the provider did.

    ``kind`` names a kind of payments.py, ``ends`` counts how often the engine said that it ended.
    """

    instance_id: str
    node_key: str
    point: str
    invoice: str
    kind: str
    state: str
    outcome: str | None
    output: Any
    waits_for: str | None
    parked_for: str | None
    book: Book
    ended_at: float | None = None
    ends: int = 0

    @property
    def name(self) -> str:
        """By which a person finds it."""
        return f"{self.kind} {self.invoice} {self.instance_id}/{self.node_key}"


@dataclass(frozen=True, slots=True)
class Doubt:
    """A doubt about one attempt of a payment; ``took`` seconds, None while it is open."""

    instance_id: str
    node_key: str
    reason: str
    resolved_by: str | None
    took: float | None


@dataclass(frozen=True, slots=True)
class History:
    """Everything that the checker looks at."""

    payments: Sequence[Payment]
    doubts: Sequence[Doubt]
    incidents: Sequence[Mapping[str, Any]]


def history(world: World[ProviderProcess], providers: Mapping[str, ProviderProcess]) -> History:
    """What happened in a world whose payments are at rest."""
    books: dict[str, Book] = {}
    for provider in providers.values():
        books |= _books(provider)
    ends = {(row["instance_id"], row["node_key"]): row for row in world.rows(_ENDS)}
    return History(
        [_payment(row, books, ends) for row in world.rows(_PAYMENTS)],
        [Doubt(**row) for row in world.rows(_DOUBTS)],
        world.rows(_INCIDENTS),
    )


def _books(provider: ProviderProcess) -> dict[str, Book]:
    """By subject: instance and step."""
    books: dict[str, Book] = {}
    for entry in provider.entries():
        before = books.get(entry["subject"], Book())
        moved = {c["charge_id"] for c in entry["charges"] if c["outcome"] == "succeeded"}
        books[entry["subject"]] = Book(
            before.charged + entry["charged"],
            before.declined + entry["declined"],
            min(before.first_at or entry["first_at"], entry["first_at"]),
            before.charge_ids | moved,
        )
    return books


def _payment(
    row: Mapping[str, Any],
    books: Mapping[str, Book],
    ends: Mapping[tuple[str, str], Mapping[str, Any]],
) -> Payment:
    given = dict(row)
    invoice, _, _ = given.pop("name").rpartition("/")
    point, _, _ = invoice.partition("/")
    kind = given.pop("handler").removeprefix("charge_")
    end = ends.get((given["instance_id"], given["node_key"]), {})
    book = books.get(f"{given['instance_id']}/{given['node_key']}", Book())
    return Payment(
        **given, point=point, invoice=invoice, kind=kind, book=book,
        ended_at=end.get("at"), ends=end.get("times", 0),
    )  # fmt: skip
