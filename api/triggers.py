"""The routes of triggers, which start instances by a name, and of the webhooks they take in."""

from __future__ import annotations

import time
from typing import Any, Final

from flask import Blueprint, Response, request

from api import requests
from api.answers import answer, nothing
from api.auth import caller
from api.operations import Many, operation
from api.schemas.keys import BecauseQuery
from api.schemas.triggers import (
    FiredSchema,
    TakenInSchema,
    TriggerBody,
    TriggerSchema,
    TriggersQuery,
)
from api.surface import surface
from api.throttle import Throttle
from orch8.errors import InvalidArgument, PayloadTooLarge, Problem, RateLimited
from orch8.runtime import inbound, triggers
from orch8.runtime.inbound import Delivery
from orch8.runtime.start import StartResult
from orch8.runtime.triggers import Firing, TriggerRequest
from orch8.storage import triggers as stored
from orch8.storage.transaction import Row

blueprint: Final = Blueprint("triggers", __name__)

DEFAULT_PAGE: Final = 100
MAX_PAGE: Final = 1000
LONGEST_WEBHOOK: Final = 1024 * 1024  # bytes
LONGEST_AGENT: Final = 200
REDACTED: Final = "[REDACTED]"
WEBHOOKS: Final = Throttle(300)  # a second, for each address and slug
_CREATE, _LIST, _BECAUSE = TriggerBody(), TriggersQuery(), BecauseQuery()


@blueprint.post("/triggers")
@operation(
    "Give a sequence a name that starts it",
    body=TriggerBody,
    answers={201: TriggerSchema},
    errors=(403, 404, 409),
    headers=("X-Actor",),
)
def create() -> Response:
    """Slugs are shared by all tenants."""
    body = requests.body(_CREATE)
    if "/" in body["slug"]:
        raise InvalidArgument(
            "slug must not contain a slash", errors=[Problem("/slug", "contains a slash")]
        )
    stated = body.get("tenant_id", "").strip()
    body["tenant_id"] = caller().tenant_or_default(stated)
    asked = TriggerRequest(**body)
    office = surface().office
    with office.begin() as tx:
        row = triggers.create(office, tx, asked, requests.because())
    return answer(_shown(row), 201, {"Location": f"/triggers/{row.slug}"})


@blueprint.get("/triggers")
@operation("List triggers by slug", query=TriggersQuery, answers={200: Many(TriggerSchema)})
def list_all() -> Response:
    """Without their secrets."""
    asked = requests.query(_LIST)
    tenant = caller().tenant_of_list(asked.get("tenant_id"))
    with surface().office.begin() as tx:
        limit = min(asked.get("limit", DEFAULT_PAGE), MAX_PAGE)
        rows = stored.list_triggers(tx, tenant, limit)
    return answer([_shown(row) for row in rows])


@blueprint.get("/triggers/<slug>")
@operation("Read a trigger", answers={200: TriggerSchema}, errors=(404,))
def read(slug: str) -> Response:
    """The trigger, without its secret."""
    with surface().office.begin() as tx:
        return answer(_shown(triggers.found(tx, slug, caller().tenant)))


@blueprint.delete("/triggers/<slug>")
@operation(
    "Delete a trigger",
    query=BecauseQuery,
    answers={204: None},
    errors=(404,),
    headers=("X-Actor",),
)
def delete(slug: str) -> Response:
    """Nothing is started by this slug any more; what was goes on."""
    because = requests.because(requests.query(_BECAUSE).get("reason"))
    with surface().office.begin() as tx:
        triggers.delete(tx, slug, because, tenant_id=caller().tenant)
    return nothing()


@blueprint.post("/triggers/<slug>/fire")
@operation(
    "Fire a trigger; the body, any JSON, is the data of the instance",
    answers={201: FiredSchema, 200: FiredSchema},
    errors=(400, 404, 409, 413, 415, 422),
    headers=("Idempotency-Key", "X-Actor", "X-Trigger-Secret"),
)
def fire(slug: str) -> Response:
    """201 and the instance; 200 and the earlier one when the key was used for the same before."""
    here = surface()
    with here.office.begin() as tx:
        trigger = triggers.found(tx, slug, caller().tenant)
    triggers.check_secret(trigger, requests.header("X-Trigger-Secret"))
    firing = Firing(
        payload=requests.json_body(),
        meta={"source": "http_fire"},
        key=requests.idempotency_key(),
        actor=requests.actor(),
        request_id=requests.request_id(),
    )
    result = triggers.fire(here.office, trigger, firing)
    told = {"sequence_name": trigger.sequence_name}
    return _started(trigger, result, 200 if result.deduplicated else 201, told)


@blueprint.post("/webhooks/<slug>")
@operation(
    "Take in a webhook that is signed with the secret of its trigger",
    answers={202: TakenInSchema},
    errors=(400, 401, 404, 409, 413, 422, 429, 500, 503),
    public=True,
)
def webhook(slug: str) -> Response:
    """x-orch8-signature is v1= and the unpadded base64url of the HMAC-SHA256, by the secret, of
    x-trigger-timestamp, a dot, x-trigger-nonce, a dot, and the body as it was sent.
    """
    now = time.time()
    if not WEBHOOKS.admits((request.remote_addr, slug), now):
        raise RateLimited(f"more than {WEBHOOKS.most} webhooks a second", retry_after=1.0)
    here = surface()
    trigger = inbound.receiver(here.office, slug)
    raw = requests.raw_body()
    if len(raw) > LONGEST_WEBHOOK:
        raise PayloadTooLarge(f"the body has {len(raw)} bytes, the limit is {LONGEST_WEBHOOK}")
    delivery = Delivery(
        timestamp=requests.header("X-Trigger-Timestamp"),
        nonce=requests.header("X-Trigger-Nonce"),
        signature=requests.header("X-Orch8-Signature"),
        raw=raw,
        now=now,
    )
    inbound.verify(trigger, delivery)
    result = inbound.take_in(
        here.office,
        trigger,
        delivery.nonce,
        requests.parse_json(raw),
        user_agent=requests.header("User-Agent")[:LONGEST_AGENT],
        request_id=requests.request_id(),
    )
    return _started(trigger, result, 202, {})


def _started(trigger: Row, result: StartResult, status: int, told: dict[str, Any]) -> Response:
    here = surface()
    here.counters.started(deduplicated=result.deduplicated)
    for lane in result.lanes:
        here.announce(lane)
    body = {"instance_id": result.instance.id, "trigger": trigger.slug, **told}
    return answer(body, status)


def _shown(row: Row) -> dict[str, Any]:
    shown: dict[str, Any] = row._asdict()
    if row.version is None:
        del shown["version"]
    if row.secret is None:
        del shown["secret"]
    else:
        shown["secret"] = REDACTED
    return shown
