"""From JSON to a Sequence: bounds, header, outline, blocks, remarks; every problem at once."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from hashlib import sha256
from typing import Any, Final
from zoneinfo import available_timezones

from orch8.blocks.local import zone_named
from orch8.blocks.schema import read
from orch8.blocks.step import Step
from orch8.definition.bounds import check_json
from orch8.definition.build import Building
from orch8.definition.findings import Findings, closest, placed
from orch8.definition.header import header_schema, is_contract
from orch8.definition.hooks import hooks
from orch8.definition.identity import identity, known_at_start
from orch8.definition.json_schema import JsonSchema, compile_schema
from orch8.definition.lint import lint
from orch8.definition.money_lint import money_lint
from orch8.definition.outline import Node, Outline, check_members, outline
from orch8.definition.sequence import Form, Limits, Sequence
from orch8.engine.block import Index
from orch8.engine.expressions import Dialect, Template
from orch8.errors import Problem, Unprocessable

DEFAULT_LIMITS: Final = Limits()
# What may differ between two publications of the same definition.
_NOT_IDENTITY: Final = {
    "seed": frozenset({"version"}),
    "contract": frozenset({"version", "id", "created_at", "status", "deprecated"}),
}


def load(
    body: Any,
    *,
    lenient: bool = False,
    strict: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    stated: Collection[str] = (),
) -> Sequence:
    """The sequence that a parsed JSON document defines; ``body`` is kept and must not change.

    ``lenient`` turns unknown members of the seed's form into warnings, ``strict`` remarks about
    money and missing rate limits into problems; keys in ``stated`` have a limit elsewhere. Raises
    DefinitionRejected, or Unprocessable if any problem is one of shape or of strictness, with every
    problem in ``errors``.
    """
    unreadable = check_json(body)
    if unreadable is None and not isinstance(body, dict):
        hint = 'such as {"id": "payment_dunning", "blocks": [...]}'
        unreadable = Problem("", "a sequence must be an object", hint, shape=True)
    if unreadable is not None:
        raise Unprocessable(unreadable.message, errors=[unreadable])
    findings = Findings(is_contract(body), lenient, limits.problems, strict)
    header, schema = _header(body, findings)
    found = outline(body.get("blocks"), body.get("interrupts"), findings, limits)
    building = Building(found, findings)
    root = building.run(header.get("sla"))
    afterwards = hooks(body, building, limits)
    _check_sla(header.get("sla"), findings)
    zone = _zone(header.get("timezone"), building.dialect, findings)
    unique, correlation = identity(header, building.dialect, findings)
    if findings.problems:
        findings.refuse()
    money_lint(found, findings, body, building.references)
    lint(found, findings, stated)
    if findings.problems:  # remarks that a strict publisher wants to hear as problems
        findings.refuse()
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
        zone=zone,
        input_schema=schema,
        unique=unique,
        correlation=correlation,
        output_schemas=building.output_schemas,
        references=building.references,
        interceptors=_interceptors(header.get("interceptors"), findings),
        hooks=afterwards,
        roots=frozenset(building.roots),
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
    given = values.get("input_schema")
    if given is None:
        return values, None
    compiled, faults = compile_schema(given)
    for each in placed(faults, "/input_schema"):
        findings.problem(each)
    return values, compiled


def _check_sla(sla: Mapping[str, Any] | None, findings: Findings) -> None:
    if (
        sla is None
        or findings.contract
        or not sla.keys().isdisjoint(("max_duration", "max_runtime", "max_step_runtime"))
    ):
        return
    message, hint = "max_duration is required", 'such as {"days": 45}'
    findings.problem(Problem("/sla/max_duration", message, hint, shape=True))


def _interceptors(given: Mapping[str, Any] | None, findings: Findings) -> dict[str, Any]:
    """What each interceptor leaves, as it stands."""
    actions = {name: action for name, action in (given or {}).items() if action is not None}
    for name, action in actions.items():
        remark = f"{action['handler'][:60]!r} is not called: its params stand among the outputs"
        pointer, hint = f"/interceptors/{name}/handler", "write a step if it must be called"
        findings.warn(Problem(pointer, remark, hint, "not_executed"))
    return {name: action.get("params") for name, action in actions.items()}


def _zone(name: str | None, dialect: Dialect, findings: Findings) -> Template | None:
    """The template of a zone that each instance has from its context; None of one that is named."""
    if name is None or zone_named(name) is not None:
        return None
    if "{{" in name:
        return known_at_start(name, "/timezone", "timezone", dialect, findings)
    meant = closest(name, available_timezones())
    hint = f"did you mean {meant}?" if meant else "write an IANA name such as Europe/Berlin"
    message = f"there is no time zone {name[:60]!r}"
    findings.problem(Problem("/timezone", message, hint))
    return None


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
        if node.number is not None:
            forms[node] = {name: form[name] for name in node.given_members}
            continue
        forms[node] = {"type": form["type"], "id": node.given} | form | {"id": node.given}
    given = {name: value for name, value in body.items() if value is not None}
    if found.interrupts:
        given["interrupts"] = [forms[node] for node in found.interrupts]
    return {**given, "blocks": [forms[node] for node in found.top]}


def _digest(canonical: Mapping[str, Any]) -> bytes:
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return sha256(text.encode()).digest()
