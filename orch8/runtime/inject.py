"""inject: a person puts blocks behind those of an instance's sequence, for this instance alone."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from orch8.runtime.because import Because
from orch8.runtime.graft import Injected, graft, note
from orch8.runtime.office import Office, only
from orch8.runtime.run import Run
from orch8.runtime.signal import change
from orch8.storage import instances
from orch8.storage.transaction import Tx


def inject(
    office: Office, tx: Tx, instance_id: UUID, blocks: Any, position: int | None, because: Because,
    *, tenant_id: str | None,
) -> Injected:  # fmt: skip
    """The blocks stand at ``position`` among those injected so far, or else behind them. What has
    begun stays before them; what has ended runs them once it runs again: it is retried, resumed
    from a block, or set to scheduled. Raises NotFound, and InvalidArgument for what are no blocks.
    """
    found, moment = instances.lock_instances(tx, [instance_id])
    row = only(found, instance_id, tenant_id)
    made: list[Injected] = []

    def injected(run: Run) -> None:
        made[:] = [graft(run, blocks, position)]
        note(run, made[0], because)

    change(office, tx, row, moment, injected)
    return made[0]
