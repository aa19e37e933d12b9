"""approvals: which steps wait for a person's answer, and what each is asked. Reads only."""

from __future__ import annotations

from typing import Any, Final

from orch8.blocks.approval import Approval
from orch8.engine.keys import unescape_id
from orch8.runtime.consent import ASKED
from orch8.runtime.office import Office
from orch8.storage import approvals
from orch8.storage.approvals import Wanted
from orch8.storage.transaction import Row, Tx

_NOTHING: Final = Approval()


def pending(
    office: Office, tx: Tx, wanted: Wanted, *, limit: int, offset: int = 0
) -> list[dict[str, Any]]:
    """Every step that waits for an answer, the longest asked first, as clients read it (CONTRACT
    16), and its node key.
    """
    rows = approvals.waiting(tx, wanted, limit=limit, offset=offset)
    return [_shown(office, tx, row) for row in rows]


def _shown(office: Office, tx: Tx, row: Row) -> dict[str, Any]:
    published = office.library.get(tx, row.sequence_id)
    approval = getattr(published.sequence.index[row.block_id], "approval", None) or _NOTHING
    asked = row.progress[ASKED]
    timeout = approval.timeout
    return {
        "instance_id": row.instance_id,
        "node_key": row.node_key,
        "tenant_id": row.tenant_id,
        "namespace": row.namespace,
        "sequence_id": row.sequence_id,
        "sequence_name": published.name,
        "block_id": unescape_id(row.block_id),
        "prompt": approval.prompt,
        "choices": [{"label": each.label, "value": each.value} for each in approval.choices],
        "store_as": approval.store_as,
        "timeout_seconds": None if timeout is None else int(timeout),
        "escalation_handler": approval.escalation_handler,
        "waiting_since": asked["at"],
        "deadline": asked["until"],
        "metadata": row.metadata,
        "allow_comment": approval.allow_comment,
    }
