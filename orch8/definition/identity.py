"""By what an instance is known besides its id: its business key and its correlations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from orch8.blocks.fields import Choice, Text, escape
from orch8.blocks.schema import Base
from orch8.definition.build import LATER_ROOTS, ROOTS
from orch8.definition.findings import Findings
from orch8.definition.sequence import Unique
from orch8.engine.expressions import Dialect, Template, compile_template, find_expressions
from orch8.errors import ExpressionError, Problem

MAX_CORRELATIONS: Final = 16
LONGEST_NAME: Final = 64
ALWAYS: Final = "always"
RETURN_EXISTING: Final = "return_existing"
# What is known when an instance starts.
_READABLE: Final = frozenset({"context", "data", "config", "input"})
_CHANCE: Final = re.compile(r"\b(?:uuid|random)\s*\(")
_CONTEXT_ONLY: Final = "read the context: context, data, config or input"


class UniqueSchema(Base):
    """``{"key": "dunning:{{context.data.invoice_id}}", "while": "running", ...}``."""

    key = Text(required=True, blank=False, longest=1000)
    while_ = Choice("running", ALWAYS, data_key="while")
    on_conflict = Choice(RETURN_EXISTING, "fail")


def identity(
    header: Mapping[str, Any], dialect: Dialect, findings: Findings
) -> tuple[Unique | None, dict[str, Template]]:
    """The business key and the correlations that a header asks for; what is wrong with them is in
    ``findings``.
    """
    return (
        _unique(header.get("unique") or {}, dialect, findings),
        _correlation(header.get("correlation") or {}, dialect, findings),
    )


def _unique(given: Mapping[str, Any], dialect: Dialect, findings: Findings) -> Unique | None:
    source = given.get("key")
    if source is None:
        return None
    key = known_at_start(source, "/unique/key", "unique.key", dialect, findings)
    if key is None:
        return None
    written = tuple(code.strip() for _, code in find_expressions(source))
    if any(_CHANCE.search(code) for code in written):
        message = "unique.key is made of chance, so no two would be the same"
        findings.problem(Problem("/unique/key", message, _CONTEXT_ONLY))
    return Unique(
        key=key,
        parts=compile_template([f"{{{{{code}}}}}" for code in written], dialect),
        written=written,
        lasting=given.get("while_") == ALWAYS,
        returns_existing=given.get("on_conflict") == RETURN_EXISTING,
    )


def _correlation(
    given: Mapping[str, Any], dialect: Dialect, findings: Findings
) -> dict[str, Template]:
    if len(given) > MAX_CORRELATIONS:
        message = f"correlation must not have more than {MAX_CORRELATIONS} names"
        findings.problem(Problem("/correlation", message, "keep those that messages come with"))
        return {}
    found = {}
    for name, source in given.items():
        at, what = f"/correlation/{escape(name)}", f"correlation.{name[:LONGEST_NAME]}"
        if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
            message = (
                f"the name of a correlation must have 1 to {LONGEST_NAME} printable characters"
            )
            findings.problem(Problem(at, message, 'such as "invoice_id"'))
        elif not isinstance(source, str):
            hint = f'such as "{{{{context.data.{name}}}}}"'
            findings.problem(Problem(at, f"{what} must be a string", hint, shape=True))
        else:
            compiled = known_at_start(source, at, what, dialect, findings)
            if compiled is not None:
                found[name] = compiled
    return found


def known_at_start(
    source: str, pointer: str, what: str, dialect: Dialect, findings: Findings
) -> Template | None:
    """The template of a text that may read the context only; None, with the reason in
    ``findings``, if it is none.
    """
    try:
        compiled = compile_template(source, dialect, ROOTS | LATER_ROOTS)
        faults = compiled.problems
    except ExpressionError as problem:
        compiled, faults = None, (problem,)
    for each in faults:
        hint = str(each.extra.get("hint", ""))
        message = f"{what}: {each.detail.removesuffix(f' ({hint})')}"
        findings.problem(Problem(pointer, message, hint, "expression"))
    if compiled is None or faults:
        return None
    unknown = sorted(compiled.roots - _READABLE) + sorted(f"outputs.{o}" for o in compiled.outputs)
    if unknown:
        message = f"{what} reads {unknown[0][:60]}, which is not known when an instance starts"
        findings.problem(Problem(pointer, message, _CONTEXT_ONLY, "not_yet"))
        return None
    return compiled
