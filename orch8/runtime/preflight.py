"""preflight: whether a definition could run here and now, as a list of checks. Reads only.

The checks ask what publishing and running ask: the loader, the linter, the routes of handlers, the
library, the vault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from orch8.blocks.references import SCHEME
from orch8.blocks.step import Step
from orch8.blocks.sub_sequence import SubSequence
from orch8.definition import Sequence, load
from orch8.definition.dataflow import dataflow
from orch8.definition.texts import texts
from orch8.definition.written import written
from orch8.errors import DefinitionRejected, Problem
from orch8.handlers.registry import MISSING
from orch8.runtime.finding import Category, Confidence, Finding, Health, Severity
from orch8.runtime.office import Office
from orch8.runtime.routes import Kind
from orch8.storage import credentials, fleet, instances
from orch8.storage.transaction import Tx

PASS, WARNING, UNKNOWN, FAIL = LEVELS = ("pass", "warning", "unknown", "fail")
ALIVE_SECONDS: Final = 120.0  # how long ago a live pull worker may have polled
MOST_FINDINGS: Final = 100
_PLUGINS: Final = ("ap://", "wasm://", "grpc://")
_NOT_LOOKED_AT: Final = "not looked at: the definition is not valid"


@dataclass(frozen=True, slots=True)
class Check:
    """One question about the definition, and its answer."""

    id: str
    status: str
    summary: str
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """Every check; the worst of their answers is the report's."""

    name: str
    version: int
    checks: tuple[Check, ...]
    generated_at: datetime

    @property
    def overall(self) -> str:
        """The worst of the checks."""
        return max((each.status for each in self.checks), key=LEVELS.index, default=PASS)


@dataclass(frozen=True, slots=True)
class _Here:
    """What the checks look at."""

    office: Office
    tx: Tx
    sequence: Sequence
    tenant_id: str
    now: datetime


def preflight(office: Office, tx: Tx, body: Any, *, tenant_id: str) -> Report:
    """The report of a draft, for the tenant. Raises Unprocessable if it has not the shape of a
    definition at all.
    """
    now = instances.now(tx).at
    try:
        sequence = load(body)
    except DefinitionRejected as refused:
        name, version = str(body.get("name") or body.get("id") or ""), body.get("version")
        checks = _refused(refused.errors, now)
        return Report(name, version if isinstance(version, int) else 0, checks, now)
    return of_sequence(office, tx, sequence, tenant_id=sequence.tenant or tenant_id)


def of_sequence(
    office: Office, tx: Tx, sequence: Sequence, *, tenant_id: str, version: int | None = None
) -> Report:
    """The report of a definition that is valid."""
    here = _Here(office, tx, sequence, tenant_id, instances.now(tx).at)
    checks = (
        Check("definition_valid", PASS, "the definition can be published"),
        Check("input_schema_valid", PASS, "the input schema is one, or there is none"),
        Check("output_schemas_valid", PASS, "every output schema is one"),
        _guards(here),
        *(check(here) for check in _CHECKS),
    )
    return Report(sequence.name, version or sequence.version or 0, checks, here.now)


# -- a definition that is refused ----------------------------------------------------------------
def _refused(problems: Iterable[Problem], now: datetime) -> tuple[Check, ...]:
    groups: dict[str, list[Finding]] = {}
    for each in problems:
        found = _problem(each, "DEFINITION_PROBLEM", Severity.ERROR, now)
        groups.setdefault(_check_of(each.pointer), []).append(found)
    about = {
        "definition_valid": "the definition would be refused",
        "input_schema_valid": "the input schema is none",
        "output_schemas_valid": "an output schema is none",
        "when_guards_valid": "a guard cannot be read",
    }
    first = tuple(
        Check(name, FAIL, summary, tuple(groups[name][:MOST_FINDINGS]))
        if name in groups
        else Check(name, PASS, "nothing is wrong here")
        for name, summary in about.items()
    )
    if "definition_valid" not in groups:
        first = (Check("definition_valid", FAIL, about["definition_valid"]), *first[1:])
    rest = tuple(Check(name, UNKNOWN, _NOT_LOOKED_AT) for name in _NAMES)
    return first + rest


def _check_of(pointer: str) -> str:
    if pointer.startswith("/input_schema"):
        return "input_schema_valid"
    if "/output_schema" in pointer:
        return "output_schemas_valid"
    return "when_guards_valid" if pointer.endswith("/when") else "definition_valid"


def _problem(problem: Problem, code: str, severity: Severity, now: datetime) -> Finding:
    hint = f"; {problem.hint}" if problem.hint else ""
    return Finding(
        category=Category.DIRECT, code=code, severity=severity, observed_at=now,
        summary=f"{problem.message}{hint}", affected=problem.pointer or None,
        health=Health.INCONSISTENT if severity is Severity.ERROR else Health.EXPECTED,
    )  # fmt: skip


# -- a definition that is accepted ---------------------------------------------------------------
def _guards(here: _Here) -> Check:
    wrong = [
        _problem(each, "GUARD_UNREADABLE", Severity.ERROR, here.now)
        for each in here.sequence.warnings
        if each.code == "expression" and each.pointer.endswith("/when")
    ]
    if wrong:
        return Check("when_guards_valid", FAIL, "a guard fails its block", tuple(wrong))
    return Check("when_guards_valid", PASS, "every guard can be read")


