"""From JSON to a Sequence: bounds, header, outline, blocks, remarks; every problem at once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final
from zoneinfo import available_timezones

from orch8.blocks.due import zone_named
from orch8.blocks.schema import read
from orch8.blocks.step import Step
from orch8.definition.bounds import check_json
from orch8.definition.build import Building
from orch8.definition.findings import Findings, closest, placed
from orch8.definition.header import header_schema, is_contract
from orch8.definition.json_schema import JsonSchema, compile_schema
from orch8.definition.lint import lint
from orch8.definition.outline import Node, Outline, check_members, outline
from orch8.definition.sequence import Form, Limits, Sequence
from orch8.engine.block import Index
from orch8.errors import Problem, Unprocessable

DEFAULT_LIMITS: Final = Limits()
# What may differ between two publications of the same definition.
_NOT_IDENTITY: Final = {
    "seed": frozenset({"version"}),
    "contract": frozenset({"version", "id", "created_at", "status", "deprecated"}),
}


def load(body: Any, *, lenient: bool = False, limits: Limits = DEFAULT_LIMITS) -> Sequence:
    """The sequence that a parsed JSON document defines; ``body`` is kept and must not change.

    ``lenient`` turns unknown members of the seed's form into warnings. Raises DefinitionRejected,
    or Unprocessable if any problem is one of shape, with every problem in ``errors``.
    """
    unreadable = check_json(body)
    if unreadable is None and not isinstance(body, dict):
        hint = 'such as {"id": "payment_dunning", "blocks": [...]}'
        unreadable = Problem("", "a sequence must be an object", hint, shape=True)
    if unreadable is not None:
        raise Unprocessable(unreadable.message, errors=[unreadable])
    findings = Findings(is_contract(body), lenient, limits.problems)
    header, schema = _header(body, findings)
    found = outline(body.get("blocks"), findings, limits)
    building = Building(found, findings)
    root = building.run()
    if findings.problems:
        findings.refuse()
    lint(found, findings)
    canonical = _canonical(body, found)
    form: Form = "contract" if findings.contract else "seed"
    return Sequence(
        name=header["name"] if findings.contract else header["id"],
        form=form,
        dialect=building.dialect,
        index=Index(root),
        body=body,
        canonical=canonical,
        sha256=_digest({k: v for k, v in canonical.items() if k not in _NOT_IDENTITY[form]}),
        id=header["id"] if findings.contract else None,
        namespace=header.get("namespace", "default"),
        tenant=header.get("tenant_id") if findings.contract else header.get("tenant"),
        version=header.get("version"),
        timezone=header.get("timezone", "UTC"),
        input_schema=schema,
        output_schemas=building.output_schemas,
        references=building.references,
        handlers=frozenset(_handlers(found)),
        warnings=findings.sorted_warnings(),
    )


def _header(
    body: Mapping[str, Any], findings: Findings
) -> tuple[dict[str, Any], JsonSchema | None]:
    schema = header_schema(contract=findings.contract)
    values, problems = read(schema, body)
    for each in problems:
        findings.problem(each)
    check_members(schema, body, "", "", findings)
    _check_zone(values.get("timezone"), findings)
    given = values.get("input_schema")
    if given is None:
        return values, None
    compiled, faults = compile_schema(given)
    for each in placed(faults, "/input_schema"):
        findings.problem(each)
    return values, compiled


def _check_zone(name: str | None, findings: Findings) -> None:
    if name is None or zone_named(name) is not None:
        return
    if "{{" in name:
        hint = "today: write one zone, such as Europe/Berlin"
        message = "a timezone from the context is not supported yet"
        findings.problem(Problem("/timezone", message, hint, "not_yet"))
        return
    meant = closest(name, available_timezones())
    hint = f"did you mean {meant}?" if meant else "write an IANA name such as Europe/Berlin"
    message = f"there is no time zone {name[:60]!r}"
    findings.problem(Problem("/timezone", message, hint))


def _handlers(found: Outline) -> set[str]:
    steps = [node.block for node in found.nodes if isinstance(node.block, Step)]
    breaches = {each.on_deadline_breach.handler for each in steps if each.on_deadline_breach}
    return {each.handler for each in steps} | breaches


def _canonical(body: Mapping[str, Any], found: Outline) -> dict[str, Any]:
    """The body with every block in its long form, which is made from the inside out."""
    forms: dict[Node, dict[str, Any]] = {}
    for node in reversed(found.nodes):
        inside: dict[str, list[dict[str, Any]]] = {}
        for slot, below in node.chains:
            inside[slot.name] = [forms[child] for child in below]
        raw = {**node.given_members, "type": node.schema.type}
        form = node.schema.canonical(raw, inside)
        forms[node] = {"type": form["type"], "id": node.given} | form | {"id": node.given}
    given = {name: value for name, value in body.items() if value is not None}
    return {**given, "blocks": [forms[node] for node in found.top]}


def _digest(canonical: Mapping[str, Any]) -> bytes:
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return sha256(text.encode()).digest()
