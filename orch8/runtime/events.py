"""events: what producers tell is taken in, each event once, and none without the others.

Steps that wait for an event have it, and are woken, in the same transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final
from uuid import UUID

from orch8.errors import NotFound
from orch8.runtime import event_waits
from orch8.runtime.because import Because
from orch8.runtime.event_waits import Fresh
from orch8.storage import event_waits as waits
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
    """The id of an event, and whether it had been told before; which wait has it, if one does, and
    whether that has all that it wants.
    """

    event_id: UUID
    duplicate: bool
    matched_wait: UUID | None = None
    satisfied: bool = False


def ingest(tx: Tx, told: Sequence[Told], because: Because) -> tuple[list[Ingested], Sequence[str]]:
    """Every event is kept, or was kept before; in the order in which they were told. Then the lanes
    in which there is work now.

    The first that tells of an event is believed: what a repeated one says otherwise is not kept.
    """
    kept: dict[int, tuple[UUID, bool]] = {}
    # In the order of their identities, so that two batches never wait for each other in a circle.
    for place in sorted(range(len(told)), key=lambda each: (told[each].identity, each)):
        kept[place] = events.insert(tx, {"id": uuid7(), **asdict(told[place])})
    fresh = []
    for place, (event_id, duplicate) in sorted(kept.items()):
        if not duplicate:
            one = told[place]
            because.note(
                tx, one.tenant_id, "event.received",
                {"event": str(event_id), "name": one.event_name},
            )  # fmt: skip
            fresh.append(Fresh(event_id, one.tenant_id, one.event_name, one.correlation_key))
    matched = event_waits.offer(tx, fresh)
    known = [event_id for event_id, duplicate in kept.values() if duplicate]
    found = {**(waits.consumers(tx, known) if known else {}), **matched.waits}
    outcomes = [Ingested(*kept[place], *found.get(kept[place][0], ())) for place in sorted(kept)]
    return outcomes, matched.lanes


def found(tx: Tx, event_id: UUID, tenant_id: str | None) -> Row:
    """The event. Raises NotFound if it is not there or another tenant's (None: anybody's)."""
    row = events.read(tx, event_id, tenant_id)
    if row is None:
        raise NotFound(f"event {event_id}")
    return row
