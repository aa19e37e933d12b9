"""following: an instance is watched, and what is new since the last look is told once."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from orch8.engine.lifecycle import ENDED
from orch8.engine.snapshot import Snapshot
from orch8.errors import NotFound
from orch8.runtime.inspect import Shown, in_order, is_told, standing
from orch8.runtime.library import Library
from orch8.runtime.marks import Iterations, Mark, iterates
from orch8.storage import collections, feed, steps
from orch8.storage.rows import StepRow
from orch8.storage.traces import traces_of
from orch8.storage.transaction import Row, Tx


@dataclass(frozen=True, slots=True)
class Seen:
    """What is new: the state, if it has changed, the steps that ended, the traces, and what loops
    leave. ``ended``: there will be nothing more, unless the instance is retried.
    """

    now: str
    state: str | None
    outputs: list[Shown]
    ended: bool


class Following:
    """One onlooker of one instance."""

    def __init__(self, library: Library, instance_id: UUID) -> None:
        self._library, self._id = library, instance_id
        self._state = ""
        self._known: set[str] = set()
        self._told: set[UUID] = set()
        self._iterations: Iterations | None = None
        self._iterates = True  # as far as is known

    def look(self, tx: Tx) -> Seen:
        """What is new since the last look, no output twice. NotFound if it is there no more."""
        row = feed.where_it_is(tx, self._id, with_snapshot=self._iterates)
        if row is None:
            raise NotFound(f"instance {self._id}")
        published = self._library.get(tx, row.sequence_id)
        self._iterates = iterates(published.sequence.index)
        fresh = [key for key in row.ended if key not in self._known]
        self._known.update(fresh)
        found = {step.node_key: step for step in self._read(tx, fresh)}
        rows = standing(found[key] for key in fresh if key in found)
        told: list[Row | Mark] = list(traces_of(tx, self._id))
        if self._iterates:
            if self._iterations is None:
                self._iterations = Iterations(self._id, published.sequence.index)
            self._iterations.note(rows)
            self._iterations.collections(collections.last_pages(tx, self._id) if fresh else ())
            told += self._iterations.marks(Snapshot.from_json(row.snapshot))
        told = [each for each in told if each.id not in self._told]
        self._told.update(each.id for each in told)
        changed = row.state if row.state != self._state else None
        self._state = row.state
        ended = [each for each in rows if is_told(each, published)]
        return Seen(row.state, changed, in_order(ended, told), row.state in ENDED)

    def _read(self, tx: Tx, keys: list[str]) -> list[StepRow]:
        return steps.read_steps(tx, [(self._id, key) for key in keys])
