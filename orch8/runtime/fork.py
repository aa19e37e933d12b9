"""fork: another instance does what an instance did, up to a block, without doing it, and goes on
from there: as a dry run, unless it is meant for real.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from orch8.engine.events import Retried
from orch8.engine.keys import NodeKey
from orch8.engine.outcome import failed
from orch8.engine.rewind import rewound
from orch8.engine.scope import CONTEXT, STATE
from orch8.errors import Conflict
from orch8.runtime import identity
from orch8.runtime.because import Because
from orch8.runtime.derive import main_of
from orch8.runtime.office import Office, only
from orch8.runtime.rerun import Cut, Wish, check_effects, cut_at, merged, only_of, send
from orch8.runtime.run import Run
from orch8.runtime.sandbox import marked
from orch8.runtime.start import lanes_of
from orch8.storage import instances, steps
from orch8.storage.changes import write
from orch8.storage.rows import InstanceRow, Moment, StepRow, with_outcome
from orch8.storage.transaction import Tx

MOST_STEPS: Final = 10_000  # of an instance that can be forked


@dataclass(frozen=True, slots=True)
class Forked:
    """The new instance, where its blocks are from, and where there is work."""

    id: UUID
    cut: Cut
    lanes: tuple[str, ...]


def fork(
    office: Office, tx: Tx, instance_id: UUID, wish: Wish, because: Because, *, dry_run: bool,
    tenant_id: str | None,
) -> Forked:  # fmt: skip
    """There is an instance with the same version, context and kept state, and with what the blocks
    before the named one came to; it goes on from that block, under keys of its own.

    Raises NotFound, InvalidArgument and Conflict as rerun says; for a real fork of a dry run, too.
    """
    found, moment = instances.lock_instances(tx, [instance_id])
    origin = only(found, instance_id, tenant_id)
    if origin.dry_run and not dry_run:
        raise Conflict(
            f"instance {instance_id} is a dry run: what its steps put out is made up, and nothing "
            "real can go on from there"
        )
    cut = cut_at(tx, origin, office.library.get(tx, origin.sequence_id), wish.block_id)
    if not dry_run:
        check_effects(tx, origin, cut, acknowledged=wish.acknowledged)
    run = _newborn(office, tx, origin, moment, wish, dry_run=dry_run)
    copied = _copies(tx, run, origin, cut)
    told = {"forked_from": str(origin.id), "block": wish.block_id, "dry_run": dry_run}
    office.loader.carry_out(tx, [(run, lambda run: _begin(run, copied, cut, because, told))])
    write(tx, run.collected)
    because.note(
        tx, origin.tenant_id, "instance.forked",
        {"fork": str(run.row.id), "block": wish.block_id, "dry_run": dry_run}, origin.id,
    )  # fmt: skip
    send(office, tx, run.row.id, wish.signals)
    return Forked(run.row.id, cut, tuple(sorted(lanes_of(run))))


def _newborn(
    office: Office, tx: Tx, origin: InstanceRow, moment: Moment, wish: Wish, *, dry_run: bool
) -> Run:
    given = origin.metadata
    metadata = {
        **(given if isinstance(given, Mapping) else {}),
        "forked_from": str(origin.id), "forked_at_block": wish.block_id, "sandbox": dry_run,
    }  # fmt: skip
    row = InstanceRow(
        id=office.around.new_id(), tenant_id=origin.tenant_id, namespace=origin.namespace,
        sequence_id=origin.sequence_id, state="scheduled", snapshot={"f": {}}, lane=origin.lane,
        priority=origin.priority, timezone=origin.timezone, created_at=moment.at,
        updated_at=moment.at, metadata=metadata, fork_id=origin.id, depth=origin.depth,
        session_id=origin.session_id, dry_run=dry_run,
    )  # fmt: skip
    run = office.run(tx, row, moment, created=True)
    version = origin.id, origin.context_version
    context = instances.read_contexts(tx, [version]).get(origin.id, {"data": {}, "config": {}})
    context = merged(context, wish.data, office.settings)
    run.known.values[CONTEXT] = marked(context, dry_run=dry_run)
    run.known.values[STATE] = instances.read_state(tx, [origin.id])[origin.id]
    return run


def _copies(tx: Tx, run: Run, origin: InstanceRow, cut: Cut) -> list[StepRow]:
    """What the blocks before the cut came to, each in its last round, as rows of the new instance.

    Only the memo is copied: the attempt, with its key, its money and its evidence, stays the other
    instance's.
    """
    rows = steps.steps_of(tx, origin.id, limit=MOST_STEPS + 1)
    if len(rows) > MOST_STEPS:
        raise Conflict(
            f"instance {origin.id} has more than {MOST_STEPS} steps and cannot be forked"
        )
    last: dict[tuple[str, tuple[int, ...]], StepRow] = {}
    for row in rows:
        if row.state == "completed" and only_of(row.block_id) in cut.kept:
            before = last.get((row.block_id, row.path))
            if before is None or before.round < row.round:
                last[row.block_id, row.path] = row
    return [_memo(run, row) for row in sorted(last.values(), key=lambda row: row.id)]


def _memo(run: Run, row: StepRow) -> StepRow:
    return StepRow(
        run.row.id, str(NodeKey(row.block_id, row.path)), run.around.new_id(), row.tenant_id,
        row.block_id, row.handler, row.effect, row.state, row.lane, row.created_at, path=row.path,
        outcome=row.outcome, output=row.output, finished_at=row.finished_at,
    )  # fmt: skip


def _begin(
    run: Run, copied: Sequence[StepRow], cut: Cut, because: Because, told: Mapping[str, Any]
) -> None:
    """The work that creates the fork: it enters the block as the first that it runs. Pure."""
    for row in copied:
        seen = with_outcome(row.output, row.outcome, row.created_at, row.finished_at)
        run.known.put_out(row.key, seen)
    run.changes.entered.extend(copied)
    _keep(run, run.known.get(STATE).items())
    chain = main_of(run.index)
    if not run.row.dry_run:  # several may be tried at a time
        identity.claim(run, run.known)
    run.snapshot = rewound(run.index, chain, cut.place, 0, failed("forked", code="forked"))
    run.fire(Retried())
    run.changes.contexts.append((run.row.id, 1, run.row.tenant_id, run.known.get(CONTEXT)))
    run.audit(
        "instance.created", "success", actor=because.actor, reason=because.reason,
        request_id=because.request_id, body=told,
    )  # fmt: skip
    run.collected = run.collect()


def _keep(run: Run, kept: Iterable[tuple[str, Any]]) -> None:
    for key, value in kept:
        run.changes.keep_state(run.row.id, key, run.row.tenant_id, value)
