"""What the template debugger, preflight and dataflow take and give."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.base import Anything, Body, Choice, Object, Query, Shown, Text, described
from orch8.definition.dataflow import Code
from orch8.engine.expressions import Dialect
from orch8.runtime.explain import Status
from orch8.runtime.preflight import LEVELS


class TemplateBody(Body):
    """A template, and what its expressions see."""

    template = described(
        Anything(required=True), "Any JSON with {{ }} in its texts", "{{context.data.name}}"
    )
    context_data = described(Anything(), "What context.data is", {"name": "Ada"})
    context_config = described(Anything(), "What context.config is")
    outputs = described(Object(), "What blocks have put out, by their ids")
    form = described(
        Choice(*(each.value for each in Dialect)),
        "Whose rules hold: the contract's, or those of sequences in the seed's form",
    )


class AtBlockQuery(Query):
    """From where to look."""

    at_block = described(Text(), "As if the parameters stood at this block, in its last iteration")


class EntrySchema(Shown):
    """One expression of a template."""

    param_path = fields.String(
        required=True, metadata={"description": "_ if the template is one text"}
    )
    expression = fields.String(required=True)
    status = fields.Enum(Status, by_value=True, required=True)
    value = fields.Raw(required=True, allow_none=True)
    result_type = fields.String(required=True)
    source = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "The path that gave the value, or literal"},
    )
    fallback_used = fields.Boolean(required=True)
    coerced_to_string = fields.Boolean(required=True)
    error = fields.String()


class ExplanationSchema(Shown):
    """What a template comes to. Secrets are [REDACTED]."""

    result = fields.Raw(allow_none=True)
    result_type = fields.String()
    entries = fields.List(fields.Nested(EntrySchema), required=True)
    error = fields.String(metadata={"description": "Why it comes to nothing"})


class ResolvedSchema(ExplanationSchema):
    """What the parameters of a block come to in an instance. Secrets are [REDACTED]."""

    instance_id = fields.UUID(required=True)
    block_id = fields.String(required=True)
    block_type = fields.String(required=True)
    node_key = fields.String(required=True, metadata={"description": "Where they were rendered"})


class ReadingSchema(Shown):
    """One expression as it is written."""

    param_path = fields.String(required=True)
    expression = fields.String(required=True)
    reads = fields.List(fields.String(), required=True)
    filters = fields.List(fields.String(), required=True)
    error = fields.String(metadata={"description": "What is wrong with it"})


class InspectionSchema(Shown):
    """What a template may read; nothing was evaluated."""

    valid = fields.Boolean(required=True)
    expressions = fields.List(fields.Nested(ReadingSchema), required=True)


class SignSchema(Shown):
    """A piece of evidence."""

    label = fields.String(required=True)
    summary = fields.String(required=True)
    data = fields.Raw()
    observed_at = fields.AwareDateTime()


class RemedySchema(Shown):
    """What can be done about it."""

    summary = fields.String(required=True)
    side_effect_risk = fields.Boolean(required=True)
    action = fields.String(required=True)
    command = fields.String()


class FindingSchema(Shown):
    """One thing that was found out."""

    category = fields.String(required=True)
    health = fields.String(required=True)
    code = fields.String(required=True)
    severity = fields.String(required=True)
    summary = fields.String(required=True)
    evidence = fields.List(fields.Nested(SignSchema))
    affected_resource = fields.String()
    remediation = fields.List(fields.Nested(RemedySchema))
    confidence = fields.String(required=True)
    observed_at = fields.AwareDateTime(required=True)


class CheckSchema(Shown):
    """One question about a definition, and its answer."""

    id = fields.String(required=True)
    status = fields.String(required=True, metadata={"enum": list(LEVELS)})
    summary = fields.String(required=True)
    findings = fields.List(fields.Nested(FindingSchema))


class PreflightSchema(Shown):
    """Whether a definition could run here and now; overall is the worst of the checks."""

    sequence_name = fields.String(required=True)
    sequence_version = fields.Integer(required=True)
    overall = fields.String(required=True, metadata={"enum": list(LEVELS)})
    checks = fields.List(fields.Nested(CheckSchema), required=True)
    generated_at = fields.AwareDateTime(required=True)


class ReferenceSchema(Shown):
    """What is odd about a reference."""

    code = fields.Enum(Code, by_value=True, required=True)
    severity = fields.String(required=True)
    consumer = fields.String(required=True, metadata={"description": "The block that reads"})
    reference = fields.String(required=True)
    summary = fields.String(required=True)


class DataflowReportSchema(Shown):
    """The references of a definition, held to the schemas that it states."""

    findings = fields.List(fields.Nested(ReferenceSchema), required=True)
    references_checked = fields.Integer(required=True)


class GeneratedSchema(Shown):
    """What is made of the schemas."""

    generator_version = fields.String(required=True)
    sequence_sha256 = fields.String(required=True)
    schema = fields.Dict(
        required=True, metadata={"description": "Of the input, and of outputs by block"}
    )


class DataflowSchema(Shown):
    """The dataflow of a definition."""

    report = fields.Nested(DataflowReportSchema, required=True)
    generated = fields.Nested(GeneratedSchema, required=True)
