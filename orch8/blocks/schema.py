"""The shared schema of the block types: how a block's JSON looks and becomes a Block."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from marshmallow import EXCLUDE, Schema, ValidationError

from orch8.blocks.fields import Blocks, Text, flatten
from orch8.engine.block import Block, Chain
from orch8.errors import Problem

if TYPE_CHECKING:
    from orch8.engine.expressions import Condition, Template

LONGEST_ID = 200
BlockType = type[Block]  # inside BlockSchema, `type` is its own member


class Slot(NamedTuple):
    """A place in a block where blocks stand: its name, its pointer and the JSON that is there."""

    name: str
    pointer: str
    json: Any
    lends: Any = None  # the id that a lone block without one takes
    single: bool = False  # whether an object stands for a list of one

    def children(self) -> Iterator[tuple[str, Any]]:
        """Each block here with its pointer."""
        if isinstance(self.json, list):
            yield from ((f"{self.pointer}/{i}", each) for i, each in enumerate(self.json))
        elif self.single and isinstance(self.json, dict):
            yield self.pointer, self.json


class Draft(Protocol):
    """A block on its way from JSON: what its ``build`` may read and ask for.

    Pointers are relative to the block. What is wrong is noted, never raised, so that every problem
    of a definition is found at once; what is built from a wrong draft is thrown away.
    """

    id: str
    when: Condition | None
    raw: Mapping[str, Any]  # the members that are not null, as they were written
    values: Mapping[str, Any]  # the well-formed ones among them
    contract: bool  # the form of existing clients, which is held to their looser rules

    @property
    def roots(self) -> Container[str]:
        """The names that expressions of this block may begin with."""

    def chain(self, slot: str) -> Chain: ...

    def condition(
        self, source: str | None, pointer: str, *, strict: bool = False
    ) -> Condition | None: ...

    def template(self, value: Any, pointer: str) -> Template | None: ...

    def problem(
        self,
        pointer: str,
        message: str,
        hint: str = "",
        *,
        code: str = "invalid",
        shape: bool = False,
    ) -> None: ...

    def warn(self, pointer: str, message: str, hint: str = "", *, code: str = "lint") -> None: ...


class Base(Schema):
    """A schema that leaves unknown members to the caller, who knows how strict to be."""

    class Meta:  # noqa: D106 - marshmallow's place for options
        unknown = EXCLUDE


class BlockSchema(Base):
    """One block type. ``later`` says why a type that is known cannot be used yet."""

    type: ClassVar[str]
    block: ClassVar[BlockType | None] = None
    aliases: ClassVar[tuple[str, ...]] = ()
    later: ClassVar[str] = ""

    type_ = Text(data_key="type", required=True)
    id = Text(blank=False, printable=True, longest=LONGEST_ID)
    when = Text()

    def name(self, values: Mapping[str, Any]) -> str:
        """What a block without an id is called."""
        return self.type

    def variables(self, values: Mapping[str, Any]) -> frozenset[str]:
        """The names that blocks inside this one can read beside the roots."""
        return frozenset()

    def slots(self, raw: Mapping[str, Any]) -> Iterator[Slot]:
        """The places where blocks stand, in the order of the document."""
        for name, value in raw.items():
            if isinstance(self.fields.get(name), Blocks) and value is not None:
                yield Slot(name, f"/{name}", value)

    def canonical(
        self, raw: Mapping[str, Any], inside: Mapping[str, list[dict[str, Any]]]
    ) -> dict[str, Any]:
        """A sound block in its one long form; ``inside`` has the canonical blocks of each slot."""
        return {name: inside.get(name, value) for name, value in raw.items()}

    def build(self, draft: Draft) -> Block:
        """The block that the draft describes."""
        return Chain(id=draft.id)


def branch_slots(raw: Mapping[str, Any]) -> Iterator[Slot]:
    """A slot for each list in ``branches``."""
    branches = raw.get("branches")
    for i, branch in enumerate(branches if isinstance(branches, list) else ()):
        yield Slot(str(i), f"/branches/{i}", branch)


def read(schema: Schema, raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """The well-formed members that are not null, and what is wrong with the others."""
    problems: list[Problem] = []
    try:
        loaded = schema.load(raw)
    except ValidationError as error:
        problems = list(flatten(error.messages_dict))
        loaded = error.valid_data
    values = {name: value for name, value in loaded.items() if value is not None}
    return values, problems
