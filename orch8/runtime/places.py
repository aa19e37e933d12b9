"""places: an instance with a concurrency key goes on only while it has a place in flight."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from orch8.blocks.interrupt import SLA
from orch8.engine.lifecycle import StepState
from orch8.storage import places
from orch8.storage.places import PLACE, PULLED, Place
from orch8.storage.rows import InstanceRow, StepRow
from orch8.storage.transaction import Tx

KEY: Final = "concurrency_key"
MOST: Final = "max_concurrency"


def place_of(row: InstanceRow) -> Place | None:
    """The place that an instance needs in order to run, if it needs one."""
    terms: Mapping[str, Any] | None = row.terms
    if terms is None or KEY not in terms:
        return None
    return Place(row.id, row.tenant_id, terms[KEY], terms.get(MOST))


def stand_back(
    tx: Tx, instances: Mapping[UUID, InstanceRow], rows: Sequence[StepRow]
) -> list[StepRow]:
    """Those of the due rows whose instances have no place yet: they are scheduled, without a time,
    until their instance is given one. The instances of all others have theirs once the transaction
    commits.

    The clock of a run and questions about an attempt need no place.
    """
    if all(instances[row.instance_id].terms is None for row in rows):
        return []
    wanted: dict[UUID, Place] = {}
    steps: dict[UUID, list[StepRow]] = defaultdict(list)
    for row in rows:
        place = place_of(instances[row.instance_id])
        if place is not None and row.asking is None and row.block_id != SLA:
            wanted[row.instance_id] = place
            steps[row.instance_id].append(row)
    if not wanted:
        return []
    have = places.holders(tx, wanted)
    asking = [place for each, place in wanted.items() if each not in have]
    if asking:
        have |= places.ask(tx, asking)
    behind = []
    for instance_id, own in steps.items():
        for row in own:
            if instance_id not in have:
                row.state, row.waits_for, row.due_at = StepState.SCHEDULED, PLACE, None
                behind.append(row)
            elif row.waits_for == PLACE:
                row.waits_for = PULLED if row.pull else None
    return behind
