"""The routes of events, which producers tell."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Final

from flask import Blueprint, Response

from api import requests
from api.answers import answer
from api.auth import caller
from api.operations import Many, operation
from api.schemas.events import (
    EventBody,
    EventsBody,
    EventSchema,
    EventsQuery,
    IngestedManySchema,
    IngestedSchema,
)
from api.surface import surface
from orch8.runtime import events
from orch8.runtime.events import Ingested, Told
from orch8.storage import events as stored
from orch8.storage.transaction import Row

blueprint: Final = Blueprint("events", __name__)

DEFAULT_PAGE: Final = 100
MAX_PAGE: Final = 1000
REDACTED: Final = "[REDACTED]"
_EVENT, _EVENTS, _LIST = EventBody(), EventsBody(), EventsQuery()


@blueprint.post("/events")
@operation(
    "Tell an event",
    body=EventBody,
    answers={201: IngestedSchema, 200: IngestedSchema},
    errors=(403,),
    headers=("X-Actor",),
)
def ingest() -> Response:
    """201; 200 and the earlier event if it was told before."""
    told = _told(requests.body(_EVENT))
    with surface().office.begin() as tx:
        (outcome,), lanes = events.ingest(tx, [told], requests.because())
    _announce(lanes)
    return answer(_outcome(outcome), 200 if outcome.duplicate else 201)


@blueprint.post("/events/batch")
@operation(
    "Tell several events",
    body=EventsBody,
    answers={200: IngestedManySchema},
    errors=(403,),
    headers=("X-Actor",),
)
def ingest_many() -> Response:
    """All are kept or none; the outcomes come in the same order."""
    told = [_told(each) for each in requests.body(_EVENTS)["events"]]
    with surface().office.begin() as tx:
        outcomes, lanes = events.ingest(tx, told, requests.because())
    _announce(lanes)
    return answer({"outcomes": [_outcome(each) for each in outcomes]})


@blueprint.get("/events")
@operation(
    "List a tenant's events, the newest first",
    query=EventsQuery,
    answers={200: Many(EventSchema)},
)
def list_all() -> Response:
    """Without their payloads."""
    asked = requests.query(_LIST)
    tenant = caller().tenant_of_many(asked.get("tenant_id"))
    limit = min(asked.get("limit", DEFAULT_PAGE), MAX_PAGE)
    with surface().office.begin() as tx:
        rows = stored.list_events(tx, tenant, asked.get("status"), limit)
    return answer([{**_shown(row), "payload": REDACTED} for row in rows])


@blueprint.get("/events/<event_id>")
@operation("Read an event", answers={200: EventSchema}, errors=(404,))
def read(event_id: str) -> Response:
    """The event with its payload."""
    wanted = requests.path_id(event_id)
    with surface().office.begin() as tx:
        row = events.found(tx, wanted, caller().tenant)
    return answer(_shown(row))


def _told(body: dict[str, Any]) -> Told:
    stated = (body.get("tenant_id") or "").strip()
    return Told(**{**body, "tenant_id": caller().tenant_or_default(stated)})


def _outcome(outcome: Ingested) -> dict[str, Any]:
    shown = asdict(outcome)
    if outcome.matched_wait is None:
        del shown["matched_wait"]
    return shown


def _announce(lanes: Iterable[str]) -> None:
    for lane in lanes:
        surface().announce(lane)


def _shown(row: Row) -> dict[str, Any]:
    shown: dict[str, Any] = row._asdict()
    if row.consumed_by is None:
        del shown["consumed_by"]
    return shown
