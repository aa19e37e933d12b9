"""One simulated instance as a test looks at it: state, outputs, calls, timeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import Any, NoReturn
from uuid import UUID

from orch8.engine.keys import unescape_id
from orch8.storage.rows import AuditEntry, InstanceRow, StepRow
from orch8.testing.driver import Call, Driver
from orch8.testing.store import through_json


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One line of an instance's history, as the audit log has it."""

    at: datetime
    action: str
    outcome: str
    actor: str
    step: str | None
    reason: str | None
    body: Any

    def __str__(self) -> str:
        said = [f"{self.at:%Y-%m-%d %H:%M:%S}", self.action, self.step or "-", self.outcome]
        return "  ".join(said if self.reason is None else [*said, self.reason])


class Outputs(dict[str, Any]):
    """What the completed steps put out, by step id (the last one of a loop) and by node key."""

    def __missing__(self, name: str) -> NoReturn:
        near = get_close_matches(name, self, n=1)
        meant = f", perhaps {near[0]!r}" if near else ""
        raise KeyError(
            f"no step {name!r} has completed{meant}; completed: {', '.join(self) or 'none'}"
        )


class SimInstance:
    """An instance of a simulation. It always shows how things stand now."""

    def __init__(self, driver: Driver, instance_id: UUID) -> None:
        self._driver, self.id = driver, instance_id

    @property
    def row(self) -> InstanceRow:
        """The instance's row, as it would be in the database."""
        return self._driver.store.instances[self.id]

    @property
    def sequence(self) -> str:
        """The name of its sequence."""
        return self._driver.store.sequences[self.row.sequence_id].name

    @property
    def state(self) -> str:
        """scheduled, running, waiting, paused, completed, failed or cancelled."""
        return self.row.state

    @property
    def outcome(self) -> str | None:
        """The name under which an ``end`` block finished it."""
        return self.row.outcome

    @property
    def error(self) -> Mapping[str, Any] | None:
        """Why it failed: {"message", "code"?, "details"?}."""
        error: Mapping[str, Any] | None = self.row.error
        return error

    @property
    def attention(self) -> Mapping[str, Any] | None:
        """Why it needs a person, and which step does: {"reason", "since", "node_key"}."""
        attention: Mapping[str, Any] | None = self.row.attention
        return attention

    @property
    def context(self) -> Any:
        """A copy of its present context."""
        return through_json(self._driver.store.context(self.row))

    @property
    def outputs(self) -> Outputs:
        """What its completed steps put out: ``outputs["charge"]``, ``outputs["submit[2]"]``."""
        found = Outputs()
        for row in self.steps:
            if row.state == "completed" and not (row.handler == "@memo" and "@" in row.block_id):
                output = through_json(row.output)
                found[unescape_id(row.block_id)] = found[row.node_key] = output
        return found

    @property
    def steps(self) -> list[StepRow]:
        """The rows of the entered steps, in that order, as the database would have them."""
        return self._driver.store.steps_of(self.id)

    @property
    def calls(self) -> list[Call]:
        """The calls of handlers that it made, in order."""
        return [call for call in self._driver.calls if call.instance_id == self.id]

    @property
    def timeline(self) -> list[TimelineEntry]:
        """What happened to it, in order."""
        return [_line(at, entry) for at, entry in self._driver.store.audit[self.id]]

    @property
    def children(self) -> list[SimInstance]:
        """The instances that its ``sub_sequence`` blocks started, in order."""
        rows = self._driver.store.instances.values()
        return [SimInstance(self._driver, r.id) for r in rows if r.parent_instance_id == self.id]

    @property
    def next_due(self) -> datetime | None:
        """When it moves next of itself; None while it is paused, waits for word, or has ended."""
        return self._driver.next_at(self.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SimInstance) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        due = self.next_due
        then = f", next due {due.isoformat()}" if due is not None else ""
        lines = "".join(f"\n  {entry}" for entry in self.timeline)
        return f"<{self.sequence} {self.id}: {self.state}{then}>{lines}"


def _line(at: datetime, entry: AuditEntry) -> TimelineEntry:
    return TimelineEntry(
        at, entry.action, entry.outcome, entry.actor, entry.node_key, entry.reason,
        through_json(entry.body),
    )  # fmt: skip
