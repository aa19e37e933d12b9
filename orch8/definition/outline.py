"""The blocks of a definition as a flat list in document order, each read and named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from marshmallow import Schema

from orch8.blocks import SCHEMAS
from orch8.blocks.due import ShortOrLong
from orch8.blocks.fields import Known, Many, Part
from orch8.blocks.interrupt import InterruptSchema
from orch8.blocks.schema import LONGEST_ID, BlockSchema, Slot, read
from orch8.definition.findings import Findings, closest, placed
from orch8.definition.sequence import Limits
from orch8.engine.block import Block
from orch8.engine.keys import escape_id
from orch8.errors import Problem

_ROOM_FOR_A_NUMBER: Final = len("_5000")
_EMPTY: Final[tuple[Any, ...]] = (None, False, "", [], {})
_INTERRUPT: Final = InterruptSchema()


@dataclass(eq=False)
class Node:
    """One block of the document on its way to becoming a Block."""

    pointer: str
    raw: Mapping[str, Any]
    schema: BlockSchema
    values: Mapping[str, Any]
    problems: list[Problem]  # of reading it, relative to the block
    variables: frozenset[str]  # what enclosing loops let it read
    given: str | None = None  # its id as it stands in the document, or as it was named
    number: int | None = None  # of an interrupt, which has no id
    chains: list[tuple[Slot, list[Node]]] = field(default_factory=list)
    block: Block | None = None

    @property
    def given_members(self) -> dict[str, Any]:
        """The members that are not null."""
        return {name: value for name, value in self.raw.items() if value is not None}

    @property
    def id(self) -> str:
        """The id as node keys spell it; no block can have that of an interrupt."""
        return escape_id(self.given or "") if self.number is None else f"interrupt@{self.number}"

    @property
    def owner(self) -> str:
        """How messages begin."""
        if self.number is not None:
            return f'interrupt "{str(self.raw.get("signal"))[:LONGEST_ID]}": '
        return f'block "{(self.given or "")[:LONGEST_ID]}": '


@dataclass
class Outline:
    """The nodes of the main chain and of the interrupts, all nodes from the outside in, the main
    chain's first, and every id that a block has.
    """

    top: list[Node] = field(default_factory=list)
    interrupts: list[Node] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    ids: dict[str, str] = field(default_factory=dict)  # id -> pointer


def outline(
    blocks: Any, interrupts: Any, findings: Findings, limits: Limits, where: str = "/blocks"
) -> Outline:
    """The outline of a list of blocks, of which it says ``where`` it stands, and of interrupts;
    what is wrong with any of them is in ``findings``.
    """
    found = Outline()
    pending: list[tuple[str, Any, int, frozenset[str], list[Node], str | None]] = [
        (pointer, raw, depth, frozenset[str](), siblings, None)
        for slot, depth, siblings in (
            (Slot("", "/interrupts", interrupts), 0, found.interrupts),
            (Slot("", where, blocks), 1, found.top),
        )
        for pointer, raw in reversed(list(slot.children()))
    ]
    seen = 0
    while pending:
        pointer, raw, depth, variables, siblings, lent = pending.pop()
        seen += 1
        if seen > limits.blocks:
            hint = "move a part into a sub_sequence"
            message = f"there are more than {limits.blocks} blocks"
            findings.problem(Problem(where, message, hint, "too_large"))
            break
        if depth > limits.depth:
            hint = "move the inner blocks into a sub_sequence"
            message = f"blocks are nested more than {limits.depth} deep"
            findings.problem(Problem(pointer, message, hint, "too_large"))
            continue
        node = (
            _read(pointer, raw, variables, lent, findings, found)
            if depth
            else _interrupt(pointer, raw)
        )
        if node is None:
            continue
        siblings.append(node)
        found.nodes.append(node)
        inner = variables | node.schema.variables(node.values)
        following = []
        for slot in node.schema.slots(node.raw):
            below: list[Node] = []
            node.chains.append((slot, below))
            lends = _lends(slot, pointer, findings, found)
            following += [
                (pointer + at, child, depth + 1, inner, below, lends)
                for at, child in slot.children()
            ]
        pending.extend(reversed(following))
    _name(found)
    for node in found.nodes:
        _report(node, findings)
    return found


def _read(
    pointer: str,
    raw: Any,
    variables: frozenset[str],
    lent: str | None,
    findings: Findings,
    found: Outline,
) -> Node | None:
    if not isinstance(raw, dict):
        hint = 'such as {"type": "step", "handler": "charge"}'
        findings.problem(Problem(pointer, "a block must be an object", hint, shape=True))
        return None
    given = raw.get("id") if raw.get("id") is not None else lent
    given = given if isinstance(given, str) and given.strip() else None
    if given is not None:
        _give(given, f"{pointer}/id", findings, found)
    schema = _schema(pointer, raw, f'block "{given}": ' if given else "", findings)
    if schema is None:
        return None
    values, problems = read(schema, raw)
    if findings.contract and raw.get("id") is None:
        problems.append(Problem("/id", "id is required", shape=True))
    if schema.later:
        problems.append(_not_yet("/type", f"the block type {schema.type}", schema.later))
    return Node(pointer, raw, schema, values, problems, variables, given)


def _interrupt(pointer: str, raw: Any) -> Node | None:
    if not isinstance(raw, dict):
        return None  # the header says so
    values, problems = read(_INTERRUPT, raw)
    number, variables = int(pointer.rpartition("/")[2]), _INTERRUPT.variables(values)
    return Node(pointer, raw, _INTERRUPT, values, problems, variables, number=number)


def _lends(slot: Slot, pointer: str, findings: Findings, found: Outline) -> str | None:
    """The id that the only block of a slot takes, unless it has its own."""
    if not isinstance(slot.lends, str) or not slot.lends.strip():
        return None
    children = [child for _, child in slot.children()]
    if len(children) == 1 and isinstance(children[0], dict) and children[0].get("id") is None:
        return slot.lends
    _give(slot.lends, f"{pointer}{slot.pointer.rpartition('/')[0]}/id", findings, found)
    return None


def _report(node: Node, findings: Findings) -> None:
    for each in placed(node.problems, node.pointer, node.owner):
        findings.problem(each)
    check_members(node.schema, node.raw, node.pointer, node.owner, findings)


def check_members(
    schema: Schema, raw: Mapping[str, Any], pointer: str, owner: str, findings: Findings
) -> None:
    """Every member of ``raw`` that nobody reads, or only a later version, is noted."""
    known = {f.data_key or name: f for name, f in schema.fields.items()}
    for name, value in raw.items():
        member = known.get(name)
        if member is None:
            findings.unknown_member(pointer, name, known, owner)
            continue
        at = f"{pointer}/{name}"
        if member.metadata.get("later") and value not in _EMPTY:
            findings.problem(_not_yet(at, f"{owner}{name}", member.metadata["later"]))
        if isinstance(member, Known) and isinstance(value, dict):
            for unknown in value.keys() - member.names:
                findings.unknown_member(at, unknown, member.names, owner)
        for below, part, inner in _parts(member, value):
            check_members(part.schema, inner, at + below, owner, findings)


def _parts(member: Any, value: Any) -> Iterator[tuple[str, Part, Mapping[str, Any]]]:
    if isinstance(member, ShortOrLong) and not member.is_long(value):
        return
    if isinstance(member, Part) and isinstance(value, dict):
        yield "", member, value
    elif isinstance(member, Many) and isinstance(member.inner, Part) and isinstance(value, list):
        yield from ((f"/{i}", member.inner, e) for i, e in enumerate(value) if isinstance(e, dict))


def _schema(
    pointer: str, raw: Mapping[str, Any], owner: str, findings: Findings
) -> BlockSchema | None:
    kind = raw.get("type")
    schema = SCHEMAS.get(kind) if isinstance(kind, str) else None
    if schema is not None:
        return schema
    if kind is None:
        message, hint = "type is required", 'such as "step"'
    elif isinstance(kind, str):
        meant = closest(kind, SCHEMAS)
        message = f"there is no block type {kind[:60]!r}"
        hint = f"did you mean {meant}?" if meant else f"use one of {', '.join(_usable())}"
    else:
        message, hint = "type must be a string", 'such as "step"'
    findings.problem(Problem(f"{pointer}/type", owner + message, hint, "unknown_type", shape=True))
    return None


def _usable() -> list[str]:
    return sorted(name for name, schema in SCHEMAS.items() if not schema.later)


def _not_yet(pointer: str, what: str, instead: str) -> Problem:
    return Problem(pointer, f"{what} is not supported yet", f"today: {instead}", "not_yet")


def _give(given: str, pointer: str, findings: Findings, found: Outline) -> None:
    if given in found.ids:
        message = f'block "{given[:60]}": the id is taken by {found.ids[given]}'
        findings.problem(Problem(pointer, message, "give each block its own", "duplicate_id"))
    found.ids.setdefault(given, pointer)


def _name(found: Outline) -> None:
    """Every block without an id is called by what it does, a repeat _2, _3 in document order."""
    last: dict[str, int] = {}
    for node in found.nodes:
        if node.given is not None or node.number is not None:
            continue
        base = node.schema.name(node.values)[: LONGEST_ID - _ROOM_FOR_A_NUMBER]
        number = last.get(base, 0) + 1
        name = base if number == 1 else f"{base}_{number}"
        while name in found.ids:
            number += 1
            name = f"{base}_{number}"
        last[base], node.given = number, name
        found.ids[name] = node.pointer
