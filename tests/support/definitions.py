"""Definitions to test with: short names for blocks, and hypothesis strategies of nested ones."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, cast
from zlib import crc32

from hypothesis import strategies as st

from orch8.blocks.ab_split import AbSplit
from orch8.blocks.cancellation_scope import CancellationScope
from orch8.blocks.end import End
from orch8.blocks.for_each import ForEach
from orch8.blocks.interrupt import SLA, Interrupt, Root
from orch8.blocks.loop import Loop
from orch8.blocks.parallel import Parallel
from orch8.blocks.race import Race
from orch8.blocks.router import Router
from orch8.blocks.saga import Saga
from orch8.blocks.sub_sequence import SubSequence
from orch8.blocks.try_catch import TryCatch
from orch8.engine.block import Block, Chain, Index, Leaf
from orch8.engine.keys import NodeKey
from orch8.errors import ExpressionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

INSTANCE = "01890a5d-ac96-774b-bcce-b302099a8057"
DURABLE = frozenset({"cancellation_scope", "try_catch", "saga"})
FORGIVING = frozenset({"race", "catch", "continue_on_error"})
LEAVES = frozenset({"task", "sub_sequence"})
KINDS = LEAVES | DURABLE | {"parallel", "race", "loop", "for_each", "router", "ab_split"}


@dataclass(frozen=True, kw_only=True)
class Task(Leaf):
    """A leaf with nothing to it."""

    type: ClassVar[str] = "task"


@dataclass(frozen=True)
class Said:
    """Values whose conditions and collections are words.

    ``true`` and ``false`` are that; ``items:3`` is three items; ``broken`` cannot be evaluated up
    to round ``broken_until``. Any other word is true or false by chance: by node, and by round
    too where ``fickle``, as if the data changed between one retry and the next.
    """

    seed: int = 0
    broken_until: int = 0
    fickle: bool = False
    known: Mapping[str, Any] = field(default_factory=dict)
    instance_id: str = INSTANCE

    def truthy(self, condition: Any, at: NodeKey, error: Mapping[str, Any] | None) -> bool:
        if condition in self.known:
            return bool(self._look_up(condition, at, error))
        if condition == "broken" and at.round <= self.broken_until:
            raise ExpressionError("broken")
        if condition in ("true", "false"):
            return bool(condition == "true")
        return self._chance(condition, at) % 2 == 0

    def render(self, template: Any, at: NodeKey, error: Mapping[str, Any] | None) -> Any:
        if template in self.known:
            return self._look_up(template, at, error)
        if template == "broken":
            if at.round <= self.broken_until:
                raise ExpressionError("broken")
            return [0, 1]
        word, _, size = template.partition(":")
        if word != "items":
            return template
        return list(range(int(size) + (self._chance(template, at) % 3 if self.fickle else 0)))

    def memoized(self, key: NodeKey, output: Any) -> None:
        """Words do not depend on memos."""

    def _look_up(self, word: str, at: NodeKey, error: Mapping[str, Any] | None) -> Any:
        value = self.known[word]
        return value(at, error) if callable(value) else value

    def _chance(self, word: str, at: NodeKey) -> int:
        told = (self.seed, word, at.block_id, at.path, at.round if self.fickle else 0)
        return crc32(repr(told).encode())


# -- short names ------------------------------------------------------------------------------
def task(name: str, **more: Any) -> Task:
    """A leaf."""
    return Task(id=name, **more)


def chain(name: str, *blocks: Block | str) -> Chain:
    """Blocks one after another; a bare name is a leaf."""
    return Chain(id=name, blocks=tuple(task(b) if isinstance(b, str) else b for b in blocks))


def word(text: str | None) -> Any:
    """What stands for a condition or a template in these tests."""
    return text


def index_of(*blocks: Block | str) -> Index:
    """A definition of these blocks, under the root ``@root``."""
    return Index(chain("@root", *blocks))


# -- reading a definition ---------------------------------------------------------------------
def parents(index: Index) -> dict[str, str]:
    """The block whose node is above that of each block, by id: an interrupt has no node."""
    return {
        child.id: index.root.id if isinstance(block, Interrupt) else block.id
        for block in index.values()
        for child in block.chains()
        if not isinstance(child, Interrupt)
    }


def above(index: Index, key: NodeKey) -> Iterator[NodeKey]:
    """The nodes that ``key``'s node stands in, from the nearest to the root."""
    up = parents(index)
    block_id = key.block_id
    while block_id in up:
        block_id = up[block_id]
        yield NodeKey(block_id, key.path[: len(index.loops[block_id])], key.round)


