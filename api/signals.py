"""The routes of an instance's inbox."""

from __future__ import annotations

from typing import Final

from flask import Blueprint, Response

from api import requests
from api.answers import answer
from api.auth import caller
from api.operations import Many, operation
from api.schemas.base import refuse_unknown
from api.schemas.signals import (
    CorrelatedSchema,
    CorrelatedSignalSchema,
    SentSchema,
    SignalInboxSchema,
    SignalSchema,
)
from api.surface import surface
from orch8.errors import Problem, Unprocessable
from orch8.runtime import inspect
from orch8.runtime.correlate import IfMany, correlate
from orch8.runtime.signal import SignalRequest
from orch8.runtime.signal import signal as send_signal
from orch8.storage import instances, signals

blueprint: Final = Blueprint("signals", __name__)

_SIGNAL, _CORRELATED = SignalSchema(), CorrelatedSignalSchema()


@blueprint.post("/instances/<instance_id>/signals")
@operation(
    "Send a signal: pause, resume, cancel, update_context, or one of your own",
    body=SignalSchema,
    answers={201: SentSchema},
    errors=(404,),
    headers=("Idempotency-Key", "X-Actor"),
)
def send(instance_id: str) -> Response:
    """What a control does is done when the answer comes; other signals wait to be consumed."""
    wanted = requests.path_id(instance_id)
    body = requests.body(_SIGNAL)
    control, name = _kind(body.get("signal"), body.get("signal_type"))
    asked = SignalRequest(
        control=control,
        name=name,
        payload=body.get("payload"),
        actor=requests.actor(body.get("actor")),
        reason=body.get("reason"),
        dedupe_key=requests.idempotency_key(body.get("dedupe_key")),
        request_id=requests.request_id(),
    )
    here = surface()
    with here.office.begin() as tx:
        signal_id = send_signal(here.office, tx, wanted, asked, tenant_id=caller().tenant)
        lane = instances.read_instances(tx, [wanted])[wanted].lane
    here.announce(lane)
    return answer({"signal_id": signal_id}, 201)


@blueprint.post("/signals")
@operation(
    "Send a signal to every open instance that it is about, by correlation",
    body=CorrelatedSignalSchema,
    answers={200: CorrelatedSchema},
    errors=(403, 404, 409),
    headers=("Idempotency-Key", "X-Actor"),
)
def correlated() -> Response:
    """Each open instance whose `correlation` has all of these values has the signal."""
    raw = requests.json_body()
    refuse_unknown(_CORRELATED, raw)
    body = requests.members(_CORRELATED, raw)
    control, name = body["signal"]
    asked = SignalRequest(
        control=control,
        name=name,
        payload=body.get("payload"),
        actor=requests.actor(body.get("actor")),
        reason=body.get("reason"),
        dedupe_key=requests.idempotency_key(body.get("dedupe_key")),
        request_id=requests.request_id(),
    )
    here = surface()
    sent = correlate(
        here.office,
        body["correlate"],
        asked,
        tenant_id=caller().tenant_or_default(body.get("tenant_id")),
        if_many=IfMany(body.get("if_many", IfMany.ALL)),
        required=body.get("if_none") == "error",
    )
    for lane in sorted({each.lane for each in sent.reached}):
        here.announce(lane)
    reached = [
        {"instance_id": each.instance_id, "signal_id": each.signal_id} for each in sent.reached
    ]
    return answer({"matched": sent.matched, "signals": reached})


@blueprint.get("/instances/<instance_id>/signals")
@operation(
    "List the signals sent to an instance, the oldest first",
    answers={200: Many(SignalInboxSchema)},
    errors=(404,),
)
def inbox(instance_id: str) -> Response:
    """Every signal, and what consumed it."""
    wanted = requests.path_id(instance_id)
    with surface().office.begin() as tx:
        inspect.shown(tx, wanted, tenant_id=caller().tenant)
        rows = signals.signals_of(tx, wanted)
    return answer([row._asdict() for row in rows])


def _kind(
    short: tuple[str | None, str] | None, contract: tuple[str | None, str] | None
) -> tuple[str | None, str]:
    given = [each for each in (short, contract) if each is not None]
    if len(given) != 1:
        message = (
            "signal_type is required"
            if not given
            else "signal and signal_type say the same; send one of them"
        )
        hint = 'such as {"signal": "cancel"}'
        raise Unprocessable(message, errors=[Problem("/signal_type", message, hint, shape=True)])
    return given[0]
