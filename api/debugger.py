"""The routes of the template debugger: what templates come to, and why."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, Response

from api import requests
from api.answers import answer
from api.auth import caller
from api.operations import operation
from api.schemas.debugger import (
    AtBlockQuery,
    ExplanationSchema,
    InspectionSchema,
    ResolvedSchema,
    TemplateBody,
)
from api.surface import surface
from orch8.engine.expressions import Dialect
from orch8.runtime import explain, resolved
from orch8.runtime.explain import Entry, Explanation, Reading, World
from orch8.runtime.hide import hide
from orch8.storage import instances

blueprint: Final = Blueprint("debugger", __name__)

_TEMPLATE, _AT = TemplateBody(), AtBlockQuery()


@blueprint.post("/debug/template")
@operation(
    "Render a template, and tell of each of its expressions where its value comes from",
    body=TemplateBody,
    answers={200: ExplanationSchema},
)
def debug() -> Response:
    """Nothing is kept; secrets are hidden before anything is evaluated."""
    body = requests.body(_TEMPLATE)
    with surface().office.begin() as tx:
        moment = instances.now(tx).at
    outputs = {name: hide(value) for name, value in body.get("outputs", {}).items()}
    world = World(hide(body.get("context_data")), hide(body.get("context_config")), outputs, moment)
    found = explain.explain(body.get("template"), _dialect(body), explain.rendered_in(world))
    return answer(_explanation(found))


@blueprint.post("/sequences/inspect-template")
@operation(
    "Tell what the expressions of a template read, without evaluating them",
    body=TemplateBody,
    answers={200: InspectionSchema},
)
def inspect() -> Response:
    """Only the template and its form are looked at."""
    body = requests.body(_TEMPLATE)
    found = explain.inspect(body.get("template"), _dialect(body))
    valid = all(each.error is None for each in found)
    return answer({"valid": valid, "expressions": [_reading(each) for each in found]})


@blueprint.get("/instances/<instance_id>/blocks/<block>/resolved-input")
@operation(
    "Show what the parameters of a block come to in an instance now",
    query=AtBlockQuery,
    answers={200: ResolvedSchema},
    errors=(404,),
)
def resolved_input(instance_id: str, block: str) -> Response:
    """In the block's last iteration; references to credentials stay references."""
    wanted, asked = requests.path_id(instance_id), requests.query(_AT)
    office = surface().office
    with office.begin() as tx:
        found = resolved.resolved_input(
            office, tx, wanted, block, tenant_id=caller().tenant, at_block=asked.get("at_block")
        )
    told = {
        "instance_id": wanted,
        "block_id": block,
        "block_type": found.block_type,
        "node_key": found.node_key,
    }
    return answer({**told, **_explanation(found.explanation)})


def _dialect(body: dict[str, Any]) -> Dialect:
    return Dialect(body.get("form", Dialect.CONTRACT.value))


def _explanation(found: Explanation) -> dict[str, Any]:
    shown: dict[str, Any] = {"entries": [_entry(each) for each in found.entries]}
    if found.error is not None:
        return {**shown, "error": found.error}
    return {**shown, "result": found.result, "result_type": explain.type_of(found.result)}


def _entry(entry: Entry) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "param_path": entry.param_path,
        "expression": entry.expression,
        "status": entry.status.value,
        "value": entry.value,
        "result_type": explain.type_of(entry.value),
        "source": entry.source,
        "fallback_used": entry.fallback_used,
        "coerced_to_string": entry.coerced_to_string,
    }
    return shown if entry.error is None else {**shown, "error": entry.error}


def _reading(reading: Reading) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "param_path": reading.param_path,
        "expression": reading.expression,
        "reads": list(reading.reads),
        "filters": list(reading.filters),
    }
    return shown if reading.error is None else {**shown, "error": reading.error}
