"""journal: what happened to an instance, as lines of a log and as its changes of state.

Reads only: both are made from the audit log, the steps and what pull workers reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from orch8.engine.keys import NodeKey
from orch8.engine.lifecycle import InstanceState as State
from orch8.runtime import inspect, tasklogs
from orch8.runtime.marks import is_output
from orch8.storage import audit, steps
from orch8.storage.rows import StepRow
from orch8.storage.transaction import Row, Tx

# What the audit log calls a change of an instance's state, and the state that it leads to.
_CHANGES: Final[Mapping[str, State]] = {
    "instance.created": State.SCHEDULED,
    "instance.paused": State.PAUSED,
    "instance.resumed": State.SCHEDULED,
    "instance.held": State.WAITING,
    "instance.released": State.SCHEDULED,
    "instance.retried": State.SCHEDULED,
    "instance.resumed_from": State.SCHEDULED,
    "instance.completed": State.COMPLETED,
    "instance.failed": State.FAILED,
    "instance.cancelled": State.CANCELLED,
}
_ACTIONS: Final[Mapping[str, str]] = {
    "pause": "instance.paused", "resume": "instance.resumed", "retry": "instance.retried",
}  # fmt: skip
_ERRORS: Final = frozenset({"step.failed", "step.parked"})
_FINE: Final = frozenset({"step.completed", "step.cancelled"})
_OWN: Final = "log"  # the handler whose message is the author's


class Line(NamedTuple):
    """A line of the log."""

    block_id: str | None
    ts: datetime
    level: str
    message: Any


@dataclass(frozen=True, slots=True)
class Page:
    """Steps of an instance that ended, in the order in which they were entered."""

    rows: tuple[StepRow, ...]
    more: bool


def logs(tx: Tx, instance_id: UUID, *, tenant_id: str | None, limit: int) -> list[Line]:
    """What became of each attempt of the instance's steps, and the lines that pull workers reported
    with them, the oldest first; a ``log`` step says its message instead.
    """
    inspect.shown(tx, instance_id, tenant_id=tenant_id)
    said = {
        row.node_key: row.output
        for row in steps.steps_of(tx, instance_id, limit=limit)
        if row.handler == _OWN and row.state == "completed"
    }
    entries = audit.audit_of(tx, instance_id, limit=limit)
    lines = [_line(entry, said) for entry in entries if entry.node_key is not None]
    lines += (Line(*reported) for reported in tasklogs.said(tx, instance_id, limit))
    return sorted(lines, key=lambda line: line.ts)[:limit]


def transitions(entries: Iterable[Row]) -> Iterator[dict[str, Any]]:
    """The changes of state among the entries of an instance's audit log. A state that it only
    passed through, running or waiting, is not in the audit log.
    """
    before = None
    for entry in entries:
        action = entry.action
        if action == "batch_action":
            action = _ACTIONS.get((entry.body or {}).get("action", ""), action)
        after = _CHANGES.get(action)
        if after is not None:
            yield {"from_state": before, "to_state": after.value, "at": entry.at}
            before = after.value


def ended(tx: Tx, instance_id: UUID, *, offset: int, limit: int) -> Page:
    """A page of the steps that were entered; those that have not ended are left out of it."""
    rows = steps.steps_of(tx, instance_id, limit=limit + 1, offset=offset)
    done = (row for row in rows[:limit] if row.finished_at is not None and is_output(row))
    return Page(tuple(done), len(rows) > limit)


def _line(entry: Row, said: Mapping[str, Any]) -> Line:
    block_id = NodeKey.parse(entry.node_key).block_id
    if entry.action == "step.completed" and entry.node_key in said:
        return Line(block_id, entry.at, "info", (said[entry.node_key] or {}).get("message"))
    level = "error" if entry.action in _ERRORS else "info" if entry.action in _FINE else "warn"
    message = f"{entry.action}: {entry.outcome}" + (f": {entry.reason}" if entry.reason else "")
    return Line(block_id, entry.at, level, message)
