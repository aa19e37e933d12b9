"""The routes of outbound webhooks: what receivers have not taken yet, and how deliveries went."""

from __future__ import annotations

import time
from typing import Any, Final

from flask import Blueprint, Response

from api import requests
from api.answers import answer, nothing
from api.auth import caller
from api.operations import Many, operation
from api.schemas.keys import BecauseQuery
from api.schemas.outbox import (
    DeliveriesQuery,
    DeliverySchema,
    OutboxEventSchema,
    OutboxQuery,
    PreviewSchema,
    RedeliverBody,
    RedeliveredSchema,
    ToldDeliverySchema,
)
from api.surface import surface
from orch8.errors import NotFound
from orch8.handlers.http import Caller
from orch8.runtime import postman
from orch8.storage import outbox
from orch8.storage.outbox import DeliveryFilter
from orch8.storage.transaction import Row

blueprint: Final = Blueprint("outbox", __name__)

_LIST, _DELIVERIES, _BECAUSE, _REDELIVER = (
    OutboxQuery(), DeliveriesQuery(), BecauseQuery(), RedeliverBody(),
)  # fmt: skip
DEFAULT_PAGE: Final = 100
# Members that are left out while they hold nothing.
_OMITTED: Final = ("last_error", "next_attempt_at", "claimed_at")
_caller: Final = Caller()  # each thread of the server keeps its own connections


@blueprint.get("/webhooks/outbox")
@operation(
    "List the events that receivers have not taken yet, the oldest first",
    query=OutboxQuery,
    answers={200: Many(OutboxEventSchema)},
)
def waiting() -> Response:
    """Those that are due, on their way, or parked: these wait for a person."""
    most = requests.query(_LIST).get("limit", DEFAULT_PAGE)
    with surface().office.begin() as tx:
        return answer([_event(row) for row in outbox.listed(tx, caller().tenant, most)])


@blueprint.delete("/webhooks/outbox/<event_id>")
@operation(
    "Give up an event",
    query=BecauseQuery,
    answers={204: None},
    errors=(404,),
    headers=("X-Actor",),
)
def drop(event_id: str) -> Response:
    """It is not sent any more; what was sent of it stays in the deliveries."""
    wanted = requests.path_id(event_id)
    because = requests.because(requests.query(_BECAUSE).get("reason"))
    with surface().office.begin() as tx:
        postman.drop(tx, wanted, because, tenant_id=caller().tenant)
    return nothing()


@blueprint.post("/webhooks/outbox/<event_id>/redeliver")
@operation(
    "Send an event once more, now",
    body=RedeliverBody,
    body_required=False,
    answers={200: RedeliveredSchema},
    errors=(404, 409, 502),
    headers=("X-Actor",),
)
def redeliver(event_id: str) -> Response:
    """200 if the receiver took it; 502 if it did not, and then the event is parked."""
    delivery = postman.redeliver(
        surface().office,
        _caller,
        requests.path_id(event_id),
        requests.because(requests.optional_body(_REDELIVER).get("reason")),
        tenant_id=caller().tenant,
    )
    return answer({"redelivered": True, "delivery_id": delivery})


@blueprint.get("/webhooks/outbox/<event_id>/redeliver-preview")
@operation(
    "Show what sending an event once more would send",
    answers={200: PreviewSchema},
    errors=(404,),
)
def preview(event_id: str) -> Response:
    """The request as it would leave now; nothing is sent. The signature is left out: who has it
    could send the event in our name.
    """
    settings = surface().settings
    with surface().office.begin() as tx:
        row = postman.found(tx, requests.path_id(event_id), caller().tenant)
    headers = postman.headers_of(row, settings, int(time.time()))
    signed = headers.pop("X-Orch8-Signature", None) is not None
    return answer(
        {
            "id": row.id, "delivery_id": row.id, "method": "POST", "url": row.url,
            "event_type": row.event_type, "status": row.status, "attempts": row.attempts,
            "headers": headers, "signed": signed, "body": postman.body_of(row).decode(),
        }
    )  # fmt: skip


@blueprint.get("/webhooks/deliveries")
@operation(
    "List deliveries, the newest event first",
    query=DeliveriesQuery,
    answers={200: Many(DeliverySchema)},
)
def deliveries() -> Response:
    """Those that were attempted at least once in the last 30 days."""
    asked = requests.query(_DELIVERIES)
    most = asked.pop("limit", DEFAULT_PAGE)
    wanted = DeliveryFilter(tenant_id=caller().tenant, **asked)
    with surface().office.begin() as tx:
        return answer([_delivery(row) for row in outbox.deliveries(tx, wanted, most)])


@blueprint.get("/webhooks/deliveries/<delivery_id>")
@operation("Tell a delivery's story", answers={200: ToldDeliverySchema}, errors=(404,))
def delivery(delivery_id: str) -> Response:
    """Each attempt: when, what was answered, and how long it took."""
    wanted = requests.path_id(delivery_id)
    with surface().office.begin() as tx:
        row = outbox.delivery(tx, wanted, caller().tenant)
    if row is None:
        raise NotFound(f"delivery {wanted}")
    return answer(_delivery(row))


def _event(row: Row) -> dict[str, Any]:
    shown: dict[str, Any] = {**row._asdict(), "delivery_id": row.id}
    return {name: v for name, v in shown.items() if v is not None or name not in _OMITTED}


def _delivery(row: Row) -> dict[str, Any]:
    shown: dict[str, Any] = row._asdict()
    return {"delivery_id": shown.pop("id"), **shown}
