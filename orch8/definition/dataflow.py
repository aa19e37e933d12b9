"""Typed dataflow: every reference of a definition is held to the schema of what it reads.

Nothing is evaluated. A reference leads into the output of a step (its ``output_schema``) or into
the data (the ``input_schema``); where there is no schema, its type is not known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from orch8.definition.sequence import Sequence
from orch8.definition.written import Text, texts_of, written
from orch8.engine.expressions import (
    Dialect,
    Path,
    find_expressions,
    paths_of_condition,
    paths_of_template,
)
from orch8.engine.keys import escape_id
from orch8.errors import ExpressionError

MOST_FINDINGS: Final = 1000
_MOST_REFERENCES: Final = 16  # of schemas to one another that are followed
_ANYTHING: Final[Mapping[str, Any]] = {}


class Code(StrEnum):
    """What may be wrong with a reference."""

    MISSING_PRODUCER = "MISSING_PRODUCER"
    SCHEMA_PATH_MISSING = "SCHEMA_PATH_MISSING"
    TYPE_UNKNOWN = "TYPE_UNKNOWN"
    VALUE_MAY_BE_ABSENT = "VALUE_MAY_BE_ABSENT"
    VALUE_MAY_BE_NULL = "VALUE_MAY_BE_NULL"


SEVERITY: Final[Mapping[Code, str]] = {
    Code.MISSING_PRODUCER: "error",
    Code.SCHEMA_PATH_MISSING: "error",
    Code.TYPE_UNKNOWN: "info",
    Code.VALUE_MAY_BE_ABSENT: "warning",
    Code.VALUE_MAY_BE_NULL: "warning",
}
# Members that orch8 lays over every output: expressions may always read them.
_OWN_MEMBERS: Final = frozenset({"outcome", "started_at", "finished_at"})


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """What is odd about one reference of one block."""

    consumer: str
    code: Code
    reference: str
    summary: str

    @property
    def severity(self) -> str:
        """How bad it is: error, warning or info."""
        return SEVERITY[self.code]


@dataclass(frozen=True, slots=True)
class Dataflow:
    """What is odd, in order, each once, and how many references were looked at."""

    findings: tuple[Finding, ...]
    references_checked: int


def dataflow(sequence: Sequence) -> Dataflow:
    """Every reference of an accepted sequence, held to the schemas that it states."""
    found = written(sequence)
    ids = {escape_id(each) for each in found.ids}
    checked, findings = 0, set[Finding]()
    for node in found.nodes:
        paths = {path for text in texts_of(node, found) for path in _paths(text, sequence.dialect)}
        for path in sorted(paths):
            if path[0] not in ("outputs", "data") or len(path) == 1:
                continue
            if path[0] == "data" and path[1] in node.variables:
                continue
            checked += 1
            consumer = node.given or node.id
            findings |= {
                Finding(consumer, code, ".".join(path), summary)
                for code, summary in _check(path, sequence, ids)
            }
    return Dataflow(tuple(sorted(findings)[:MOST_FINDINGS]), checked)


def _paths(text: Text, dialect: Dialect) -> list[Path]:
    try:
        if text.condition:
            return paths_of_condition(text.text, dialect)
        codes = (code for _, code in find_expressions(text.text))
        return [path for code in codes for path in paths_of_template(code, dialect)]
    except ExpressionError:  # the linter tells of it
        return []


def _check(path: Path, sequence: Sequence, ids: set[str]) -> Iterator[tuple[Code, str]]:
    segments, what = path[1:], "the data"
    schema = sequence.input_schema
    if path[0] == "outputs":
        block_id, segments = escape_id(path[1]), path[2:]
        if block_id not in ids:
            yield Code.MISSING_PRODUCER, f"no block is called {path[1]!r}"
            return
        if segments[:1] and segments[0] in _OWN_MEMBERS:
            return
        what, schema = f"the output of {path[1]!r}", sequence.output_schemas.get(block_id)
    if schema is None:
        if segments:
            yield Code.TYPE_UNKNOWN, f"no schema says what {what} holds"
        return
    yield from _walk(schema.source, segments, what)


def _walk(root: Mapping[str, Any], segments: Path, what: str) -> Iterator[tuple[Code, str]]:
    here, absent = _resolved(root, root), False
    for place, name in enumerate(segments):
        so_far = ".".join(segments[: place + 1])
        following, known, required = _below(here, name)
        if not known:
            if _closed(here):
                yield Code.SCHEMA_PATH_MISSING, f"{what} has no {so_far!r} by its schema"
            else:
                yield Code.TYPE_UNKNOWN, f"the schema of {what} does not tell of {so_far!r}"
            return
        absent = absent or not required
        here = _resolved(root, following)
    if absent:
        yield Code.VALUE_MAY_BE_ABSENT, f"{'.'.join(segments)!r} is not required in {what}"
    if "null" in _types(here):
        yield Code.VALUE_MAY_BE_NULL, f"{'.'.join(segments) or what!r} may be null in {what}"


def _below(schema: Mapping[str, Any], name: str) -> tuple[Mapping[str, Any], bool, bool]:
    """The schema of a member or element, whether it is known, and whether it is always there."""
    properties = schema.get("properties")
    if isinstance(properties, dict) and name in properties:
        required = schema.get("required")
        return _object(properties[name]), True, isinstance(required, list) and name in required
    if name.isdecimal() and isinstance(schema.get("items"), dict):
        least = schema.get("minItems", 0)
        return schema["items"], True, isinstance(least, int) and int(name) < least
    more = schema.get("additionalProperties")
    if isinstance(more, dict):
        return more, True, False
    return _ANYTHING, False, False


def _closed(schema: Mapping[str, Any]) -> bool:
    """Whether there can be no other members than the schema tells of."""
    kinds = _types(schema)
    scalar = bool(kinds) and not kinds & {"object", "array"}
    stated = isinstance(schema.get("properties"), dict) and not schema.get("patternProperties")
    return scalar or (stated and schema.get("additionalProperties") is not True)


def _types(schema: Mapping[str, Any]) -> set[str]:
    given = schema.get("type")
    if isinstance(given, list):
        return {each for each in given if isinstance(each, str)}
    return {given} if isinstance(given, str) else set()


def _resolved(root: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema behind references into the schema itself."""
    for _ in range(_MOST_REFERENCES):
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#"):
            return schema
        found: Any = root
        for part in reference.removeprefix("#").split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            found = found.get(name) if isinstance(found, dict) else None
        schema = _object(found)
    return _ANYTHING


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else _ANYTHING
