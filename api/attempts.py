"""The route for words from outside: a provider's webhook says how an attempt ended."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from flask import Blueprint, Response

from api import requests
from api.answers import answer
from api.auth import caller
from api.operations import operation
from api.schemas.attempts import HeardSchema, TestimonySchema
from api.schemas.base import refuse_unknown
from api.surface import surface
from orch8.engine.outcome import Verdict
from orch8.errors import NotFound, Problem, Unprocessable
from orch8.runtime.evidence import testify
from orch8.runtime.words import Word
from orch8.storage import instances

blueprint: Final = Blueprint("attempts", __name__)

_TESTIMONY = TestimonySchema()


@blueprint.post("/attempts/evidence")
@operation(
    "Tell how an attempt ended, as a provider's webhook says",
    body=TestimonySchema,
    answers={200: HeardSchema},
    errors=(403, 404),
    headers=("X-Actor",),
)
def evidence() -> Response:
    """The first conclusive word ends an attempt in doubt; what contradicts it opens an incident."""
    raw = requests.json_body()
    refuse_unknown(_TESTIMONY, raw)
    body = requests.members(_TESTIMONY, raw)
    word = Word(
        outcome=Verdict(body["outcome"]),
        idempotency_key=body.get("idempotency_key"),
        provider_ref=body.get("provider_ref"),
        at=_place(body),
        output=body.get("output"),
        event_id=body.get("event_id"),
        source=body.get("source", "webhook"),
        actor=requests.actor(body.get("actor")),
        request_id=requests.request_id(),
    )
    here = surface()
    tenant_id = caller().tenant_or_default(body.get("tenant_id"))
    with here.office.begin() as tx:
        heard = testify(here.office, tx, word, tenant_id=tenant_id)
        found = [] if heard.instance_id is None else [heard.instance_id]
        lanes = {row.lane for row in instances.read_instances(tx, found).values()}
    if heard.state == "unmatched":
        raise NotFound(
            "no attempt is known by this; send the idempotency_key that the call had, or "
            "instance_id and step. A word that came before the call was made can be sent again"
        )
    for lane in lanes:
        here.announce(lane)
    shown = {"state": heard.state, "instance_id": heard.instance_id, "node_key": heard.node_key}
    return answer(shown)


def _place(body: dict[str, Any]) -> tuple[UUID, str] | None:
    given = [name for name in ("instance_id", "step") if name in body]
    if len(given) == 1:
        missing = "step" if given == ["instance_id"] else "instance_id"
        raise _incomplete(missing, f"{missing} is required with {given[0]}")
    if given:
        return body["instance_id"], body["step"]
    if "idempotency_key" not in body and "provider_ref" not in body:
        raise _incomplete("idempotency_key", "say which attempt is meant")
    return None


def _incomplete(member: str, message: str) -> Unprocessable:
    hint = "send idempotency_key, provider_ref, or instance_id and step"
    return Unprocessable(message, errors=[Problem(f"/{member}", message, hint, shape=True)])
