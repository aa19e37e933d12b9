"""The routes that look at a definition before it runs: preflight, and the flow of its data."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, Response

from api import requests
from api.answers import answer
from api.auth import caller
from api.operations import operation
from api.schemas.debugger import DataflowSchema, PreflightSchema
from api.schemas.sequences import DefinitionSchema
from api.surface import surface
from orch8.definition import Sequence, load
from orch8.definition.dataflow import Dataflow, dataflow
from orch8.runtime import preflight, registry
from orch8.runtime.preflight import Report

blueprint: Final = Blueprint("preflight", __name__)

GENERATOR: Final = "1"


@blueprint.post("/sequences/preflight")
@operation(
    "Check whether a draft could run here and now",
    body=DefinitionSchema,
    answers={200: PreflightSchema},
)
def preflight_draft() -> Response:
    """Nothing is published. A draft that would be refused fails its checks."""
    body = requests.json_body()
    office = surface().office
    with office.begin() as tx:
        report = preflight.preflight(office, tx, body, tenant_id=caller().tenant_or_default())
    return answer(_report(report))


@blueprint.get("/sequences/<sequence_id>/preflight")
@operation(
    "Check whether a published version could run here and now",
    answers={200: PreflightSchema},
    errors=(404,),
)
def preflight_version(sequence_id: str) -> Response:
    """As a draft, with the workers and credentials that there are now."""
    wanted = requests.path_id(sequence_id)
    office = surface().office
    with office.begin() as tx:
        found = registry.found(office, tx, wanted, tenant_id=caller().tenant)
        report = preflight.of_sequence(
            office, tx, found.sequence, tenant_id=found.tenant_id, version=found.version
        )
    return answer(_report(report))


@blueprint.post("/sequences/dataflow")
@operation(
    "Hold the references of a draft to its schemas",
    body=DefinitionSchema,
    answers={200: DataflowSchema},
)
def dataflow_of_draft() -> Response:
    """Nothing is published. A draft that would be refused is refused here."""
    sequence = load(requests.json_body())
    return answer(_dataflow(sequence, dataflow(sequence)))


@blueprint.get("/sequences/<sequence_id>/dataflow")
@operation(
    "Hold the references of a published version to its schemas",
    answers={200: DataflowSchema},
    errors=(404,),
)
def dataflow_of_version(sequence_id: str) -> Response:
    """The report of the definition as it was published."""
    wanted = requests.path_id(sequence_id)
    office = surface().office
    with office.begin() as tx:
        sequence = registry.found(office, tx, wanted, tenant_id=caller().tenant).sequence
    return answer(_dataflow(sequence, dataflow(sequence)))


def _report(report: Report) -> dict[str, Any]:
    checks = []
    for each in report.checks:
        shown: dict[str, Any] = {"id": each.id, "status": each.status, "summary": each.summary}
        if each.findings:
            shown["findings"] = [finding.to_json() for finding in each.findings]
        checks.append(shown)
    return {
        "sequence_name": report.name,
        "sequence_version": report.version,
        "overall": report.overall,
        "checks": checks,
        "generated_at": report.generated_at,
    }


def _dataflow(sequence: Sequence, found: Dataflow) -> dict[str, Any]:
    findings = [
        {
            "code": each.code.value,
            "severity": each.severity,
            "consumer": each.consumer,
            "reference": each.reference,
            "summary": each.summary,
        }
        for each in found.findings
    ]
    outputs = {name: schema.source for name, schema in sequence.output_schemas.items()}
    given = sequence.input_schema
    return {
        "report": {"findings": findings, "references_checked": found.references_checked},
        "generated": {
            "generator_version": GENERATOR,
            "sequence_sha256": sequence.sha256.hex(),
            "schema": {"input": None if given is None else given.source, "outputs": outputs},
        },
    }
