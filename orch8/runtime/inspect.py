"""inspect: what an instance is doing, did, and why. Reads only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any
from uuid import UUID

from orch8.engine.lifecycle import StepState
from orch8.engine.snapshot import Snapshot
from orch8.errors import NotFound
from orch8.runtime.library import Published
from orch8.runtime.marks import Iterations, Mark, is_output, iterates
from orch8.runtime.office import Office, only
from orch8.runtime.performing import BREACHED
from orch8.storage import audit, collections, instances, signals, steps, traces
from orch8.storage.rows import StepRow
from orch8.storage.transaction import Row, Tx

Shown = StepRow | Row | Mark  # a step that ended, a trace, or what a loop leaves


def shown(tx: Tx, instance_id: UUID, *, tenant_id: str | None) -> Row:
    """One instance as lists show it."""
    row = instances.shown_instance(tx, instance_id)
    if row is None or (tenant_id is not None and row.tenant_id != tenant_id):
        raise NotFound(f"instance {instance_id}")
    return row


def outputs(
    office: Office, tx: Tx, instance_id: UUID, *, tenant_id: str | None, limit: int = 1000
) -> list[Shown]:
    """The steps of an instance that completed, the oldest first, with their outputs, and among them
    the traces and what loops leave. Also those whose deadline passed; of a sequence that is one
    list of steps also the one that failed, until it is tried again.
    """
    row = only(instances.read_instances(tx, [instance_id]), instance_id, tenant_id)
    rows = standing(steps.steps_of(tx, instance_id, limit=limit, pages=False))
    last = {(row.block_id, row.path): row.id for row in rows}
    published = office.library.get(tx, row.sequence_id)
    told: list[Row | Mark] = list(traces.traces_of(tx, instance_id, limit))
    if iterates(published.sequence.index):
        iterations = Iterations(instance_id, published.sequence.index)
        iterations.note(rows)
        iterations.collections(collections.last_pages(tx, instance_id))
        # Read after the steps: what has begun by then is known to be live.
        row = instances.read_instances(tx, [instance_id]).get(instance_id, row)
        told += iterations.marks(Snapshot.from_json(row.snapshot))
    ended = [row for row in rows if is_told(row, published)]
    newest = [
        row
        for row in ended
        if row.state == StepState.COMPLETED
        or _is_breach(row)
        or last[row.block_id, row.path] == row.id
    ]
    return in_order(newest, told)


def standing(rows: Iterable[StepRow]) -> list[StepRow]:
    """The rows without those that the instance was taken back behind."""
    return [row for row in rows if row.state != StepState.SUPERSEDED]


def _is_breach(row: StepRow) -> bool:
    """Whether the step failed because its deadline passed, which its output tells of."""
    output = row.output
    return isinstance(output, dict) and output.get("_error") == BREACHED


def is_told(row: StepRow, published: Published) -> bool:
    """Whether a row that ended stands among the outputs: it completed, or its deadline passed; or
    else it failed, where every block is a step. A hook is told of if it went well.
    """
    failed = published.flat and row.state == StepState.FAILED and "/" not in row.block_id
    told = row.state == StepState.COMPLETED or failed or _is_breach(row)
    return told and is_output(row)


def in_order(ended: Sequence[StepRow], told: Sequence[Row | Mark]) -> list[Shown]:
    """What steps put out, and what is told beside it, the oldest first. What is of one moment is in
    the order in which it was entered, marks beside what they are of, traces around all of it.
    """
    places: list[tuple[Any, int, UUID, int, Shown]] = [
        (row.finished_at, 0, row.id, 0, row) for row in ended
    ]
    for each in told:
        side = 1 if each.after else -1
        if isinstance(each, Mark):
            places.append((each.created_at, 0, each.beside, side, each))
        else:
            places.append((each.created_at, side, each.id, 0, each))
    return [place[-1] for place in sorted(places, key=itemgetter(0, 1, 2, 3))]


def timeline(
    tx: Tx, instance_id: UUID, *, tenant_id: str | None, limit: int = 1000
) -> dict[str, Any]:
    """What happened to an instance, in order: who did what, when, and why; and the evidence."""
    row = shown(tx, instance_id, tenant_id=tenant_id)
    return {
        "instance": row,
        "entries": audit.audit_of(tx, instance_id, limit=limit),
        "evidence": audit.evidence_of(tx, instance_id, limit=limit),
        "signals": signals.signals_of(tx, instance_id, limit=limit),
    }
