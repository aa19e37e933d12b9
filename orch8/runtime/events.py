"""events: what producers tell is taken in, each event once, and none without the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final
from uuid import UUID

from orch8.errors import NotFound
from orch8.runtime.because import Because
from orch8.storage import events
from orch8.storage.ids import uuid7
from orch8.storage.transaction import Row, Tx

MOST: Final = 100  # events at a time


@dataclass(frozen=True, kw_only=True)
class Told:
    """An event as its producer tells it. Its name and the producer's id make it one."""

    tenant_id: str
    event_name: str
    producer_event_id: str
    correlation_key: str
    payload: Any = None

    @property
    def identity(self) -> tuple[str, str, str]:
        """What no two events have in common."""
        return self.tenant_id, self.event_name, self.producer_event_id


@dataclass(frozen=True, slots=True)
class Ingested:
    """The id of an event, and whether it had been told before."""

    event_id: UUID
    duplicate: bool


def ingest(tx: Tx, told: Sequence[Told], because: Because) -> list[Ingested]:
    """Every event is kept, or was kept before; in the order in which they were told.

    The first that tells of an event is believed: what a repeated one says otherwise is not kept.
    """
    outcomes: dict[int, Ingested] = {}
    # In the order of their identities, so that two batches never wait for each other in a circle.
    for place in sorted(range(len(told)), key=lambda each: (told[each].identity, each)):
        outcomes[place] = Ingested(*events.insert(tx, {"id": uuid7(), **asdict(told[place])}))
    for place, outcome in sorted(outcomes.items()):
        if not outcome.duplicate:
            body = {"event": str(outcome.event_id), "name": told[place].event_name}
            because.note(tx, told[place].tenant_id, "event.received", body)
    return [outcomes[place] for place in range(len(told))]


def found(tx: Tx, event_id: UUID, tenant_id: str | None) -> Row:
    """The event. Raises NotFound if it is not there or another tenant's (None: anybody's)."""
    row = events.read(tx, event_id, tenant_id)
    if row is None:
        raise NotFound(f"event {event_id}")
    return row
