"""marks: what loops leave among an instance's outputs, told from what ran inside them.

Nothing of it is stored: an iteration has ended if it began and nothing of it is live.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid5

from orch8.blocks.for_each import ITEMS, ForEach
from orch8.blocks.interrupt import SLA
from orch8.blocks.loop import Loop
from orch8.blocks.race import Race
from orch8.blocks.try_catch import TryCatch
from orch8.engine.block import Index
from orch8.engine.keys import NodeKey
from orch8.engine.lifecycle import StepState
from orch8.engine.snapshot import Snapshot
from orch8.storage.collections import LastPage
from orch8.storage.rows import StepRow
from orch8.storage.transaction import Row

MOST: Final = 10_000  # marks of one loop
_HIDDEN: Final = frozenset({"@root", "@main", SLA})  # what every run has around its blocks
_End = tuple[datetime, UUID]  # of the row that ended last
_Place = tuple[str, tuple[int, ...]]  # a loop's id, and the iterations around it


@dataclass(frozen=True, slots=True)
class Mark:
    """An output of a loop itself (CONTRACT 12.3, 12.4); its id is the same each time it is read."""

    id: UUID
    block_id: str
    output: Any
    attempt: int
    created_at: datetime
    beside: UUID  # the row of that moment that it stands before or behind
    after: bool = True


def is_output(row: StepRow | Row) -> bool:
    """Whether the row is that of a block which people know: what runs around them is not shown."""
    return row.block_id not in _HIDDEN and (row.handler != "@memo" or "@" not in row.block_id)


def iterates(index: Index) -> bool:
    """Whether any block of the sequence leaves marks."""
    return any(isinstance(block, Loop | ForEach) for block in index.values())


class Iterations:
    """How far the loops of an instance have come, as more and more of its rows are known."""

    def __init__(self, instance_id: UUID, index: Index) -> None:
        self._instance_id, self._index = instance_id, index
        self._ends: dict[_Place, dict[int, _End]] = defaultdict(dict)
        self._items: dict[_Place, tuple[int, _End]] = {}
        # Steps that ended badly, with their iteration, which nothing inside of it made good.
        self._bad: dict[_Place, set[tuple[int, NodeKey]]] = defaultdict(set)
        self._forgiven = _forgiven(index)

    def note(self, rows: Iterable[StepRow]) -> None:
        """These rows have ended: each tells of every loop around it."""
        for row in rows:
            for depth, loop_id in enumerate(self._index.loops.get(row.block_id, ())):
                place, i = (loop_id, tuple(row.path[:depth])), row.path[depth]
                end = row.finished_at or row.created_at, row.id
                self._ends[place][i] = max(self._ends[place].get(i, end), end)
                if row.state == StepState.COMPLETED:
                    self._bad[place].discard((i, NodeKey(row.block_id, row.path)))
                elif row.finished_at and loop_id not in self._forgiven[row.block_id]:
                    self._bad[place].add((i, NodeKey(row.block_id, row.path)))

    def collections(self, pages: Iterable[LastPage]) -> None:
        """The for_each blocks that these pages are of have so many items, since then."""
        for page in pages:
            self._items[page.block_id.removesuffix(ITEMS), tuple(page.path[:-1])] = (
                page.items,
                (page.created_at, page.id),
            )

    def marks(self, snapshot: Snapshot) -> Iterator[Mark]:
        """What the loops have left so far, each loop's in its order."""
        unfinished = {key[:2] for frames in (snapshot.frames, snapshot.dormant) for key in frames}
        newest = dict(sorted(self._ends))  # the last of each counts
        for place in {**self._items, **self._ends}:
            block = self._index.get(place[0])
            if isinstance(block, ForEach) and place in self._items:
                yield from self._each(block, place, unfinished)
            elif isinstance(block, Loop) and newest[place[0]] == place[1]:
                # Of a loop in a loop only what the last iteration around it left is kept.
                yield from self._loop(block, place, unfinished)

    def _each(self, block: ForEach, place: _Place, unfinished: set[_Place]) -> Iterator[Mark]:
        total, since = self._items[place]
        key = NodeKey(*place)
        about = {"_total": total, "_item_var": block.item_var, "_snapshot_ref": f"{key}{ITEMS}"}
        yield self._mark(key, 0, {"_index": 0, **about}, since, after=False)
        whole = place not in unfinished and not self._bad[place]
        began = total if whole else self._began(place)
        for number, end in self._ended(block.body.id, place, began, unfinished, since):
            yield self._mark(key, number, {"_index": number, **about}, end)

    def _loop(self, block: Loop, place: _Place, unfinished: set[_Place]) -> Iterator[Mark]:
        ends, began = self._ends[place], self._began(place)
        whole = place not in unfinished and not self._bad[place]
        if whole and _broke_off(block, began):
            began -= 1
        for number, end in self._ended(block.body.id, place, began, unfinished, ends[min(ends)]):
            yield self._mark(NodeKey(*place), number, {"_iterations": number}, end)

    def _began(self, place: _Place) -> int:
        return max(self._ends[place], default=-1) + 1

    def _ended(
        self, body_id: str, place: _Place, began: int, unfinished: set[_Place], since: _End
    ) -> Iterator[tuple[int, _End]]:
        """The number, from 1, and the end of each iteration that has ended well. One that put
        nothing out ended with the one before it.
        """
        ends = self._ends[place]
        bad = {i for i, _ in self._bad[place]}
        for i in range(min(began, MOST)):
            since = max(since, ends.get(i, since))
            if i not in bad and (body_id, (*place[1], i)) not in unfinished:
                yield i + 1, since

    def _mark(
        self, key: NodeKey, number: int, output: Any, end: _End, *, after: bool = True
    ) -> Mark:
        name = uuid5(self._instance_id, f"{key}#{number}")
        return Mark(name, key.block_id, output, number, *end, after)


def _forgiven(index: Index) -> dict[str, frozenset[str]]:
    """Of each block the loops in which something around it makes good that it fails; a loop that
    continues on error is one of them.
    """
    found: dict[str, frozenset[str]] = {}
    pending = [(index.root, frozenset[str]())]
    while pending:
        block, loops = pending.pop()
        found[block.id] = loops
        lenient = isinstance(block, Loop) and block.continue_on_error
        if lenient or isinstance(block, TryCatch | Race):
            own = (block.id,) if lenient else ()
            loops = frozenset((*index.loops[block.id], *own))
        pending += ((child, loops) for child in block.chains())
    return found


def _broke_off(block: Loop, began: int) -> bool:
    """Whether ``break_on`` ended the loop, after which it leaves no mark. With a condition that
    might have ended it as well it is taken for that.
    """
    if block.break_on is None or began >= block.max_iterations:
        return False
    condition = block.condition
    return condition is None or not (condition.roots or condition.outputs)
