"""What loading a definition gives: an immutable Sequence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from orch8.blocks.step import Step
from orch8.definition.json_schema import JsonSchema
from orch8.engine.block import Index
from orch8.engine.expressions import Dialect, Template
from orch8.errors import Problem

Form = Literal["seed", "contract"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a definition may be, and how many of its problems are listed."""

    depth: int = 64  # blocks inside blocks
    blocks: int = 5000
    problems: int = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Unique:
    """At most one open instance of a tenant has a business key; with ``lasting`` one for ever.

    ``parts`` renders to the values of the expressions inside the key, which ``written`` spells:
    a part that is missing would make one key out of many.
    """

    key: Template
    parts: Template
    written: tuple[str, ...]
    lasting: bool = False
    returns_existing: bool = False


@dataclass(frozen=True, kw_only=True)
class Sequence:
    """A definition that has been understood. Block ids are spelled as node keys spell them.

    ``references`` gives for each block the blocks whose outputs its own params and conditions
    read; ``output_schemas`` the compiled ``output_schema`` of each step that has one.
    ``canonical`` is the body in its long form with every id written out; ``sha256`` is its digest
    without what differs between two publications of the same thing (version, id of a version,
    created_at, status).
    """

    name: str
    form: Form
    dialect: Dialect
    index: Index
    body: Mapping[str, Any]
    canonical: Mapping[str, Any]
    sha256: bytes
    id: str | None = None  # the uuid of this version, if the client chose it
    namespace: str = "default"
    tenant: str | None = None
    version: int | None = None
    timezone: str = "UTC"
    zone: Template | None = None  # what renders to the timezone, if each instance has its own
    input_schema: JsonSchema | None = None
    unique: Unique | None = None
    correlation: Mapping[str, Template] = field(default_factory=dict)
    output_schemas: Mapping[str, JsonSchema] = field(default_factory=dict)
    references: Mapping[str, frozenset[str]] = field(default_factory=dict)
    interceptors: Mapping[str, Any] = field(default_factory=dict)  # what each leaves, as it stands
    hooks: Mapping[str, tuple[Step, ...]] = field(default_factory=dict)  # on_failure, on_cancel
    roots: frozenset[str] = frozenset()  # the names that any of its expressions begins with
    handlers: frozenset[str] = frozenset()
    warnings: tuple[Problem, ...] = ()
