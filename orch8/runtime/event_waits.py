"""event_waits: steps that wait for events, and events that find who waits for them.

Each event is consumed by at most one wait. A wait that was given up gives its events back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import orjson

from orch8.blocks.wait_for_event import Wanted
from orch8.engine.scope import Part
from orch8.storage import event_waits as stored
from orch8.storage import instances
from orch8.storage.changes import Changes, write
from orch8.storage.event_waits import EventWait, WaitOver
from orch8.storage.rows import StepRow
from orch8.storage.transaction import Row, Tx

if TYPE_CHECKING:
    from orch8.runtime.run import Run

_WAIT: Final = "event_wait:"
_OFFER: Final = "events_for:"


@dataclass(frozen=True, slots=True)
class Standing:
    """A wait and the events that it has, the oldest first."""

    wait: EventWait
    events: tuple[Any, ...]

    @property
    def satisfied(self) -> bool:
        """Whether it has all that it wants."""
        return self.wait.wanted.satisfied([event.event_name for event in self.events])

    def output(self) -> dict[str, Any]:
        """What the step puts out (CONTRACT 24)."""
        told = [
            {
                "event_name": event.event_name, "producer_event_id": event.producer_event_id,
                "payload": event.payload,
            }
            for event in self.events
        ]  # fmt: skip
        wanted = self.wait.wanted
        return {
            "wait_id": str(self.wait.id),
            "events": {event["event_name"]: event for event in reversed(told)},
            "all": told,
            "waiting_for": list(wanted.names),
            "correlation_key": wanted.correlation_key,
            "satisfied": self.satisfied,
            "matched": list(dict.fromkeys(event["event_name"] for event in told)),
        }


def standing(run: Run, row: StepRow) -> Standing | None:
    """The step's wait, if it has begun one."""
    found: Standing | None = run.known.get(_part(row))
    return found


def begin(run: Run, row: StepRow, wanted: Wanted) -> Standing | None:
    """The step waits for these events, and has those of them that were told before. None, and
    nothing is begun, while somebody else's turn is not over. A dry run takes no event: only a
    person lets it go on.
    """
    question = orjson.dumps([wanted.correlation_key, wanted.names]).decode()
    dry = run.row.dry_run
    offered: Sequence[Row] | None = () if dry else run.known.get(Part(_OFFER + question))
    if offered is None:
        return None
    given = {event_id for event_id, _ in run.changes.taken}  # to a wait of this very transaction
    events: list[Row] = []
    for event in offered:
        names = [each.event_name for each in events]
        if event.id not in given and wanted.takes(event.event_name, names):
            events.append(event)
    wait = EventWait(run.around.new_id(), row.tenant_id, row.instance_id, row.node_key, wanted)
    found = Standing(wait, tuple(events))
    found = Standing(replace(wait, closed=found.satisfied or dry), found.events)
    run.changes.waits.append(found.wait)
    run.changes.taken += [(event.id, wait.id) for event in events]
    run.known.replace(_part(row), found)
    return found


def go_on(run: Run, row: StepRow) -> None:
    """The step goes on with the events that it has: its wait takes no more."""
    own = _begun(run, row)
    if own is None:
        run.changes.waits_over.append(WaitOver(row.instance_id, row.node_key, given_up=False))
    else:
        run.changes.waits[run.changes.waits.index(own)] = replace(own, closed=True)


def give_up(run: Run, row: StepRow) -> None:
    """The step waits no more: what its wait had is pending again."""
    own = _begun(run, row)
    if own is None:
        run.changes.waits_over.append(WaitOver(row.instance_id, row.node_key, given_up=True))
    else:
        run.changes.waits.remove(own)
        run.changes.taken = [each for each in run.changes.taken if each[1] != own.id]


def _begun(run: Run, row: StepRow) -> EventWait | None:
    """The step's wait, if it was begun in this transaction."""
    return next((wait for wait in run.changes.waits if wait.node_key == row.node_key), None)


def _part(row: StepRow) -> Part:
    return Part(_WAIT + row.node_key)


def is_asked(ref: Part) -> bool:
    """Whether the part is one that ``load`` reads."""
    return ref.name.startswith((_WAIT, _OFFER))


def load(tx: Tx, run: Run, ref: Part) -> Any:
    """A step's Standing, or the pending events that a wait may have: None if it has begun none, or
    if it is somebody else's turn.
    """
    if ref.name.startswith(_WAIT):
        found = stored.wait_of(tx, run.row.id, ref.name.removeprefix(_WAIT))
        return None if found is None else Standing(found[0], tuple(found[1]))
    key, names = orjson.loads(ref.name.removeprefix(_OFFER))
    about = (run.row.tenant_id, key)
    # Of the instances that share this transaction, too, one at a time.
    if tx.turns.setdefault(about, run.row.id) != run.row.id or not stored.try_turn(tx, *about):
        return None
    return stored.pending(tx, run.row.tenant_id, key, names)


def without_events(wait: EventWait | None, ref: Part) -> Any:
    """As load, where no events are ever told; ``wait`` is the step's, if it has begun one."""
    if ref.name.startswith(_OFFER):
        return []
    return None if wait is None else Standing(wait, ())


# -- from the producers' side ----------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Fresh:
    """An event that was told for the first time."""

    id: UUID
    tenant_id: str
    event_name: str
    correlation_key: str


@dataclass(frozen=True, slots=True)
class Matched:
    """What became of offered events: each that a wait has, with the wait and whether that has all
    that it wants; and the lanes in which there is work now.
    """

    waits: Mapping[UUID, tuple[UUID, bool]]
    lanes: Sequence[str]


NOTHING: Final = Matched({}, ())


def offer(tx: Tx, told: Sequence[Fresh]) -> Matched:
    """Each event belongs to the oldest wait that wants it, if there is one, and who has all that it
    wants is woken.
    """
    if not told:
        return NOTHING
    keys = {(event.tenant_id, event.correlation_key) for event in told}
    stored.take_turns(tx, keys)
    # Their locks before anything is read that a worker may be writing: as signals do.
    ids = stored.waiting(tx, keys)
    if not ids:
        return NOTHING
    rows, _ = instances.lock_instances(tx, ids)
    waits = stored.open_waits(tx, keys, list(rows))
    taken: list[tuple[UUID, UUID]] = []
    done: dict[UUID, EventWait] = {}
    for event in told:
        about = (event.tenant_id, event.correlation_key)
        for wait, matched in waits:
            mine = (wait.tenant_id, wait.wanted.correlation_key) == about
            if mine and wait.wanted.takes(event.event_name, matched):
                matched.append(event.event_name)
                taken.append((event.id, wait.id))
                if wait.wanted.satisfied(matched):
                    done[wait.id] = wait
                break
    if not taken:
        return NOTHING
    stored.take(tx, taken, list(done))
    write(tx, Changes(woken=[(wait.instance_id, wait.node_key) for wait in done.values()]))
    return Matched(
        {event_id: (wait_id, wait_id in done) for event_id, wait_id in taken},
        sorted({rows[wait.instance_id].lane for wait in done.values()}),
    )