def _workers(here: _Here) -> Check:
    alive = fleet.live_pull_workers(here.tx, here.tenant_id, ALIVE_SECONDS)
    polled = {handler for worker in alive for handler in worker.handlers}
    wanted = {
        handler
        for handler in here.sequence.handlers - {""}
        if here.office.routes.find(here.tenant_id, handler).kind is Kind.PULL
        and not handler.startswith(_PLUGINS)
    }
    missing = [
        _missing(here, "NO_COMPATIBLE_WORKER", f"no live worker polls for handler {each!r}", each)
        for each in sorted(wanted - polled)
    ] + [
        _missing(here, "HANDLER_MISSING", f"{each!r} is not part of orch8", each)
        for each in sorted(here.sequence.handlers & MISSING.keys())
        if here.office.routes.find(here.tenant_id, each).kind is Kind.PURE
    ]
    good = "every handler is built in, has an address, or a worker that polls for it"
    return _check("handlers_have_workers", missing, WARNING, good)


def _sub_sequences(here: _Here) -> Check:
    missing = []
    for block in here.sequence.index.values():
        if not isinstance(block, SubSequence):
            continue
        name, version = block.sequence_name, block.version
        space = here.sequence.namespace
        if here.office.library.named(here.tx, here.tenant_id, space, name, version) is None:
            what = f"{name!r}" if version is None else f"{name!r} version {version}"
            text = f"sequence {what} is not published"
            missing.append(_missing(here, "SUB_SEQUENCE_MISSING", text, name))
    return _check("sub_sequences_available", missing, FAIL, "every sub-sequence is published")


def _credentials(here: _Here) -> Check:
    named = {
        text.removeprefix(SCHEME).partition("/")[0]
        for node in written(here.sequence).nodes
        if node.schema.type == "step"
        for _, text in texts(node.raw.get("params"))
        if text.startswith(SCHEME)
    }
    missing = []
    for each in sorted(name for name in named if "{{" not in name):
        row = credentials.read(here.tx, each, here.tenant_id)
        if row is None or not row.enabled:
            what = "does not exist" if row is None else "is disabled"
            text = f"credential {each!r} {what}"
            missing.append(_missing(here, "CREDENTIAL_MISSING", text, each))
    return _check("credentials_present", missing, FAIL, "every credential that is named is there")


def _queues(here: _Here) -> Check:
    alive = fleet.live_pull_workers(here.tx, here.tenant_id, ALIVE_SECONDS)
    # Who polls for a handler takes its tasks from every queue.
    polled = {handler for worker in alive for handler in worker.handlers}
    missing = [
        _missing(
            here, "QUEUE_NOT_POLLED", f"nobody takes from queue {block.queue_name!r}", block.id
        )
        for block in here.sequence.index.values()
        if isinstance(block, Step)
        and block.queue_name is not None
        and block.handler not in polled
        and here.office.routes.find(here.tenant_id, block.handler).kind is Kind.PULL
    ]
    return _check("queues_consumable", missing, WARNING, "every queue has a worker")


def _plugins(here: _Here) -> Check:
    missing = [
        _missing(here, "PLUGIN_UNSUPPORTED", f"orch8 runs no plugins: {each!r}", each)
        for each in sorted(here.sequence.handlers)
        if each.startswith(_PLUGINS)
    ]
    return _check("plugins_enabled", missing, FAIL, "no handler is a plugin")


def _lint(here: _Here) -> Check:
    remarks = [
        _problem(each, f"LINT_{each.code.upper().replace('.', '_')}", Severity.WARNING, here.now)
        for each in here.sequence.warnings
    ]
    return _check("lint_clean", remarks, WARNING, "nothing looks wrong")


def _dataflow(here: _Here) -> Check:
    report = dataflow(here.sequence)
    severities = {"error": Severity.ERROR, "warning": Severity.WARNING}
    found = [
        Finding(
            category=Category.DIRECT, code=each.code.value, affected=each.consumer,
            severity=severities[each.severity], observed_at=here.now,
            summary=f"{each.reference}: {each.summary}",
        )
        for each in report.findings
        if each.severity in severities
    ]  # fmt: skip
    worst = FAIL if any(each.severity is Severity.ERROR for each in found) else WARNING
    good = f"{report.references_checked} references fit the schemas that there are"
    return _check("typed_dataflow_compatible", found, worst, good)


def _missing(here: _Here, code: str, summary: str, affected: str) -> Finding:
    return Finding(
        category=Category.DIRECT, code=code, summary=summary, affected=affected,
        health=Health.DEGRADED, severity=Severity.ERROR, confidence=Confidence.HIGH,
        observed_at=here.now,
    )  # fmt: skip


def _check(name: str, found: list[Finding], worst: str, good: str) -> Check:
    if not found:
        return Check(name, PASS, good)
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return Check(name, worst, found[0].summary + more, tuple(found[:MOST_FINDINGS]))


_CHECKS: Final[tuple[Callable[[_Here], Check], ...]] = (
    _workers, _sub_sequences, _credentials, _queues, _plugins, _lint, _dataflow,
)  # fmt: skip
_NAMES: Final = (
    "handlers_have_workers", "sub_sequences_available", "credentials_present",
    "queues_consumable", "plugins_enabled", "lint_clean", "typed_dataflow_compatible",
)  # fmt: skip
