"""Approvals: the steps that wait for a person's answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from orch8.engine.lifecycle import OPEN, InstanceState
from orch8.storage.transaction import Row, Tx

_STATES: Final = sorted(OPEN - {InstanceState.PAUSED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which approvals a list shows; None leaves a member open."""

    tenant_id: str | None = None
    namespace: str | None = None
    instance_id: UUID | None = None


def waiting(tx: Tx, wanted: Wanted, *, limit: int, offset: int = 0) -> list[Row]:
    """Steps that wait for an answer, the longest asked first, with what is known of their
    instances. Of a paused instance none.
    """
    narrowed = {
        "tenant_id": "s.tenant_id", "namespace": "i.namespace", "instance_id": "s.instance_id",
    }  # fmt: skip
    where = [
        f"AND {column} = %({name})s"
        for name, column in narrowed.items()
        if getattr(wanted, name) is not None
    ]
    sql = f"""
    SELECT s.instance_id, s.node_key, s.block_id, s.tenant_id, s.progress, i.namespace,
        i.sequence_id, i.metadata
    FROM steps s JOIN instances i ON i.id = s.instance_id
    WHERE s.waits_for = 'approval' AND s.state = 'waiting' AND i.state = ANY(%(states)s)
        {" ".join(where)}
    ORDER BY s.tenant_id, s.id LIMIT %(limit)s OFFSET %(offset)s"""
    given = {name: getattr(wanted, name) for name in narrowed}
    return tx.rows(sql, {**given, "states": _STATES, "limit": limit, "offset": offset})
