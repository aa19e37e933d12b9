"""The routes of effects: a receipt of each call, and what became of those in doubt."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, Response

from api import requests
from api.answers import answer
from api.attention import decided
from api.auth import caller
from api.operations import Many, operation
from api.schemas.attention import ProposalSchema
from api.schemas.effects import EffectSchema, EffectsQuery, ResolveBody
from api.schemas.instances import RetriedSchema
from api.surface import surface
from orch8.runtime import effects
from orch8.runtime.effects import Receipt
from orch8.runtime.resolve import Judgement

blueprint: Final = Blueprint("effects", __name__)

_QUERY, _RESOLVE = EffectsQuery(), ResolveBody()
_OPTIONAL: Final = ("idempotency_key", "provider_receipt_id")


@blueprint.get("/instances/<instance_id>/effects")
@operation(
    "List the effects of an instance, the oldest first",
    query=EffectsQuery,
    answers={200: Many(EffectSchema)},
    errors=(404,),
)
def list_of_instance(instance_id: str) -> Response:
    """One for each attempt that was sent, whatever its dispatches."""
    wanted = requests.path_id(instance_id)
    tenant = caller().tenant_of_list(requests.query(_QUERY).get("tenant_id"))
    with surface().office.begin() as tx:
        found = effects.effects(tx, wanted, tenant_id=tenant)
    return answer([_shown(each) for each in found])


@blueprint.post("/continuity/effects/<effect_id>/resolve")
@operation(
    "Say what became of an effect in doubt",
    body=ResolveBody,
    answers={200: RetriedSchema, 202: ProposalSchema},
    errors=(403, 404, 409),
    headers=("X-Actor",),
)
def resolve(effect_id: str) -> Response:
    """As a decision about the attempt. 202: the amount needs two people."""
    wanted = requests.path_id(effect_id, "effect id")
    body = requests.body(_RESOLVE)
    judgement = Judgement(
        decision=effects.decision_for(body["state"]),
        actor=requests.actor(),
        reason=body.get("reason") or f"the effect was resolved as {body['state']}",
        output=body.get("output"),
        provider_ref=body.get("provider_receipt_id"),
        request_id=requests.request_id(),
    )
    office = surface().office
    tenant = caller().tenant_or_default(body.get("tenant_id"))
    with office.begin() as tx:
        found = effects.resolve(office, tx, wanted, judgement, tenant_id=tenant)
    return decided(found)


def _shown(found: Receipt) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": found.id,
        "tenant_id": found.tenant_id,
        "continuity_id": found.instance_id,
        "epoch": found.epoch,
        "instance_id": found.instance_id,
        "block_id": found.block_id,
        "node_key": found.node_key,
        "handler": found.handler,
        "kind": found.kind,
        "state": found.state.value,
        "destination_fingerprint": found.destination_fingerprint,
        "idempotency_key": found.idempotency_key,
        "request_sha256": found.request_sha256,
        "provider_receipt_id": found.provider_receipt_id,
        "attempt": found.attempt,
        "created_at": found.created_at,
        "updated_at": found.updated_at,
    }
    for name in _OPTIONAL:
        if shown[name] is None:
            del shown[name]
    return shown
