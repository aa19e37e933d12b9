"""sub_sequence and start_sequence: steps that start other instances."""

from __future__ import annotations

from typing import Any, Final, NamedTuple
from uuid import UUID

from orch8.blocks.sub_sequence import SubSequence
from orch8.engine.events import Started
from orch8.engine.lifecycle import StepState
from orch8.engine.outcome import COMPLETED, Outcome, Status, Verdict, failed
from orch8.engine.scope import STATE, Part
from orch8.errors import BusinessKeyTaken, ExpressionError, InvalidArgument
from orch8.runtime import identity
from orch8.runtime.errand import RECHECK, Errand
from orch8.runtime.library import Published
from orch8.runtime.run import CHILD, Run
from orch8.runtime.sandbox import marked
from orch8.runtime.zone import zone_of
from orch8.storage.rows import InstanceRow, StepRow

MAX_DEPTH: Final = 16  # of sub-sequences within each other (CONTRACT 12.7)


def sub_sequence(run: Run, row: StepRow, params: Any) -> None:
    """sub_sequence: starts the child once, then waits for its end, which is this step's end."""
    block = run.block(row)
    assert isinstance(block, SubSequence)
    if row.progress is None:
        if run.row.depth >= MAX_DEPTH:
            run.end(
                row,
                failed(f"more than {MAX_DEPTH} sub-sequences within each other", code="too_deep"),
            )
            return
        child = spawn(run, row, block.sequence_name, block.version, params, parent=True)
        if child is None:
            return
        row.progress = {"child": str(child.id)}
        row.state, row.waits_for, row.claimed_by = StepState.WAITING, CHILD, None
        row.due_at = row.held_due_at = None
        return
    ended = run.known.get(Part(f"child:{row.progress['child']}"))
    if ended is None or ended["state"] not in ("completed", "failed", "cancelled"):
        row.state, row.waits_for, row.claimed_by = StepState.WAITING, CHILD, None
        row.due_at = row.held_due_at = None
        if run.cancelling(
            row.key
        ):  # the child is cancelled first; looked at again in case that is lost
            run.errands.append(
                Errand(
                    to=UUID(row.progress["child"]), tenant_id=row.tenant_id, control="cancel",
                    dedupe_key=f"cancel:{row.id}", reason="the parent was cancelled",
                )
            )  # fmt: skip
            run.schedule(row, run.now + RECHECK)
        return
    if ended["state"] == "completed":
        run.end(row, COMPLETED, output=ended["outputs"], verdict=Verdict.SUCCEEDED)
    elif run.cancelling(row.key) and ended["state"] == "cancelled":
        run.end(row, Outcome(Status.CANCELLED))
    else:
        error = {
            "message": f"child instance {ended['state']}",
            "code": "child",
            "details": ended["error"],
        }
        run.end(row, Outcome(Status.FAILED, error))


def start_sequence(run: Run, row: StepRow, params: Any) -> None:
    """start_sequence: starts an independent instance and goes on."""
    given = params or {}
    name = given.get("sequence_name") or given.get("sequence")
    if not isinstance(name, str):
        raise ExpressionError(f"start_sequence: sequence came to {name!r}; it must be a name")
    child = spawn(run, row, name, given.get("version"), given.get("input"), parent=False)
    if child is not None:
        output: dict[str, Any] = {"instance_id": str(child.id), "sequence": name}
        if child.existing:
            output["deduplicated"] = True
        run.end(row, COMPLETED, output=output, verdict=Verdict.SUCCEEDED)


class Child(NamedTuple):
    """The instance that a step asked for: a new one, or the one that has its business key."""

    id: UUID
    existing: bool = False


def spawn(
    run: Run, row: StepRow, name: str, version: int | None, data: Any, *, parent: bool
) -> Child | None:
    """A new instance in the same transaction; None, and the step failed, without a sequence or
    with its business key taken. An instance that lives on its own may be an existing one; nobody's
    child is.
    """
    published: Published | None = run.known.get(Part(f"sequence:{name}:{version or ''}"))
    if published is None:
        run.end(row, failed(f"there is no sequence {name!r}", code="unknown_sequence"))
        return None
    mine = run.row
    origin: dict[str, Any] = {
        "_parent_block_id": row.block_id, "_parent_instance_id": str(mine.id),
    }  # fmt: skip
    if parent:
        origin["_sub_sequence_depth"] = mine.depth + 1
    return bear(
        run, row, published, data if data is not None else {}, lane=mine.lane,
        priority=mine.priority, parent_instance_id=mine.id if parent else None,
        parent_node_key=row.node_key if parent else None, depth=mine.depth + 1 if parent else 0,
        session_id=mine.session_id, metadata=origin,
    )  # fmt: skip


def bear(
    run: Run, row: StepRow, published: Published, data: Any, *, lane: str, priority: str,
    **members: Any,
) -> Child | None:  # fmt: skip
    """A new instance of this version in the same transaction, with ``members`` of its row as given;
    None, and the step failed, as of spawn. A dry run bears dry runs.
    """
    mine = run.row
    context = marked({"data": data, "config": {}}, dry_run=mine.dry_run)
    try:
        own = published.sequence.body.get("timezone")
        timezone = zone_of(published, context, run.moment, mine.timezone if own is None else None)
    except InvalidArgument as problem:
        run.end(row, failed(problem.detail, code=problem.code))
        return None
    child = Run(
        run.around,
        InstanceRow(
            id=run.around.new_id(), tenant_id=mine.tenant_id, namespace=published.namespace,
            sequence_id=published.id, state="scheduled", snapshot={"f": {}}, lane=lane,
            priority=priority, timezone=timezone, created_at=run.now, updated_at=run.now,
            dry_run=mine.dry_run, **members,
        ),
        published, run.moment, created=True,
    )  # fmt: skip
    child.known.values |= {Part("context"): context, STATE: {}}
    child.known.complete = True  # it is not stored yet, so there is nothing to load
    try:
        identity.claim(child, run.known, run.children)
    except BusinessKeyTaken as taken:
        unique, holder = published.sequence.unique, identity.holder_of(taken)
        alone = child.row.parent_instance_id is None
        if holder is not None and unique is not None and unique.returns_existing and alone:
            return Child(holder, existing=True)
        run.end(row, failed(taken.detail, code=taken.code, details=taken.extra))
        return None
    child.fire(Started())
    child.audit("instance.created", "success", actor=f"instance:{mine.id}")
    run.changes.contexts.append((child.row.id, 1, mine.tenant_id, context))
    run.children.append(child)
    return Child(child.row.id)
