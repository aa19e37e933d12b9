"""repoint: an instance goes on by another version of its sequence, from where it is."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from orch8.blocks.step import Step
from orch8.engine.block import Block
from orch8.engine.lifecycle import ENDED
from orch8.engine.snapshot import Snapshot
from orch8.engine.transplant import Misfit, transplant
from orch8.errors import Conflict, Forbidden, InvalidArgument
from orch8.runtime.because import Because
from orch8.runtime.derive import Version, derived, injected_of
from orch8.runtime.library import Published
from orch8.runtime.office import Office, only
from orch8.storage import derived as derived_versions
from orch8.storage import instances
from orch8.storage.transaction import Tx

_BESIDE: Final = "@"  # in the ids of what the engine puts around blocks


def repoint(
    office: Office, tx: Tx, instance_id: UUID, target_id: UUID, because: Because, *,
    tenant_id: str | None,
) -> tuple[Published, Published]:  # fmt: skip
    """The instance runs by the target from its next transition on, and then by what was injected
    into it; what it did stays done. The version it ran by and the target.

    Raises NotFound for either, Forbidden for another tenant's target, InvalidArgument when the
    instance has ended, and Conflict when the target has no place for where it is.
    """
    found, _ = instances.lock_instances(tx, [instance_id])
    row = only(found, instance_id, tenant_id)
    target, _ = office.library.standing_now(tx, target_id)
    if target.tenant_id != row.tenant_id:
        raise Forbidden(f"sequence {target_id} is another tenant's")
    if row.state in ENDED:
        raise InvalidArgument(f"instance {instance_id} has ended: it is {row.state}")
    before = office.library.get(tx, row.sequence_id)
    goal = _with_injected(before, target)
    snapshot = Snapshot.from_json(row.snapshot)
    try:
        moved = transplant(snapshot, before.sequence.index, goal.published.sequence.index)
        for key in moved.frames:
            index = goal.published.sequence.index
            _check_call(before.sequence.index[key.block_id], index[key.block_id])
    except Misfit as misfit:
        raise Conflict(
            f"instance {instance_id} cannot go on by version {target.version} of {target.name!r}: "
            f"{str(misfit).replace(_BESIDE, '')}"
        ) from None
    if goal.row is not None:
        derived_versions.put(tx, goal.row)
    instances.repoint(tx, instance_id, goal.published.id, moved.to_json())
    body = {
        "from_sequence_id": str(before.shown_id), "to_sequence_id": str(target.id),
        "from_version": before.version, "to_version": target.version, "name": target.name,
    }  # fmt: skip
    because.note(tx, row.tenant_id, "instance.migrated", body, instance_id)
    return before, target


def _with_injected(before: Published, target: Published) -> Version:
    """The target, with what was injected into the instance behind its own blocks."""
    injected = injected_of(before)
    if not injected:
        return Version(target, None)
    try:
        return derived(target, injected)
    except InvalidArgument as refused:
        raise Conflict(
            f"what was injected into the instance does not fit behind version {target.version} of "
            f"{target.name!r}: {refused.detail}"
        ) from refused


def _check_call(was: Block, now: Block) -> None:
    """A step that the instance is at calls the same handler, with the same effect: its attempt may
    be on its way.
    """
    if not isinstance(was, Step) or not isinstance(now, Step):
        return
    if (was.handler, was.effect, was.provider) != (now.handler, now.effect, now.provider):
        raise Misfit(f"step {was.id!r}, where the instance is, calls something else there")
