"""Outlined blocks become Blocks, innermost first, with their expressions compiled."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any, Final

from orch8.blocks import guard, wait, wait_signal
from orch8.blocks.interrupt import Interrupt, rooted
from orch8.blocks.schema import Draft
from orch8.definition.findings import Findings, closest
from orch8.definition.guards import check_guards
from orch8.definition.interrupts import check_interrupts
from orch8.definition.json_schema import JsonSchema, compile_schema
from orch8.definition.outline import Node, Outline
from orch8.definition.texts import texts
from orch8.engine.block import Block, Chain
from orch8.engine.expressions import (
    Condition,
    Dialect,
    Template,
    compile_condition,
    compile_template,
)
from orch8.engine.keys import escape_id
from orch8.errors import ExpressionError, Problem

ROOTS: Final = frozenset(
    {
        "context", "outputs", "steps", "input", "data", "config", "runtime", "state",
        "instance_id", "instance", "now", "iteration", "decline", "last_decline", "signal",
        "trigger", "event",
    }
)  # fmt: skip
# Roots that the features of later versions bring.
LATER_ROOTS: Final = frozenset({"vars", "batch", "period", "tenant"})
# Roots that are part of the language, but that nothing provides a value for today.
_UNFILLED: Final = frozenset({"signal", "trigger", "event"})
_PARAMS: Final[dict[str, Callable[[Draft], None]]] = {
    "guard": guard.check_params,
    "wait": wait.check_params,
    "wait_signal": wait_signal.check_params,
}


class Building:
    """The outcome of building: schemas and references by block id."""

    def __init__(self, found: Outline, findings: Findings) -> None:
        self.found, self.findings = found, findings
        self.dialect = Dialect.CONTRACT if findings.contract else Dialect.SEED
        self.references: dict[str, frozenset[str]] = {}
        self.output_schemas: dict[str, JsonSchema] = {}
        self.roots: set[str] = set()  # the names that any of its expressions begins with

    def run(self, sla: Mapping[str, Any] | None = None) -> Block:
        """Every node has its block; the block that a run of all of them is, within its ``sla``."""
        self.build()
        check_interrupts(self.found, self.findings)
        check_guards(self.found, self.findings)
        main = Chain(id="@main", blocks=_blocks(self.found.top))
        interrupts = [node.block for node in self.found.interrupts]
        return rooted(main, [each for each in interrupts if isinstance(each, Interrupt)], sla)

    def build(self) -> None:
        """Every node has its block."""
        for node in reversed(self.found.nodes):
            self._build(node)

    def _build(self, node: Node) -> None:
        draft = NodeDraft(node, self)
        draft.when = draft.condition(node.values.get("when"), "/when", strict=True)
        node.block = node.schema.build(draft)
        if node.schema.type == "step":
            check = _PARAMS.get(node.values.get("handler", ""))
            if check is not None:
                check(draft)
            self._output_schema(draft)
        self.references[node.id] = frozenset(draft.reads)

    def _output_schema(self, draft: NodeDraft) -> None:
        given = draft.values.get("output_schema")
        if isinstance(given, str):
            hint = "write the schema itself here"
            message = "output_schema by name is not supported yet"
            draft.problem("/output_schema", message, hint, code="not_yet")
        elif given is not None:
            schema, problems = compile_schema(given)
            for each in problems:
                draft.problem(f"/output_schema{each.pointer}", each.message, each.hint)
            if schema is not None:
                self.output_schemas[draft.id] = schema


class NodeDraft:
    """The Draft of one node: compiles its expressions and keeps which outputs they read."""

    def __init__(self, node: Node, building: Building) -> None:
        self._node, self._building, self._findings = node, building, building.findings
        self.id, self.values = node.id, node.values
        self.raw: Mapping[str, Any] = node.given_members
        self._faulted = {each.pointer for each in node.problems}
        self.contract = building.findings.contract
        self.when: Condition | None = None
        self.reads: set[str] = set()
        self._chains = {
            slot.name: Chain(id=f"@{node.id}.{slot.name}", blocks=_blocks(below))
            for slot, below in node.chains
        }

    @property
    def roots(self) -> Container[str]:
        """What expressions of this block may begin with."""
        return ROOTS | LATER_ROOTS | self._node.variables

    def chain(self, slot: str) -> Chain:
        """The blocks of a slot; an empty chain where there are none."""
        return self._chains.get(slot) or Chain(id=f"@{self.id}.{slot}")

    def condition(
        self, source: str | None, pointer: str, *, strict: bool = False
    ) -> Condition | None:
        """The compiled condition, None if there is none or it is wrong."""
        if source is None:
            return None
        dialect = self._building.dialect
        known = None if self.contract else self.roots
        try:
            compiled = compile_condition(source, dialect, strict=strict, known_roots=known)
        except ExpressionError as error:
            self._faulty(pointer, error)
            return None
        if compiled.problem is not None:
            self._faulty(pointer, compiled.problem)
        self._note(compiled, pointer)
        return compiled

    def template(self, value: Any, pointer: str) -> Template | None:
        """The compiled template, None if there is none or it is wrong."""
        if value is None:
            return None
        dialect = self._building.dialect
        try:
            compiled = compile_template(value, dialect, self.roots)
        except ExpressionError as error:
            if isinstance(value, str):
                self._faulty(pointer, error)
            else:  # it names the first mistake only: look at each text by itself
                for at, text in texts(value):
                    self.template(text, pointer + at)
            return None
        for each in compiled.problems:
            self._faulty(pointer + each.extra.get("pointer", ""), each)
        if self._suspicious(compiled) and not isinstance(value, str):
            for at, text in texts(value):
                self.template(text, pointer + at)
        else:
            self._note(compiled, pointer)
        self.reads |= self._known_outputs(compiled)
        return compiled

    def problem(
        self,
        pointer: str,
        message: str,
        hint: str = "",
        *,
        code: str = "invalid",
        shape: bool = False,
    ) -> None:
        """The definition is refused for this, unless the place is known to be wrong already."""
        if pointer in self._faulted:
            return
        owner, at = self._node.owner, self._node.pointer + pointer
        self._findings.problem(Problem(at, owner + message, hint, code, shape))

    def warn(self, pointer: str, message: str, hint: str = "", *, code: str = "lint") -> None:
        """The definition is accepted with this remark."""
        owner, at = self._node.owner, self._node.pointer + pointer
        self._findings.warn(Problem(at, owner + message, hint, code))

    def _faulty(self, pointer: str, error: ExpressionError) -> None:
        hint = str(error.extra.get("hint", ""))
        message = error.detail.removesuffix(f" ({hint})")
        if self.contract:
            self.warn(pointer, message, hint, code="expression")
        else:
            self.problem(pointer, message, hint, code="expression")

    def _known_outputs(self, compiled: Condition | Template) -> set[str]:
        return {escape_id(each) for each in compiled.outputs if each in self._building.found.ids}

    def _suspicious(self, compiled: Condition | Template) -> bool:
        ids = self._building.found.ids
        return any(each not in ids for each in compiled.outputs) or not compiled.roots.isdisjoint(
            LATER_ROOTS | _UNFILLED
        )

    def _note(self, compiled: Condition | Template, pointer: str) -> None:
        """Keep what it reads; say what of it nobody provides."""
        self._building.roots |= compiled.roots
        self.reads |= self._known_outputs(compiled)
        ids = self._building.found.ids
        for name in sorted(compiled.outputs):
            if name not in ids:
                self._no_such_block(pointer, name, ids)
        for root in sorted(compiled.roots - self._node.variables):
            if root in LATER_ROOTS and not self.contract:
                hint = "today: keep it in the output of a step"
                self.problem(pointer, f"{root} is not supported yet", hint, code="not_yet")
            elif root == "signal":
                hint = "the blocks of an interrupt read it, others what a wait_signal put out"
                self.warn(pointer, "nothing provides signal here", hint, code="not_yet")
            elif root in _UNFILLED:
                hint = "an expression that reads it fails its step"
                self.warn(pointer, f"nothing provides {root} yet", hint, code="not_yet")

    def _no_such_block(self, pointer: str, name: str, ids: Mapping[str, str]) -> None:
        message = f"outputs.{name[:60]} names no block"
        meant = closest(name, ids)
        hint = f"did you mean outputs.{meant}?" if meant else "write the id of a block"
        if self.contract:
            self.warn(pointer, message, hint, code="unknown_block")
        else:
            self.problem(pointer, message, hint, code="unknown_block")


def _blocks(nodes: list[Node]) -> tuple[Block, ...]:
    return tuple(node.block for node in nodes if node.block is not None)
