"""for_each: the body once for each item of a collection that is fixed on entry."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from orch8.blocks.fields import Anything, Blocks, Text, Whole
from orch8.blocks.schema import BlockSchema, Draft
from orch8.engine.block import Block, Chain, Scope
from orch8.engine.keys import NodeKey
from orch8.engine.moves import Act, Done, Memo, Move, Run, Wait
from orch8.engine.outcome import Outcome
from orch8.engine.scope import OutputRef
from orch8.engine.snapshot import Frame

if TYPE_CHECKING:
    from orch8.engine.expressions import Template

PAGE = 100  # items per memo: an iteration reads one page, whatever the size of the collection
MOST = 100_000  # items
ITEMS = "@items"  # ends the ids of the memos that hold them


def page_of(each: NodeKey, index: int) -> NodeKey:
    """The memo that holds item ``index`` of the for_each at node ``each``, at ``index % PAGE``."""
    return each.nth(f"{each.block_id}{ITEMS}", index // PAGE)


def is_page(ref: OutputRef) -> bool:
    """Whether ``ref`` means a memo of items."""
    return ref.block_id.endswith(ITEMS)


def pages_from(ref: OutputRef, number: int) -> Iterable[OutputRef]:
    """``ref``, and if it means a memo of items, those after it, up to ``number`` in all."""
    if not is_page(ref):
        return (ref,)
    first = ref.path[-1]
    behind = min(first + number, max(first + 1, MOST // PAGE))
    return (ref._replace(path=(*ref.path[:-1], page)) for page in range(first, behind))


@dataclass(frozen=True, kw_only=True)
class ForEach(Block):
    """The body once for each item, at most ``concurrency`` at a time; the first failure ends it.

    The collection is memoized on entry, so later changes do not reach it. Blocks inside read the
    item under ``item_var`` and its number, counted from 1, under ``iteration``.
    """

    type: ClassVar[str] = "for_each"
    iterates: ClassVar[bool] = True

    collection: Template
    body: Chain
    item_var: str = "item"
    concurrency: int = 1
    max_iterations: int = 1000

    def chains(self) -> Iterable[Block]:
        return (self.body,)

    def start(self, at: NodeKey, scope: Scope) -> Move:
        items = scope.render(self.collection, at)
        if not isinstance(items, list) or not items:
            return Done()
        items = items[: self.max_iterations]
        first = min(self.concurrency, len(items))
        run = Run(
            tuple(at.nth(self.body.id, i) for i in range(first)), {"n": first, "of": len(items)}
        )
        return Act(tuple(_pages(at, items)), run)

    def settled(
        self, at: NodeKey, frame: Frame, child: NodeKey, outcome: Outcome, live: int, scope: Scope
    ) -> Move:
        if not outcome.ok:
            return Done(outcome)
        n, of = frame.data["n"], frame.data["of"]
        if n < of:
            return Run((at.nth(self.body.id, n),), {"n": n + 1, "of": of})
        return Wait() if live else Done()

    def revived(
        self, at: NodeKey, frame: Frame, below: Sequence[NodeKey], scope: Scope
    ) -> Move | None:
        if not frame.data:
            return None
        n, of = frame.data["n"], frame.data["of"]
        upto = min(of, n + self.concurrency - len(below))
        fresh = (at.nth(self.body.id, i) for i in range(n, upto))
        return Run((*below, *fresh), {"n": max(n, upto), "of": of})

    def item_ref(self, path: tuple[int, ...]) -> tuple[str, NodeKey, int] | None:
        index = path[-1]
        return self.item_var, page_of(NodeKey(self.id, path[:-1]), index), index % PAGE


def _pages(at: NodeKey, items: list[Any]) -> Iterable[Memo]:
    for first in range(0, len(items), PAGE):
        yield Memo(page_of(at, first), items[first : first + PAGE])


class ForEachSchema(BlockSchema):
    """``{"type": "for_each", "collection": "{{...}}", "item_var": "item", "body": [...]}``."""

    type = "for_each"
    block = ForEach

    collection = Anything(required=True)
    item_var = Text(blank=False, longest=100)
    body = Blocks(required=True, least=1)
    concurrency = Whole(least=1, most=1000)
    max_iterations = Whole(least=1, most=MOST)
    retain_iterations = Whole()

    def variables(self, values: Mapping[str, Any]) -> frozenset[str]:
        return frozenset((values.get("item_var", "item"),))

    def build(self, draft: Draft) -> Block:
        values = draft.values
        item_var = values.get("item_var", "item")
        if not draft.contract and not _NAME.fullmatch(item_var):
            hint = 'letters, digits and _, such as "item"'
            draft.problem("/item_var", f"item_var {item_var[:40]!r} is no name", hint)
        if "retain_iterations" in values:
            draft.warn("/retain_iterations", "every iteration is kept", code="ignored")
        given = _collection(draft, values.get("collection"))
        collection = draft.template(given, "/collection")
        if collection is None:
            return draft.chain("body")  # a problem is noted: nothing of this will run
        return ForEach(
            id=draft.id,
            when=draft.when,
            collection=collection,
            body=draft.chain("body"),
            item_var=item_var,
            concurrency=values.get("concurrency", 1),
            max_iterations=values.get("max_iterations", 1000),
        )


def _collection(draft: Draft, given: Any) -> Any:
    """A template; a bare path starts at the data, or in the seed's form at a root it names."""
    if isinstance(given, str) and not given.strip():
        draft.problem("/collection", "collection must not be blank")
    elif isinstance(given, str) and "{{" not in given:
        rooted = not draft.contract and given.split(".", 1)[0].strip() in draft.roots
        return f"{{{{{given}}}}}" if rooted else f"{{{{context.data.{given}}}}}"
    elif given is not None and not isinstance(given, str | list):
        hint = 'an expression such as "{{context.data.items}}", or a list'
        draft.problem("/collection", "collection must be a string or a list", hint, shape=True)
    return given


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
