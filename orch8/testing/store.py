"""The tables of a simulation in memory: what storage does with SQL, done with dicts.

Rows are copied and values go through JSON on their way in, as they would on their way to Postgres.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count
from typing import Any
from uuid import UUID

import orjson

from orch8.engine.keys import NodeKey
from orch8.engine.lifecycle import LIVE, StepState
from orch8.engine.scope import CONTEXT, STATE, OutputRef, Ref, StepRef
from orch8.runtime import elsewhere, event_waits
from orch8.runtime.budgets import asked_history
from orch8.runtime.fencing import FENCE
from orch8.runtime.identity import holder_key
from orch8.runtime.library import Published, published_of
from orch8.runtime.loading import MAX_CHILD_OUTPUTS, SIGNALS, Missing, summary
from orch8.runtime.run import Run
from orch8.storage.changes import Changes
from orch8.storage.event_waits import EventWait
from orch8.storage.rows import (
    AuditEntry,
    Doubt,
    Evidence,
    Incident,
    InstanceRow,
    StepRow,
    with_outcome,
)
from orch8.storage.transaction import dumps
from orch8.testing.attempts import Attempts
from orch8.testing.clock import VirtualClock
from orch8.testing.fences import SimFences
from orch8.testing.triggers import SimTriggers

_WAKEABLE = frozenset({StepState.WAITING, StepState.SCHEDULED})


@dataclass
class Signal:
    """A row of the inbox."""

    id: UUID
    name: str
    payload: Any
    actor: str
    received_at: datetime
    dedupe_key: str | None = None
    consumed_at: datetime | None = None
    consumed_by: str | None = None


class Store:
    """Everything that a simulation knows, and when its next step wants a worker."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.sequences: dict[UUID, Published] = {}
        self.instances: dict[UUID, InstanceRow] = {}
        self.signals: dict[UUID, list[Signal]] = defaultdict(list)
        self.audit: dict[UUID, list[tuple[datetime, AuditEntry]]] = defaultdict(list)
        self.evidence: dict[UUID, list[Evidence]] = defaultdict(list)
        self._steps: dict[UUID, dict[str, StepRow]] = defaultdict(dict)
        self._live: dict[UUID, dict[str, StepRow]] = defaultdict(dict)  # those that have not ended
        self._contexts: dict[tuple[UUID, int], Any] = {}
        self._state: dict[UUID, dict[str, Any]] = defaultdict(dict)
        self.doubts: dict[tuple[UUID, str, int], Doubt] = {}
        self.incidents: list[Incident] = []
        self.fences = SimFences(self._wake_behind, self._ask_now, self._tell)
        self.triggers = SimTriggers(clock, self.newest)
        self._attempts = Attempts()
        self._business_keys: dict[tuple[str, str], tuple[UUID, bool]] = {}  # and if it is lasting
        self._correlations: dict[UUID, dict[str, str]] = {}  # of the open instances
        self._waits: dict[tuple[UUID, str], EventWait] = {}
        self._timers: list[tuple[datetime, int, UUID, str]] = []
        self._order = count()

    # -- reading -------------------------------------------------------------------------------
    def step(self, instance_id: UUID, key: NodeKey | str) -> StepRow | None:
        """A copy of the row of a node, if it was entered."""
        row = self._steps[instance_id].get(str(key))
        return None if row is None else row.copy()

    def steps_of(self, instance_id: UUID) -> list[StepRow]:
        """Copies of the rows of an instance in the order in which they were entered."""
        return [row.copy() for row in self._steps[instance_id].values()]

    def context(self, row: InstanceRow) -> Any:
        """The present context of an instance."""
        return self._contexts.get((row.id, row.context_version), {"data": {}, "config": {}})

    def named(
        self, tenant_id: str, namespace: str, name: str, version: int | None
    ) -> Published | None:
        """The version asked for; without one the newest."""
        versions = [
            each
            for each in self.sequences.values()
            if (each.tenant_id, each.namespace, each.name) == (tenant_id, namespace, name)
            and version in (None, each.version)
            and each.derived_from is None
        ]
        return max(versions, key=lambda each: each.version, default=None)

    def newest(self, name: str) -> Published | None:
        """The newest version of a name, whoever has it."""
        found = [each for each in self.sequences.values() if each.name == name]
        return max(found, key=lambda each: each.version, default=None)

    def by_key(self, tenant_id: str, idempotency_key: str) -> InstanceRow | None:
        """The instance that was created under this key."""
        wanted = (tenant_id, idempotency_key)
        rows = self.instances.values()
        return next((row for row in rows if (row.tenant_id, row.idempotency_key) == wanted), None)

    def correlated(self, tenant_id: str, values: Mapping[str, str]) -> list[UUID]:
        """The open instances that have all of these values under these names, the newest first."""
        found = [
            instance_id
            for instance_id, pairs in self._correlations.items()
            if values.items() <= pairs.items()
            and self.instances[instance_id].tenant_id == tenant_id
        ]
        return sorted(found, reverse=True)

    def load(self, missing: Missing) -> None:
        """The values are known to their runs; what does not exist is known to be absent."""
        for run, refs in missing:
            for ref in refs:
                if isinstance(ref, OutputRef):
                    run.known.values[ref], run.known.paths[ref] = self._output(run, ref)
                else:
                    run.known.values[ref] = self._value(run, ref)

    def _output(self, run: Run, ref: OutputRef) -> tuple[Any, tuple[int, ...]]:
        rows = self._steps[run.row.id]
        if ref.exact:
            rounds = range(1, run.row.round + 1)
            keys = [str(NodeKey(ref.block_id, ref.path, each)) for each in rounds]
            found = [rows[key] for key in keys if key in rows]
        else:
            begins = len(ref.path)
            found = [
                row
                for row in rows.values()
                if row.block_id == ref.block_id and row.path[:begins] == ref.path
            ]
        ended = [row for row in found if row.state == StepState.COMPLETED]
        newest = max(ended, key=lambda row: (row.path, row.round), default=None)
        if newest is None:
            return None, ()
        times = newest.created_at, newest.finished_at
        return with_outcome(newest.output, newest.outcome, *times), newest.path

    def _value(self, run: Run, ref: Ref) -> Any:
        if isinstance(ref, StepRef):
            return self.step(run.row.id, ref.key)
        if ref == CONTEXT:
            return self.context(run.row)
        if ref == STATE:
            return dict(self._state[run.row.id])
        if ref == SIGNALS:
            return [each for each in self.signals[run.row.id] if each.consumed_at is None]
        assert not isinstance(ref, OutputRef)
        business_key = holder_key(ref)
        if business_key is not None:
            return self._business_keys.get((run.row.tenant_id, business_key), (None,))[0]
        asked = asked_history(ref)
        if asked is not None:
            return self._attempts.on(run.row.tenant_id, *asked)
        kind, _, rest = ref.name.partition(":")
        if event_waits.is_asked(ref):  # nobody tells events here
            return event_waits.without_events(self._waits.get((run.row.id, rest)), ref)
        if kind in elsewhere.READERS:
            return self._elsewhere(run, kind, rest)
        if kind == "sequence":
            name, _, version = rest.rpartition(":")
            wanted = int(version) if version else None
            return self.named(run.row.tenant_id, run.row.namespace, name, wanted)
        child = self.instances.get(UUID(rest))
        if child is None:
            return None
        return summary(child, self.steps_of(child.id)[:MAX_CHILD_OUTPUTS])

    def _elsewhere(self, run: Run, kind: str, rest: str) -> Any:
        if kind == elsewhere.TRIGGER:
            return self.triggers.aim(rest)
        if kind == elsewhere.EMITTED:
            return self.triggers.first_under(run.row.tenant_id, *rest.split(":", 1))
        instance_id, _, dedupe_key = rest.partition(":")
        row = self.instances.get(UUID(instance_id))
        if row is None:
            return None
        if kind == elsewhere.TARGET:
            inbox = self.signals[row.id]
            sent = next((each.id for each in inbox if each.dedupe_key == dedupe_key), None)
            return elsewhere.Target(row.tenant_id, row.state, sent)
        at = next((each.block_id for each in self._live[row.id].values()), None)
        return elsewhere.told_of(row, self.context(row), at)

    # -- writing -------------------------------------------------------------------------------
    def write(self, changes: Changes) -> None:
        """Everything in ``changes`` is so."""
        for moved in changes.repointed:
            self.sequences[moved.by.id] = published_of(moved.by)
        for instance in (*changes.created, *changes.advanced):
            self.put_instance(instance)
        for step in (*changes.entered, *changes.rewritten, *changes.settled):
            self.put_step(step)
        for instance_id, version, _, body in changes.contexts:
            self._contexts[instance_id, version] = through_json(body)
        for instance_id, key, _, value in changes.state:
            self._state[instance_id][key] = through_json(value)
        for instance_id, key in changes.forgotten:
            self._state[instance_id].pop(key, None)
        self._attempts.write(changes.counted, changes.judged)
        consumed = {signal_id: (at, by) for signal_id, at, by in changes.consumed}
        for signal in self._inboxes(changes) if consumed else ():
            if signal.id in consumed:
                signal.consumed_at, signal.consumed_by = consumed[signal.id]
        self._identify(changes)
        for wait in changes.waits:
            self._waits[wait.instance_id, wait.node_key] = wait
        for instance_id, node_key in changes.woken:
            self._wake(instance_id, node_key)
        self._tell(changes.audit)
        for doubt in (*changes.doubted, *changes.undoubted):
            self.doubts[doubt.instance_id, doubt.node_key, doubt.generation] = doubt
        self.incidents.extend(changes.incidents)
        self.triggers.write(changes.emitted)
        for seen in changes.evidence:
            self.evidence[seen.instance_id].append(seen)

    def _tell(self, entries: Iterable[AuditEntry]) -> None:
        for entry in entries:
            assert entry.instance_id is not None
            self.audit[entry.instance_id].append((self._clock.now, entry))

    def _wake_behind(self, tenant_id: str, fence: str) -> None:
        for rows in self._live.values():
            for row in rows.values():
                waits = (row.tenant_id, row.fence, row.waits_for) == (tenant_id, fence, FENCE)
                if waits and row.due_at is not None:
                    row.due_at = self._clock.now
                    self._set_timer(row)

    def _ask_now(self, instance_id: UUID, node_key: str) -> None:
        row = self._live[instance_id].get(node_key)
        if row is not None and row.asking and row.state == StepState.SCHEDULED:
            row.due_at = self._clock.now
            row.progress = {**(row.progress or {}), "hurried": True}
            self._set_timer(row)

    def _identify(self, changes: Changes) -> None:
        freed = set(changes.freed_keys)
        for at, (instance_id, lasting) in list(self._business_keys.items()):
            if instance_id in freed and not lasting:
                del self._business_keys[at]
        for tenant_id, key, instance_id, lasting in changes.business_keys:
            self._business_keys[tenant_id, key] = instance_id, lasting
        for instance_id, _, pairs in changes.correlated:
            self._correlations[instance_id] = pairs

    def put_instance(self, row: InstanceRow) -> None:
        """The instance is as ``row`` says."""
        self.instances[row.id] = replace(
            row,
            snapshot=through_json(row.snapshot),
            error=through_json(row.error),
            attention=through_json(row.attention),
        )

    def put_step(self, row: StepRow) -> None:
        """The step is as ``row`` says, and wakes up when that says."""
        kept = row.copy()
        for name in ("output", "error", "attention", "progress"):
            setattr(kept, name, through_json(getattr(row, name)))
        self._steps[row.instance_id][row.node_key] = kept
        if kept.state in LIVE:
            self._live[row.instance_id][row.node_key] = kept
            self._set_timer(kept)
        else:
            self._live[row.instance_id].pop(row.node_key, None)

    def hold_due(self, instance_id: UUID) -> None:
        """The instance's due times are held: nothing of it is claimed until they are released."""
        for row in self._live[instance_id].values():
            if row.due_at is not None and row.held_due_at is None and row.asking is None:
                row.held_due_at, row.due_at = row.due_at, None

    def release_due(self, instance_id: UUID) -> None:
        """The held due times hold again; those that passed meanwhile are due now."""
        for row in self._live[instance_id].values():
            if row.held_due_at is not None:
                row.due_at, row.held_due_at = max(row.held_due_at, self._clock.now), None
                self._set_timer(row)

    def waiting_for(self, instance_id: UUID, what: str) -> Iterator[str]:
        """The nodes of an instance that wait for something."""
        for row in self._live[instance_id].values():
            if row.waits_for == what and row.state in _WAKEABLE:
                yield row.node_key

    # -- timers --------------------------------------------------------------------------------
    def next_step(self) -> tuple[datetime, StepRow] | None:
        """The step that is due first, or out of time first, and when."""
        while self._timers:
            at, _, instance_id, node_key = self._timers[0]
            row = self._live[instance_id].get(node_key)
            if row is not None and wakes_at(row) == at:
                return at, row.copy()
            heapq.heappop(self._timers)
        return None

    def due_steps(self, instance_id: UUID) -> list[StepRow]:
        """Copies of the rows of an instance that are due now, the longest due first."""
        due = [
            row.copy()
            for row in self._live[instance_id].values()
            if row.due_at is not None and row.due_at <= self._clock.now
        ]
        return sorted(due, key=lambda row: row.due_at or self._clock.now)

    def wakes_of(self, instance_id: UUID) -> list[datetime]:
        """When the steps of an instance are due, or their time is over."""
        return [at for row in self._live[instance_id].values() if (at := wakes_at(row)) is not None]

    def _set_timer(self, row: StepRow) -> None:
        at = wakes_at(row)
        if at is not None:
            heapq.heappush(self._timers, (at, next(self._order), row.instance_id, row.node_key))

    def _wake(self, instance_id: UUID, node_key: str) -> None:
        row = self._live[instance_id].get(node_key)
        if row is None or row.state not in _WAKEABLE:
            return
        paused = self.instances[instance_id].paused_at is not None
        now = self._clock.now
        row.due_at, row.held_due_at = (None, now) if paused else (now, None)
        self._set_timer(row)

    def _inboxes(self, changes: Changes) -> Iterable[Signal]:
        for instance in changes.advanced:
            yield from self.signals[instance.id]


def wakes_at(row: StepRow) -> datetime | None:
    """When the step is due, or its time is over."""
    ends = row.expires_at if row.pull and row.held_due_at is None else None
    if row.due_at is None or ends is None:
        return row.due_at or ends
    return min(row.due_at, ends)


def through_json(value: Any) -> Any:
    """What is left of ``value`` after it was written as JSON and read again."""
    return None if value is None else orjson.loads(dumps(value))
