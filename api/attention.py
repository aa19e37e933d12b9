"""The routes of what needs attention: attempts in doubt, incidents, decisions by two people."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime, timedelta
from typing import Final

from flask import Blueprint, Response

from api import requests
from api.answers import answer
from api.auth import caller
from api.operations import operation
from api.schemas.attention import (
    MAX_PAGE,
    AttemptSchema,
    AttentionQuery,
    BecauseSchema,
    DecideSchema,
    IncidentSchema,
    MatterPageSchema,
    ProposalSchema,
)
from api.schemas.instances import RetriedSchema
from api.surface import surface
from orch8.errors import InvalidArgument
from orch8.runtime import attention, decisions
from orch8.runtime.decisions import Actor, Decided
from orch8.runtime.resolve import Decision, Judgement
from orch8.storage.attention import KINDS, Wanted
from orch8.storage.rows import InstanceRow
from orch8.storage.transaction import Row

blueprint: Final = Blueprint("attention", __name__)

DEFAULT_PAGE: Final = 100
_LIST, _DECIDE, _BECAUSE = AttentionQuery(), DecideSchema(), BecauseSchema()


@blueprint.get("/attention")
@operation(
    "List what a person may have to look at, the oldest first",
    query=AttentionQuery,
    answers={200: MatterPageSchema},
)
def list_some() -> Response:
    """Attempts in doubt, parked steps, incidents and decisions that wait for a second person."""
    asked = requests.query(_LIST)
    limit = min(asked.get("limit", DEFAULT_PAGE), MAX_PAGE)
    age = asked.get("older_than")
    wanted = Wanted(
        tenant_id=caller().tenant,
        state=asked.get("state", "open"),
        kinds=asked.get("kind", KINDS),
        provider=asked.get("provider"),
        handler=asked.get("handler"),
        older_than=None if age is None else timedelta(milliseconds=age.total_ms()),
        after=_after(asked.get("cursor")),
    )
    with surface().office.begin() as tx:
        found = attention.matters(tx, wanted, limit=limit + 1)
    more = len(found) > limit
    found = found[:limit]
    return answer(
        {
            "items": [shown for _, shown in found],
            "has_more": more,
            "next_cursor": _cursor(found[-1][0]) if more else None,
        }
    )


@blueprint.get("/attention/<instance_id>/<node_key>")
@operation(
    "Read one attempt side by side with its evidence", answers={200: AttemptSchema}, errors=(404,)
)
def read(instance_id: str, node_key: str) -> Response:
    """What was sent, what was observed, which decisions are possible, and what happens without."""
    wanted = requests.path_id(instance_id)
    office = surface().office
    with office.begin() as tx:
        return answer(attention.attempt(office, tx, wanted, node_key, tenant_id=caller().tenant))


@blueprint.post("/attention/<instance_id>/<node_key>/decide")
@operation(
    "Decide about an attempt in doubt",
    body=DecideSchema,
    answers={200: RetriedSchema, 202: ProposalSchema},
    errors=(404, 409),
    headers=("X-Actor",),
)
def decide(instance_id: str, node_key: str) -> Response:
    """200: it is done. 202: the amount needs two people, and another one has to confirm it."""
    wanted = requests.path_id(instance_id)
    body = requests.body(_DECIDE)
    judgement = Judgement(
        decision=Decision(body["decision"]),
        actor=requests.named_actor(),
        reason=body["reason"],
        output=body.get("output"),
        provider_ref=body.get("provider_ref"),
        epoch=body.get("epoch"),
        request_id=requests.request_id(),
    )
    office = surface().office
    with office.begin() as tx:
        found = decisions.decide(office, tx, wanted, node_key, judgement, tenant_id=caller().tenant)
    return decided(found)


@blueprint.post("/attention/decisions/<decision_id>/confirm")
@operation(
    "Confirm what somebody else decided",
    body=BecauseSchema,
    answers={200: RetriedSchema},
    errors=(403, 404, 409),
    headers=("X-Actor",),
)
def confirm(decision_id: str) -> Response:
    """It is carried out. 403 for the person who proposed it, 409 if the attempt has changed."""
    wanted = requests.path_id(decision_id)
    actor = because()
    row = decisions.confirm(surface().office, wanted, actor, tenant_id=caller().tenant)
    return _goes_on(row)


@blueprint.post("/attention/decisions/<decision_id>/withdraw")
@operation(
    "Withdraw a decision that nobody has confirmed",
    body=BecauseSchema,
    answers={200: ProposalSchema},
    errors=(404, 409),
    headers=("X-Actor",),
)
def withdraw(decision_id: str) -> Response:
    """It is not carried out; another may be proposed."""
    wanted = requests.path_id(decision_id)
    actor = because()
    row = decisions.withdraw(surface().office, wanted, actor, tenant_id=caller().tenant)
    return answer(row._asdict())


@blueprint.post("/attention/incidents/<incident_id>/close")
@operation(
    "Close an incident",
    body=BecauseSchema,
    answers={200: IncidentSchema},
    errors=(404, 409),
    headers=("X-Actor",),
)
def close(incident_id: str) -> Response:
    """Somebody has looked at it, and says what it came to."""
    wanted = requests.path_id(incident_id)
    actor = because()
    with surface().office.begin() as tx:
        row = attention.close_incident(tx, wanted, actor, tenant_id=caller().tenant)
    return answer(row._asdict())


def because() -> Actor:
    """Who asks, by the X-Actor header, and the reason in the body."""
    reason = requests.body(_BECAUSE)["reason"]
    return Actor(name=requests.named_actor(), reason=reason, request_id=requests.request_id())


def decided(found: Decided) -> Response:
    """The instance that goes on, or the decision that waits for a second person."""
    if found.instance is not None:
        return _goes_on(found.instance)
    assert found.proposal is not None
    return answer(found.proposal._asdict(), 202)


def _goes_on(row: InstanceRow) -> Response:
    surface().announce(row.lane)
    return answer({"id": row.id, "state": row.state, "round": row.round})


def _cursor(row: Row) -> str:
    text = f"{row.at.astimezone(UTC).isoformat()}|{row.ref}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _after(cursor: str | None) -> tuple[datetime, str] | None:
    if cursor is None:
        return None
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        at, _, ref = text.partition("|")
        moment = datetime.fromisoformat(at)
    except (ValueError, binascii.Error):
        moment = None
    if moment is None or moment.tzinfo is None or not ref:
        raise InvalidArgument("cursor is not one that a page gave as next_cursor")
    return moment, ref
