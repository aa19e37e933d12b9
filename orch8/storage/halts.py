"""Halts: instances that pause by themselves, and what their metadata says of the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from orch8.storage.months import span, within
from orch8.storage.steps import hold_due
from orch8.storage.transaction import Tx, dumps


@dataclass(frozen=True, slots=True)
class Halt:
    """The instance is paused since ``paused_at``; its metadata has these ``marks`` besides."""

    instance_id: UUID
    paused_at: datetime
    marks: Mapping[str, Any]


# Metadata may be any JSON: what is no object is kept under a name.
_MARK: Final = f"""
UPDATE instances i SET paused_at = r.paused_at, metadata = CASE
        WHEN r.marks = '{{}}' THEN i.metadata
        WHEN jsonb_typeof(i.metadata) = 'object' THEN i.metadata || r.marks
        WHEN i.metadata IS NULL OR jsonb_typeof(i.metadata) = 'null' THEN r.marks
        ELSE jsonb_build_object('metadata', i.metadata) || r.marks END
FROM json_to_recordset(%(halts)s::json) AS r(id uuid, paused_at timestamptz, marks jsonb)
WHERE i.id = r.id AND i.finished_at IS NULL AND {within("i.id")}"""


def halt(tx: Tx, halts: Sequence[Halt]) -> None:
    """The instances, which this transaction has written, say since when and why they are paused,
    and nothing of them is claimed until they are resumed; those that ended all the same do not.
    """
    if not halts:
        return
    rows = [
        {"id": each.instance_id, "paused_at": each.paused_at, "marks": each.marks} for each in halts
    ]
    tx.run(_MARK, {"halts": dumps(rows)} | span(each.instance_id for each in halts))
    for each in halts:
        hold_due(tx, each.instance_id)
