"""What the diagnosis of an instance and its remediations take and give."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.base import Body, Flag, Shown, Text, described
from api.schemas.debugger import FindingSchema, RemedySchema


class ApplyBody(Body):
    """Which remediation to carry out."""

    preview_id = described(Text(required=True, longest=500), "As a preview of now has it")
    acknowledge_side_effect_risk = Flag()
    reason = Text(longest=2000)


class DiagnosisSchema(Shown):
    """Why an instance is where it is, the closest and surest first."""

    instance_id = fields.UUID(required=True)
    state = fields.String(required=True)
    diagnoses = fields.List(fields.Nested(FindingSchema), required=True)
    generated_at = fields.AwareDateTime(required=True)


class RemediationSchema(RemedySchema):
    """A remediation, as it would be carried out."""

    preview_id = fields.String(required=True)
    finding_code = fields.String(required=True)
    remediation_index = fields.Integer(required=True)
    expected_state = fields.String(required=True)


class AppliedSchema(Shown):
    """What was done."""

    preview_id = fields.String(required=True)
    finding_code = fields.String(required=True)
    action = fields.String(required=True)
    before_state = fields.String(required=True)
    after_state = fields.String(required=True)
    applied_at = fields.AwareDateTime(required=True)
