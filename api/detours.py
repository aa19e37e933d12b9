"""The routes by which an instance leaves its course: inject blocks, resume from one, fork."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, Response

from api import requests
from api.answers import answer
from api.auth import caller
from api.operations import operation
from api.schemas.detours import (
    ForkBody,
    ForkedSchema,
    InjectBody,
    InjectedSchema,
    ResumeBody,
    ResumedSchema,
)
from api.surface import surface
from orch8.runtime.fork import fork as fork_instance
from orch8.runtime.inject import inject as inject_blocks
from orch8.runtime.rerun import Wish
from orch8.runtime.resume import resume_from as resume_instance
from orch8.runtime.signal import SignalRequest

blueprint: Final = Blueprint("detours", __name__)

_INJECT, _RESUME, _FORK = InjectBody(), ResumeBody(), ForkBody()
# How clients of the contract are told that it goes on; its first step may wait for a worker.
_GOES_ON: Final = "scheduled"


@blueprint.post("/instances/<instance_id>/inject-blocks")
@operation(
    "Put blocks behind those of an instance's sequence, for this instance alone",
    body=InjectBody,
    answers={200: InjectedSchema},
    errors=(404,),
    headers=("X-Actor",),
)
def inject(instance_id: str) -> Response:
    """They run after all others; where the instance has ended, once it runs again."""
    wanted, body = requests.path_id(instance_id), requests.body(_INJECT)
    position = body.get("position")
    here = surface()
    with here.office.begin() as tx:
        made = inject_blocks(
            here.office,
            tx,
            wanted,
            body.get("blocks"),
            position,
            requests.because(body.get("reason"), body.get("actor")),
            tenant_id=caller().tenant,
        )
    return answer(
        {
            "injected_block_ids": list(made.ids),
            "position": position,
            "total_injected": made.total,
        }
    )


@blueprint.post("/instances/<instance_id>/resume-from/<block_id>")
@operation(
    "Run a block of an instance's outermost list anew, and all that come after it",
    body=ResumeBody,
    body_required=False,
    answers={200: ResumedSchema},
    errors=(404, 409),
    headers=("X-Actor",),
)
def resume_from(instance_id: str, block_id: str) -> Response:
    """409 names the steps whose effect would happen again, until that is acknowledged; and those in
    doubt, which have to be decided first.
    """
    wanted, body = requests.path_id(instance_id), requests.optional_body(_RESUME)
    here = surface()
    with here.office.begin() as tx:
        done = resume_instance(
            here.office,
            tx,
            wanted,
            _wish(body, block_id),
            requests.because(body.get("reason"), body.get("actor")),
            tenant_id=caller().tenant,
        )
    here.announce(done.row.lane)
    return answer(
        {
            "id": wanted,
            "state": _GOES_ON,
            "resumed_from": block_id,
            "outputs_deleted": done.superseded,
            "signals_enqueued": done.signals,
            "round": done.row.round,
        }
    )


@blueprint.post("/instances/<instance_id>/fork")
@operation(
    "Start an instance that goes on where another one was, as a dry run unless it says otherwise",
    body=ForkBody,
    answers={201: ForkedSchema},
    errors=(404, 409),
    headers=("X-Actor",),
)
def fork(instance_id: str) -> Response:
    """What came before the block is copied, not called; the other instance stays as it is."""
    wanted, body = requests.path_id(instance_id), requests.body(_FORK)
    dry_run = body.get("dry_run", True)
    here = surface()
    with here.office.begin() as tx:
        made = fork_instance(
            here.office,
            tx,
            wanted,
            _wish(body, body["from_block_id"]),
            requests.because(body.get("reason"), body.get("actor")),
            dry_run=dry_run,
            tenant_id=caller().tenant,
        )
    for lane in made.lanes:
        here.announce(lane)
    shown = {
        "id": made.id,
        "forked_from": wanted,
        "state": _GOES_ON,
        "copied_blocks": len(made.cut.before),
        "rerun_blocks": list(made.cut.after),
        "dry_run": dry_run,
    }
    return answer(shown, 201, {"Location": f"/instances/{made.id}"})


def _wish(body: dict[str, Any], block_id: str) -> Wish:
    actor = requests.actor(body.get("actor"))
    signals = [
        SignalRequest(
            control=control,
            name=name,
            payload=each.get("payload"),
            actor=actor,
            reason=body.get("reason"),
            request_id=requests.request_id(),
        )
        for each in body.get("signals", ())
        for control, name in [each["signal_type"]]
    ]
    return Wish(
        block_id=block_id,
        data=body.get("context"),
        signals=tuple(signals),
        acknowledged=body.get("acknowledge_side_effect_risk", False),
    )
