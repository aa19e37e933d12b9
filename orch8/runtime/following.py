"""following: an instance is watched, and what is new since the last look is told once."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from orch8.engine.lifecycle import ENDED
from orch8.errors import NotFound
from orch8.runtime.inspect import Shown, in_order, is_output
from orch8.storage import feed, steps
from orch8.storage.rows import StepRow
from orch8.storage.traces import traces_of
from orch8.storage.transaction import Tx


@dataclass(frozen=True, slots=True)
class Seen:
    """What is new: the state, if it has changed, the steps that ended and the traces. ``ended``:
    there will be nothing more, unless the instance is retried.
    """

    now: str
    state: str | None
    outputs: list[Shown]
    ended: bool


class Following:
    """One onlooker of one instance."""

    def __init__(self, instance_id: UUID) -> None:
        self._id = instance_id
        self._state = ""
        self._known: set[str] = set()
        self._traced: set[UUID] = set()

    def look(self, tx: Tx) -> Seen:
        """What is new since the last look, no output twice. NotFound if it is there no more."""
        row = feed.where_it_is(tx, self._id)
        if row is None:
            raise NotFound(f"instance {self._id}")
        fresh = [key for key in row.ended if key not in self._known]
        self._known.update(fresh)
        found = {step.node_key: step for step in self._read(tx, fresh)}
        ended = [found[key] for key in fresh if key in found and is_output(found[key])]
        traced = [t for t in traces_of(tx, self._id) if t.id not in self._traced]
        self._traced.update(trace.id for trace in traced)
        changed = row.state if row.state != self._state else None
        self._state = row.state
        return Seen(row.state, changed, in_order(ended, traced), row.state in ENDED)

    def _read(self, tx: Tx, keys: list[str]) -> list[StepRow]:
        return steps.read_steps(tx, [(self._id, key) for key in keys])
