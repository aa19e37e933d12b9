"""tasks: the steps that pull workers are, or were, given, for people. Reads only.

What a step was given is not stored, unless it moves money: it is rendered again, from the context
that the step read. References to credentials stay references.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

from orch8.engine.lifecycle import StepState
from orch8.engine.scope import StepRef
from orch8.errors import NotFound
from orch8.runtime.offering import PULLED
from orch8.runtime.office import Office
from orch8.runtime.preparing import Limits, prepare
from orch8.runtime.run import Run
from orch8.storage import instances, steps, task_events, tasks
from orch8.storage.rows import StepRow
from orch8.storage.tasks import STATES, Listed, TaskFilter
from orch8.storage.transaction import Row, Tx

PENDING, CLAIMED, COMPLETED, FAILED = STATES
_RETRYABLE: Final = frozenset({"failed_safe", "not_sent"})


@dataclass
class TaskView:
    """A task as lists show it; what it is given is None if that cannot be rendered now."""

    row: StepRow
    state: str
    params: Any = None
    context: Any = None
    outputs: Any = None
    timeout_ms: int | None = None

    @property
    def retryable(self) -> bool | None:
        """Whether the step failed in a way that a further attempt may have helped; None if it has
        not failed.
        """
        return self.row.outcome in _RETRYABLE if self.state == FAILED else None

    @property
    def problem(self) -> str | None:
        """Why the step failed; None if it has not."""
        if self.state != FAILED:
            return None
        if self.row.attention is not None:
            return f"a person has to look at it: {self.row.attention.get('reason')}"
        return str((self.row.error or {}).get("message") or self.row.outcome)


@dataclass(frozen=True, slots=True)
class Stats:
    """How many tasks there are, by state and by handler, and who has some of them now."""

    by_state: Mapping[str, int]
    by_handler: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    active_workers: tuple[str, ...] = ()


def newest(
    office: Office, tx: Tx, wanted: TaskFilter, *, limit: int, offset: int
) -> list[TaskView]:
    """The wanted tasks, the newest first."""
    return _views(office, tx, tasks.newest(tx, wanted, limit=limit, offset=offset))


def stats(tx: Tx, tenant_id: str | None) -> Stats:
    """How many of the newest tasks are in each state."""
    by_state = dict.fromkeys(STATES, 0)
    by_handler: dict[str, dict[str, int]] = {}
    for row in tasks.counts(tx, tenant_id):
        by_state[row.state] += row.n
        by_handler.setdefault(row.handler, {})[row.state] = row.n
    active = {row.worker_id: None for row in tasks.in_flight(tx, tenant_id)}
    return Stats(by_state, by_handler, tuple(active))


def attempts(tx: Tx, task_id: UUID, *, tenant_id: str | None, limit: int) -> list[Row]:
    """What happened to a task, the oldest first. Raises NotFound."""
    row = steps.step_by_id(tx, task_id)
    if row is None or (tenant_id is not None and row.tenant_id != tenant_id):
        raise NotFound(f"task {task_id}")
    return task_events.events_of(tx, row.instance_id, task_id, limit)


def offered(office: Office, tx: Tx, instance_id: UUID, node_key: str) -> TaskView | None:
    """The task, if it can be taken now, or when its instance is resumed."""
    row = next(iter(steps.read_steps(tx, [(instance_id, node_key)])), None)
    if row is None or row.waits_for != PULLED or row.state != StepState.WAITING:
        return None
    return _views(office, tx, [Listed(row, PENDING)])[0]


def _views(office: Office, tx: Tx, found: list[Listed]) -> list[TaskView]:
    read, moment = instances.read_now(tx, {each.row.instance_id for each in found})
    views = [TaskView(each.row, each.state) for each in found]
    works = []
    for view in views:
        instance = read.get(view.row.instance_id)
        if instance is None:
            continue
        seen = view.row.context_version if view.row.dispatches else None
        run = office.run(tx, instance.but(context_version=seen or instance.context_version), moment)
        run.known.values[StepRef(view.row.key)] = view.row
        works.append((run, partial(_render, view=view)))
    office.loader.carry_out(tx, works)
    return views


def _render(run: Run, *, view: TaskView) -> None:
    if view.row.block_id not in run.index:  # its instance has gone to another version since
        return
    row = view.row.copy()
    # As if nothing were known of the attempt yet: what is told must not depend on how it went.
    row.fingerprint = row.outcome = row.fence = None
    request = prepare(run, row, Limits(), calls=True).request
    timeout = getattr(run.block(row), "timeout", None)
    view.timeout_ms = round(timeout * 1000) if timeout else None
    if request is not None:
        view.params, view.context, view.outputs = request.params, request.context, request.outputs


def heard_at(row: StepRow, lease: float) -> datetime | None:
    """When the worker that has the task was heard of last; ``lease`` is how long, in seconds, it
    has the task after that.
    """
    return None if row.lease_until is None else row.lease_until - timedelta(seconds=lease)
