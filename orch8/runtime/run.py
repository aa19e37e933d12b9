"""One instance being advanced: the machine's decisions as rows. Values in, changes out, no I/O.

A run may find that a value it needs is not loaded and raise NeedsValues: then the caller loads it,
calls reset() and does the same again. Nothing is shared with the attempt before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final
from uuid import UUID
from weakref import ref
from zoneinfo import ZoneInfo

from orch8.blocks.approval import UNANSWERED
from orch8.blocks.step import Effect, Step
from orch8.blocks.sub_sequence import SubSequence
from orch8.engine.events import Event, LeafSettled
from orch8.engine.keys import NodeKey
from orch8.engine.lifecycle import LIVE, STEP_MOVES, StepState, check, check_instance
from orch8.engine.machine import advance, error_at
from orch8.engine.moves import CancelLeaf, Memo, Overdue, Schedule
from orch8.engine.outcome import CANCELLED, Outcome, Status, Verdict
from orch8.engine.scope import Known, Part, Scope, StepRef
from orch8.engine.snapshot import Snapshot
from orch8.runtime import (
    alarms,
    consent,
    doubts,
    identity,
    interceptors,
    notices,
    offering,
    placing,
    stops,
)
from orch8.runtime.doubts import UNRESOLVED
from orch8.runtime.entering import enter
from orch8.runtime.errand import Errand
from orch8.runtime.library import Published
from orch8.runtime.places import place_of
from orch8.runtime.readable import runtime_of
from orch8.runtime.routes import LOOK, Route
from orch8.runtime.sandbox import stubbed
from orch8.runtime.showing import ends_now, shown
from orch8.runtime.sla import breach
from orch8.runtime.surroundings import Surroundings
from orch8.storage.changes import Changes, is_settlement
from orch8.storage.fences import Hold
from orch8.storage.rows import AuditEntry, Evidence, InstanceRow, Moment, StepRow, with_outcome
from orch8.storage.task_events import CANCELLED as TASK_CANCELLED
from orch8.storage.traces import Trace

ENGINE: Final = "engine"
JANITOR: Final = "janitor"  # the lane in which read handlers are asked about attempts in doubt
CHILD: Final = "child"  # what a sub_sequence waits for


@dataclass(frozen=True, slots=True)
class Claimer:
    """The worker process that may claim follow-up steps at once, and how many."""

    worker_id: UUID
    slots: int


class Run:
    """An instance, its working copy, and what is to be written about it."""

    def __init__(
        self,
        around: Surroundings,
        row: InstanceRow,
        published: Published,
        moment: Moment,
        *,
        claimer: Claimer | None = None,
        created: bool = False,
    ) -> None:
        self.around, self.base, self.moment = around, row, moment
        self.known = Known()
        self.claimer = claimer
        self.created = created
        self.zone = ZoneInfo(row.timezone)
        self.stops = stops.stops_of(row, around.settings.max_steps)
        self._base_snapshot = Snapshot.from_json(row.snapshot)
        self._published, self._instance_id = published, str(row.id)
        self.attempt = 0  # how often values were loaded for it
        # What is retried, or was before, goes on in iterations that have put out something already.
        fresh = row.round == 1 and self._base_snapshot.outcome is None
        self._lived = self._base_snapshot.frames if fresh else None
        self.reset()

    def reset(self) -> None:
        """The run stands where it stood before anything was done to it."""
        self.row = self.base
        self.published, self.index = self._published, self._published.sequence.index
        self.known.forget()
        self.snapshot = self._base_snapshot
        self._decided: Snapshot | None = None  # by the machine, for this run alone
        self.entered: dict[NodeKey, StepRow] = {}
        self.arrivals: list[StepRow] = []  # the leaves among them, as they came
        self.touched: dict[NodeKey, StepRow] = {}
        self.tasks: list[Any] = []  # calls of follow-up steps that were claimed at once
        self.changes = self.collected = Changes()
        self.children: list[Run] = []  # instances that this one starts in the same transaction
        self.errands: list[Errand] = []  # to other instances, after the commit, each on its own
        self.scope = Scope(
            self.index,
            self._instance_id,
            self.known,
            self.now,
            self.around.entropy,
            partial(runtime_of, ref(self)),  # not itself: circles are left to the collector
            before=self._lived,
        )

    @property
    def now(self) -> datetime:
        """The business time of the transaction."""
        return self.moment.at

    # -- rows ----------------------------------------------------------------------------------
    def step(self, key: NodeKey) -> StepRow:
        """The working copy of a leaf's row."""
        row = self.entered.get(key) or self.touched.get(key)
        if row is None:
            row = self.touched[key] = self.known.get(StepRef(key)).copy()
        return row

    def block(self, row: StepRow) -> Step | SubSequence:
        """The definition of a leaf."""
        block = self.index[row.block_id]
        assert isinstance(block, Step | SubSequence)
        fallback = getattr(block, "fallback", None)
        return fallback if fallback is not None and row.handler == fallback.handler else block

    def route(self, row: StepRow) -> Route:
        """How the handler is reached that is called next: the step's own, or the one that is asked
        what became of its attempt. None is while the step lacks its answer.
        """
        if row.waits_for is not None and row.waits_for in UNANSWERED:
            return LOOK
        route = self.around.route(row.tenant_id, row.asking or row.handler)
        return stubbed(route, row.effect) if self.row.dry_run else route

    def lane(self, row: StepRow) -> str:
        """The lane in which the step's own calls queue, or the questions about its attempt."""
        if row.asking is not None:
            return JANITOR
        return getattr(self.index[row.block_id], "lane", None) or self.row.lane

    def error(self, key: NodeKey) -> Mapping[str, Any] | None:
        """The failure that is being handled where ``key`` stands, if any."""
        return error_at(self.index, self.snapshot.frames, key)

    def cancelling(self, key: NodeKey) -> bool:
        """Whether a leaf is asked to stop."""
        frame = self.snapshot.frames.get(key)
        return frame is None or frame.cancelling

    # -- the machine ---------------------------------------------------------------------------
    def fire(self, event: Event) -> None:
        """The event has happened, and everything that follows from it at once."""
        events = [event]
        while events:
            before = self.snapshot
            spend = before is self._decided
            decision = advance(self.index, before, events.pop(0), self.scope, spend=spend)
            if decision.snapshot is not before:
                self.snapshot = self._decided = decision.snapshot
            for effect in decision.effects:
                match effect:
                    case Schedule(key):
                        refused = enter(self, key)
                        if refused is not None:
                            events.append(LeafSettled(key, refused))
                        elif self.stops is not None:
                            events += stops.entered(self, key, self.stops)
                    case CancelLeaf(key):
                        if self.call_off(key):
                            events.append(LeafSettled(key, CANCELLED))
                    case Memo(key, output):
                        self._memo(key, output)
                    case Overdue():
                        events += breach(self, effect)

    def end(
        self,
        row: StepRow,
        outcome: Outcome,
        *,
        output: Any = None,
        verdict: Verdict | None = None,
        actor: str = ENGINE,
        by: str = "retry",
    ) -> None:
        """The step has ended: its memo is written and the machine told. If its attempt was in
        doubt, ``by`` is what resolved it.
        """
        if self.published.watched:
            interceptors.attempted(self, row)
        ended = verdict.value if verdict is not None else outcome.status.value
        doubts.resolved(self, row, by, ended)
        row.state = {
            Status.COMPLETED: StepState.COMPLETED,
            Status.SKIPPED: StepState.COMPLETED,
            Status.FAILED: StepState.FAILED,
            Status.CANCELLED: StepState.CANCELLED,
        }[outcome.status]
        row.output, row.error = output, outcome.error
        row.outcome = ended
        row.finished_at = self.now
        row.due_at = row.held_due_at = row.claimed_by = row.attention = row.asking = None
        row.limit_key = row.queued_at = None
        if row.waits_for in UNANSWERED:
            consent.given_up(self, row)
        if outcome.status is Status.COMPLETED:
            seen = with_outcome(output, row.outcome, row.created_at, row.finished_at)
            self.known.put_out(row.key, seen)
        if row.pull:
            row.expires_at = row.lease_until = None
        self.audit(f"step.{row.state}", row.outcome, row, actor=actor, reason=_said(outcome))
        if self.stops is not None:
            stops.ended(self, row, outcome)
        self.fire(LeafSettled(row.key, outcome))

    def offer(self, row: StepRow, due: datetime | None = None) -> None:
        """The step waits for a pull worker from ``due`` on, or for what stands in for its call."""
        placing.offer(self, row, due or self.now)

    def schedule(self, row: StepRow, due: datetime) -> None:
        """The row wants a worker at ``due``, or after the instance is resumed. An attempt in doubt
        is found out about whatever the deadline; it is asked about during a pause, too.
        """
        if row.deadline_at is not None and not row.pull and not doubts.in_doubt(row):
            due = min(due, row.deadline_at)
        paused = self.row.paused_at is not None and row.asking is None
        row.due_at, row.held_due_at = (None, due) if paused else (due, None)
        row.claimed_by = None

    def call_off(self, key: NodeKey) -> bool:
        """Whether a leaf that is asked to stop ends at once: its call, if any, may have no effect
        that must be known. Otherwise it stays live until its answer is.
        """
        row = self.step(key)
        if row.state not in LIVE:
            return False
        if row.waits_for == CHILD and row.state == StepState.WAITING:
            self.schedule(row, self.now)  # whoever takes it cancels the child first
            return False
        unresolved = row.state == StepState.RUNNING or row.outcome in UNRESOLVED
        if unresolved and not Effect(row.effect).repeatable:
            return False
        if self.published.watched:
            interceptors.attempted(self, row)
        row.state, row.outcome, row.finished_at = (
            StepState.CANCELLED,
            Status.CANCELLED.value,
            self.now,
        )
        row.due_at = row.held_due_at = row.claimed_by = row.expires_at = None
        row.limit_key = row.queued_at = row.lease_until = None
        if row.pull:
            offering.note(self, row, TASK_CANCELLED)
        row.epoch += 1  # whatever still comes back is an old claim's
        if row.waits_for in UNANSWERED:
            consent.given_up(self, row)
        self.audit("step.cancelled", "cancelled", row)
        return True

    def _memo(self, key: NodeKey, output: Any) -> None:
        self.entered[key] = StepRow(
            self.row.id, str(key), self.around.new_id(), self.row.tenant_id, key.block_id, "@memo",
            "none", StepState.COMPLETED, self.row.lane, self.now, path=key.path, round=key.round,
            output=output, outcome="succeeded", finished_at=self.now,
        )  # fmt: skip

    # -- what is written -----------------------------------------------------------------------
    def audit(
        self, action: str, outcome: str, row: StepRow | None = None, *,
        actor: str = ENGINE, reason: str | None = None, body: Any = None,
        request_id: str | None = None,
    ) -> None:  # fmt: skip
        """The audit log will tell of this, in the same transaction."""
        if body is None and row is not None:
            body = {"handler": row.handler, "dispatches": row.dispatches, "epoch": row.epoch}
            if row.idempotency_key:
                body["idempotency_key"] = row.idempotency_key
            uses = (row.progress or {}).get("uses")
            if uses:  # what a lost limiter is rebuilt from
                body["limits"] = uses
        self.changes.audit.append(
            AuditEntry(
                self.row.tenant_id, actor, action, outcome, self.row.id,
                row.node_key if row is not None else None, self.row.sequence_id, reason,
                request_id, body,
            )
        )  # fmt: skip

    def trace(
        self, block_id: str, output: Any, *, attempt: int = 0, after: bool = False,
        at: datetime | None = None,
    ) -> None:  # fmt: skip
        """It is shown among the outputs of the instance, beside what its steps put out now (or
        ``at`` that time), or ``after`` that. Templates do not see it.
        """
        mine = (self.row.id, self.row.tenant_id)
        self.changes.traced.append(Trace(*mine, block_id, output, at or self.now, attempt, after))

    def observe(self, row: StepRow, kind: str, verdict: str | None, body: Any) -> None:
        """What was seen of a call is kept as evidence."""
        self.changes.evidence.append(
            Evidence(self.row.tenant_id, self.row.id, row.node_key, row.epoch, kind, verdict, body)
        )

    def set_context(self, context: Any) -> None:
        """The instance has a new version of its context."""
        version = self.row.context_version + 1
        self.changes.contexts.append((self.row.id, version, self.row.tenant_id, context))
        self.known.replace(Part("context"), context)
        self.row = self.row.but(context_version=version)

    def collect(self) -> Changes:
        """Everything to be written about the instance and its steps."""
        changes = self.changes
        changes.entered.extend(self.entered.values())
        if self.arrivals:
            alarms.arm(self, self.arrivals)
        for key, step in self.touched.items():
            before = self.known.get(StepRef(key))
            check(STEP_MOVES, before.state, step.state, "step", key)
            doubts.let_go(self, step)
            settled = step.state not in LIVE and is_settlement(before, step)
            (changes.settled if settled else changes.rewritten).append(step)
        outcome = self.snapshot.outcome
        state, attention = shown(self)
        retried = self.row.round != self.base.round
        check_instance(self.base.state, state, self.row.id, another_round=retried)
        row = self.row.but(snapshot=self.snapshot.to_json(), state=state, attention=attention)
        if outcome is not None and ends_now(self):
            row = row.but(finished_at=self.now, outcome=self.snapshot.finish, error=outcome.error,
                cancelling=False, paused_at=None, paused_as=None,
            )  # fmt: skip
            self.audit(f"instance.{state}", state, reason=_said(outcome))
            notices.ended(self, state, outcome)
            place = place_of(row)
            if place is not None:
                changes.left.append(place)
            if self.published.fenced:
                changes.let_go.append(Hold(row.tenant_id, "", row.id, None))
            if row.parent_instance_id is not None and row.parent_node_key is not None:
                changes.woken.append((row.parent_instance_id, row.parent_node_key))
        elif outcome is None and self.base.finished_at is not None:
            row = row.but(finished_at=None, outcome=None, error=None)
        if state != self.base.state or self.created:
            row = row.but(updated_at=self.now)
        self.row = row
        (changes.created if self.created else changes.advanced).append(row)
        identity.keep(self)
        for child in self.children:
            changes.extend(child.collect())
        return changes


def _said(outcome: Outcome) -> str | None:
    return None if outcome.error is None else str(outcome.error.get("message"))[:500]
