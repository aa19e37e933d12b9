"""alarms: steps that take longer than their sequence promises are told of, once for each block."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

import structlog

from orch8.blocks.interrupt import SLA
from orch8.engine.expressions.values import timestamp
from orch8.engine.lifecycle import LIVE, StepState
from orch8.runtime import notices
from orch8.storage import alarms, instances, steps
from orch8.storage.alarms import Alarm
from orch8.storage.changes import Changes, write
from orch8.storage.places import PLACE
from orch8.storage.rows import Moment, StepRow
from orch8.storage.traces import is_traced

if TYPE_CHECKING:
    from orch8.runtime.office import Office
    from orch8.runtime.run import Run
    from orch8.storage.transaction import Tx

log = structlog.get_logger(__name__)

PER_PASS: Final = 200  # alarms that one tick looks at
STEP: Final = "step"
SCOPE: Final = "_sla:step:"  # what a step's alert is called among the outputs
BREACHED: Final = "step.sla_breached"


def arm(run: Run, rows: Iterable[StepRow]) -> None:
    """The steps that were entered and have not ended are looked at when they should have."""
    longest = longest_step(run)
    if longest is None:
        return
    for row in rows:
        if row.state in LIVE and row.block_id != SLA:
            since = row.due_at or row.held_due_at or run.now
            alarm = Alarm(row.instance_id, row.node_key, since, since + longest)
            run.changes.alarms.append(alarm)


def longest_step(run: Run) -> timedelta | None:
    """How long a step of the run may take before it is told of; None if nobody said."""
    found: timedelta | None = getattr(run.index.root, "longest_step", None)
    return found


def ring(office: Office) -> int:
    """Alarms that are due, at most PER_PASS of them, have been looked into: steps that are still at
    it are told of, those that have not begun are looked at later. How many alarms there were.
    """
    with office.begin() as tx:
        due = alarms.due(tx, PER_PASS)
        if due:
            _look(office, tx, due)
    return len(due)


def _look(office: Office, tx: Tx, due: list[Alarm]) -> None:
    ids = {alarm.instance_id for alarm in due}
    found, moment = instances.read_now(tx, ids)
    keys = [(alarm.instance_id, alarm.node_key) for alarm in due]
    rows = {(row.instance_id, row.node_key): row for row in steps.read_steps(tx, keys)}
    alarms.done(tx, due)
    changes = Changes()
    told: set[tuple[UUID, str]] = set()
    for alarm in due:
        row = rows.get((alarm.instance_id, alarm.node_key))
        if row is None or row.state not in LIVE or alarm.instance_id not in found:
            continue
        run = office.run(tx, found[alarm.instance_id], moment)
        longest = longest_step(run)
        if longest is None:  # it goes on by another version, which promises nothing
            continue
        since = _begins(row, moment) or alarm.since
        scope = alarm.instance_id, row.block_id
        if since + longest > moment.at:
            changes.alarms.append(replace(alarm, since=since, due_at=since + longest))
        elif scope not in told and not is_traced(tx, alarm.instance_id, SCOPE + row.block_id):
            told.add(scope)
            _tell(run, row, alarm.since, longest)
            changes.extend(run.changes)
    write(tx, changes)


def _begins(row: StepRow, moment: Moment) -> datetime | None:
    """When a step begins that has not begun yet; None of one that has."""
    if row.dispatches or row.failures or row.state != StepState.SCHEDULED:
        return None
    if row.waits_for == PLACE:
        return moment.at
    due = row.due_at or row.held_due_at
    return due if due is not None and due > moment.at else None


def _tell(run: Run, row: StepRow, since: datetime, longest: timedelta) -> None:
    mark = {"_sla_breach": STEP, "_alerted_at": timestamp(run.now)}
    run.trace(SCOPE + row.block_id, mark)
    run.audit(BREACHED, "failed", row, body={"started_at": since.isoformat()})
    notices.breached(run, STEP, longest, run.now - since, row.block_id)
    log.warning("step.sla_breached", instance_id=str(run.row.id), step=row.node_key)
