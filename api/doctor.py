"""The routes of the doctor: why an instance is where it is, and what to do about it."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, Response

from api import requests
from api.answers import answer
from api.auth import caller
from api.operations import Many, operation
from api.schemas.doctor import AppliedSchema, ApplyBody, DiagnosisSchema, RemediationSchema
from api.surface import surface
from orch8.runtime import remedies
from orch8.runtime.diagnosis import diagnose
from orch8.runtime.finding import remedy_json
from orch8.runtime.remedies import Preview

blueprint: Final = Blueprint("doctor", __name__)

_APPLY = ApplyBody()


@blueprint.get("/instances/<instance_id>/diagnosis")
@operation("Tell why an instance is where it is", answers={200: DiagnosisSchema}, errors=(404,))
def diagnosis(instance_id: str) -> Response:
    """From what is stored about it; nothing is changed."""
    wanted = requests.path_id(instance_id)
    with surface().office.begin() as tx:
        found = diagnose(tx, wanted, tenant_id=caller().tenant)
    return answer(
        {
            "instance_id": wanted,
            "state": found.instance.state,
            "diagnoses": [each.to_json() for each in found.findings],
            "generated_at": found.generated_at,
        }
    )


@blueprint.get("/instances/<instance_id>/remediations")
@operation(
    "List what can be done about the diagnosis of an instance",
    answers={200: Many(RemediationSchema)},
    errors=(404,),
)
def previews(instance_id: str) -> Response:
    """A preview holds as long as what it is about does."""
    wanted = requests.path_id(instance_id)
    with surface().office.begin() as tx:
        found = diagnose(tx, wanted, tenant_id=caller().tenant)
    return answer([_preview(each) for each in remedies.previews(found)])


@blueprint.post("/instances/<instance_id>/remediations/apply")
@operation(
    "Carry out a remediation that was previewed",
    body=ApplyBody,
    answers={200: AppliedSchema},
    errors=(404, 409),
    headers=("X-Actor",),
)
def apply(instance_id: str) -> Response:
    """It does what the routes retry and signals do, if its preview still holds."""
    wanted, body = requests.path_id(instance_id), requests.body(_APPLY)
    here = surface()
    with here.office.begin() as tx:
        done = remedies.apply(
            here.office,
            tx,
            wanted,
            body["preview_id"],
            requests.because(body.get("reason")),
            tenant_id=caller().tenant,
            acknowledged=body.get("acknowledge_side_effect_risk", False),
        )
    here.announce(done.lane)
    return answer(
        {
            "preview_id": done.preview.id,
            "finding_code": done.preview.code,
            "action": done.preview.remedy.action.value,
            "before_state": done.before,
            "after_state": done.after,
            "applied_at": done.applied_at,
        }
    )


def _preview(preview: Preview) -> dict[str, Any]:
    return {
        "preview_id": preview.id,
        "finding_code": preview.code,
        "remediation_index": preview.number,
        "expected_state": preview.expected_state,
        **remedy_json(preview.remedy),
    }
