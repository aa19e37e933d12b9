"""JSON Schemas inside definitions: compiled once, they fetch nothing and never raise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import validator_for
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from orch8.blocks.fields import escape
from orch8.errors import Problem

if TYPE_CHECKING:
    from referencing._core import Resolver

MAX_DEPTH: Final = 32
_MOST_ERRORS: Final = 50
_LONGEST_MESSAGE: Final = 300


class JsonSchema:
    """A compiled JSON Schema (2020-12 unless ``$schema`` says otherwise)."""

    def __init__(self, validator: Any, source: Mapping[str, Any]) -> None:
        self._validator, self.source = validator, source

    def iter_errors(self, value: Any) -> Iterator[ValidationError]:
        """What is wrong with ``value``, the first 50 of it; nothing if it is as the schema says."""
        try:
            errors = list(islice(self._validator.iter_errors(value), _MOST_ERRORS))
        except RecursionError:
            errors = [ValidationError("it cannot be checked: value or schema are nested too deep")]
        return iter(errors)


def compile_schema(given: Any) -> tuple[JsonSchema | None, list[Problem]]:
    """The schema that a definition contains, or what is wrong with it (pointers relative to it)."""
    if not isinstance(given, dict):
        return None, [
            Problem("", "a JSON Schema must be an object", 'such as {"required": ["id"]}')
        ]
    if not isinstance(given.get("$schema", ""), str):
        return None, [Problem("/$schema", "$schema must be a string")]
    dialect: Any = validator_for(given, default=Draft202012Validator)
    faults = _walk(given)
    if faults:
        return None, faults
    try:
        dialect.check_schema(given, format_checker=dialect.FORMAT_CHECKER)
    except SchemaError as error:
        pointer = "".join(f"/{escape(str(part))}" for part in error.absolute_path)
        return None, [Problem(pointer, f"no JSON Schema: {error.message[:_LONGEST_MESSAGE]}")]
    except RecursionError:
        return None, [Problem("", "the JSON Schema is nested too deep")]
    # An empty registry refuses to fetch what a $ref names.
    return JsonSchema(dialect(given, registry=Registry()), given), []


def _walk(schema: dict[str, Any]) -> list[Problem]:
    """Nesting and references: what the meta-schema does not look at."""
    found: list[Problem] = []
    resolver: Resolver[Any] | None = None
    pending: list[tuple[Any, str, int]] = [(schema, "", 0)]
    while pending:
        value, pointer, depth = pending.pop()
        if depth > MAX_DEPTH:
            return [Problem(pointer, f"the JSON Schema is nested more than {MAX_DEPTH} deep")]
        if isinstance(value, dict):
            reference = value.get("$ref")
            if isinstance(reference, str):
                resolver = resolver or _resolver(schema)
            if resolver and isinstance(reference, str) and not _resolves(resolver, reference):
                hint = 'only references into the schema itself work: "#/$defs/address"'
                found.append(Problem(f"{pointer}/$ref", f"{reference[:80]!r} leads nowhere", hint))
            pending.extend((v, f"{pointer}/{escape(k)}", depth + 1) for k, v in value.items())
        elif isinstance(value, list):
            pending.extend((v, f"{pointer}/{i}", depth + 1) for i, v in enumerate(value))
    return found


def _resolver(schema: dict[str, Any]) -> Resolver[Any]:
    resource = Resource.from_contents(schema, default_specification=DRAFT202012)
    resolver: Resolver[Any] = Registry().with_resource("", resource).resolver()
    return resolver


def _resolves(resolver: Resolver[Any], reference: str) -> bool:
    try:
        resolver.lookup(reference)
    except (Unresolvable, ValueError, LookupError, TypeError):
        return False
    return True
