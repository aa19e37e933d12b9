"""pinned: whether a task waits because the workers that poll for it are below a version pin."""

from __future__ import annotations

from collections.abc import Sequence

from orch8.runtime import pins
from orch8.runtime.finding import Confidence, Health, Remedy, Severity, Sign
from orch8.storage import commands
from orch8.storage.rows import StepRow
from orch8.storage.transaction import Row, Tx

MOST_SHOWN = 10


def below_pin(tx: Tx, row: StepRow, workers: Sequence[Row]) -> dict[str, object] | None:
    """The finding's members if every one of the workers, which poll for the offered step's handler,
    is below its pin; else None.
    """
    handler = row.asking or row.handler
    minimum = commands.pinned(tx, row.tenant_id, handler)
    if minimum is None or any(not pins.below(worker.version, minimum) for worker in workers):
        return None
    seen = {worker.worker_id: worker.version for worker in workers[:MOST_SHOWN]}
    update = Remedy(
        f"update the workers of {handler!r} to {minimum} or later, or delete the version pin"
    )
    return {
        "code": "WORKER_BELOW_VERSION_PIN",
        "summary": f"step {row.node_key!r} waits: the workers that poll for handler {handler!r} "
        f"are below the version {minimum}, which is pinned",
        "health": Health.DEGRADED,
        "severity": Severity.ERROR,
        "confidence": Confidence.HIGH,
        "evidence": (Sign("versions", f"at least {minimum} is pinned", seen),),
        "remedies": (update,),
    }