def undo_ids(index: Index) -> frozenset[str]:
    """The chains that are compensations."""
    sagas = (block for block in index.values() if isinstance(block, Saga))
    return frozenset(undo.id for saga in sagas for _, undo in saga.steps if undo is not None)


def finally_ids(index: Index) -> frozenset[str]:
    """The chains that are a ``finally``."""
    tries = (block for block in index.values() if isinstance(block, TryCatch))
    return frozenset(block.finally_.id for block in tries if block.finally_ is not None)


def shielded_ids(index: Index) -> frozenset[str]:
    """The chains that a cancel does not reach, by what their type promises."""
    scopes = (block for block in index.values() if isinstance(block, CancellationScope))
    bodies = {scope.body.id for scope in scopes} | closing_ids(index)
    return undo_ids(index) | finally_ids(index) | bodies


def closing_ids(index: Index) -> frozenset[str]:
    """The chains with which an interrupt ends the run."""
    interrupts = (block for block in index.values() if isinstance(block, Interrupt))
    return frozenset(each.body.id for each in interrupts if each.body and each.closing)


# -- strategies -------------------------------------------------------------------------------
_SIZES = st.sampled_from([1, 2, 3, 2, 3, 2, 3, 0])


class _Builder:
    """Draws one definition. Every block gets a name of its own."""

    def __init__(self, draw: Callable[[Any], Any], kinds: frozenset[str]) -> None:
        self.draw, self.kinds, self.numbers = draw, kinds, count()
        self.leaves = ["task", "task", "sub_sequence"]
        self.composites = sorted(kinds & (KINDS - LEAVES))

    def name(self, prefix: str) -> str:
        return f"{prefix}{next(self.numbers)}"

    def chain(self, depth: int, slot: str = "c", least: int = 0, most: int = 3) -> Chain:
        size = min(most, max(least, self.draw(_SIZES)))
        return Chain(id=self.name(slot), blocks=tuple(self.block(depth) for _ in range(size)))

    def maybe(self, make: Callable[[], Any]) -> Any:
        return make() if self.draw(st.booleans()) else None

    def condition(self) -> Any:
        words = ["true", "a", "b", "c", "false"] + (["broken"] if "broken" in self.kinds else [])
        return self.draw(st.sampled_from(words))

    def block(self, depth: int) -> Block:
        # Enough leaves for definitions to stop growing, and to have something to run.
        choices = self.leaves + (self.composites if depth > 0 else [])
        if "end" in self.kinds and self.draw(st.integers(0, 60)) == 1:
            choices = ["end"]
        return self.of(self.draw(st.sampled_from(choices)), depth)

    def of(self, kind: str, depth: int) -> Block:
        name, when = self.name(kind), self.condition() if self.rarely() else None
        return cast("Block", getattr(self, f"_{kind}")(name, when, depth - 1))

    def root(self, blocks: tuple[Block, ...]) -> Root:
        on_breach: Any = self.draw(st.sampled_from(["alert", "cancel", "fail"]))
        return Root(
            id="@root",
            main=Chain(id="@main", blocks=blocks),
            interrupts=tuple(self.interrupt(n) for n in range(self.draw(st.integers(1, 3)))),
            sla=self.maybe(lambda: Task(id=SLA)),
            on_breach=on_breach,
        )

    def interrupt(self, number: int) -> Interrupt:
        body = self.chain(self.draw(st.sampled_from([0, 0, 1])), f"body{number}_", 1)
        if self.draw(st.booleans()):
            body = replace(body, blocks=(*body.blocks, End(id=self.name("end"), outcome="closed")))
        bare = self.rarely()
        return Interrupt(id=f"@interrupt@{number}", signal="s", body=None if bare else body)

    def rarely(self) -> bool:
        return bool(self.draw(st.integers(0, 7)) == 1)

    def _task(self, name: str, when: Any, _: int) -> Block:
        return Task(id=name, when=when, cancellable=not self.rarely())

    def _sub_sequence(self, name: str, when: Any, _: int) -> Block:
        return SubSequence(id=name, when=when, sequence_name="child")

    def _end(self, name: str, when: Any, _: int) -> Block:
        return End(id=name, when=when, outcome="paid")

    def _parallel(self, name: str, when: Any, depth: int) -> Block:
        fast = "fast" in self.kinds and self.draw(st.booleans())
        branches = tuple(self.chain(depth) for _ in range(self.draw(_SIZES)))
        return Parallel(id=name, when=when, branches=branches, fail="fast" if fast else "all")

    def _race(self, name: str, when: Any, depth: int) -> Block:
        branches = tuple(self.chain(depth) for _ in range(self.draw(_SIZES)))
        first = "resolve" in self.kinds and self.draw(st.booleans())
        semantics: Any = "first_to_resolve" if first else "first_to_succeed"
        return Race(id=name, when=when, branches=branches, semantics=semantics)

    def _loop(self, name: str, when: Any, depth: int) -> Block:
        return Loop(
            id=name,
            when=when,
            body=self.chain(depth, least=1),
            condition=self.maybe(self.condition),
            break_on=self.maybe(self.condition),
            max_iterations=self.draw(st.sampled_from([3, 2, 1, 0])),
            continue_on_error="continue_on_error" in self.kinds and self.draw(st.booleans()),
            pause=self.maybe(lambda: Task(id=self.name("pause"))),
        )

    def _for_each(self, name: str, when: Any, depth: int) -> Block:
        words = [f"items:{n}" for n in (2, 3, 4, 1, 0)] + ["none"]
        words += ["broken"] if "broken" in self.kinds else []
        return ForEach(
            id=name,
            when=when,
            collection=word(self.draw(st.sampled_from(words))),
            body=self.chain(depth, least=1),
            concurrency=self.draw(st.integers(1, 3)) if "concurrent" in self.kinds else 1,
            max_iterations=self.draw(st.sampled_from([3, 1000])),
        )

    def _router(self, name: str, when: Any, depth: int) -> Block:
        size = self.draw(_SIZES)
        routes = tuple((self.condition(), self.chain(depth)) for _ in range(size))
        return Router(
            id=name, when=when, routes=routes, default=self.maybe(lambda: self.chain(depth))
        )

    def _ab_split(self, name: str, when: Any, depth: int) -> Block:
        size = self.draw(st.integers(1, 3))
        variants = tuple(
            (f"v{n}", self.draw(st.integers(0, 3)) + (n == 0), self.chain(depth))
            for n in range(size)
        )
        return AbSplit(id=name, when=when, variants=variants)

    def _cancellation_scope(self, name: str, when: Any, depth: int) -> Block:
        return CancellationScope(id=name, when=when, body=self.chain(depth))

    def _try_catch(self, name: str, when: Any, depth: int) -> Block:
        catch = self.maybe(lambda: self.chain(depth, "catch")) if "catch" in self.kinds else None
        return TryCatch(
            id=name,
            when=when,
            try_=self.chain(depth, "try", 1),
            catch=catch,
            finally_=self.maybe(lambda: self.chain(depth, "finally", 1)),
        )

    def _saga(self, name: str, when: Any, depth: int) -> Block:
        steps = tuple(
            (
                # An action of one leaf is the one that may complete while it is being cancelled.
                self.chain(depth, "action", 1, self.draw(st.sampled_from([1, 1, 3]))),
                None if self.rarely() else self.chain(depth, "undo", 1),
            )
            for _ in range(self.draw(_SIZES))
        )
        return Saga(id=name, when=when, steps=steps)


PLAIN = KINDS - {"race"}
EVERYTHING = KINDS | FORGIVING | {"end", "fast", "resolve", "concurrent", "broken"}
INTERRUPTED = EVERYTHING | {"interrupts"}


@st.composite
def definitions(
    draw: Callable[[Any], Any], kinds: frozenset[str] = EVERYTHING, certain: str | None = None
) -> Index:
    """Nested definitions of ``kinds``, beginning with a block of type ``certain``, if any.

    Kinds are block types, and the options that are named after them (``fast``, ``resolve``,
    ``concurrent``, ``catch``, ``continue_on_error``, ``broken``, ``end``); with ``interrupts``, the
    root has some, and perhaps a clock.
    """
    build = _Builder(draw, kinds)
    size = draw(st.sampled_from([1, 2, 3, 3]))
    blocks = [] if certain is None else [build.of(certain, 1)]
    blocks += [build.block(draw(st.sampled_from([1, 2, 2, 3, 3]))) for _ in range(size)]
    if "interrupts" in kinds:
        return Index(build.root(tuple(blocks)))
    return Index(Chain(id="@root", blocks=tuple(blocks)))
