"""retry: a failed instance goes on where it failed, in its next round."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any
from uuid import UUID

from orch8.engine.events import Retried
from orch8.errors import InvalidArgument
from orch8.runtime import identity
from orch8.runtime.office import Office, only
from orch8.runtime.run import Run
from orch8.runtime.signal import change
from orch8.storage import instances
from orch8.storage.rows import InstanceRow
from orch8.storage.transaction import Tx


def retry(
    office: Office, tx: Tx, instance_id: UUID, *, tenant_id: str | None, actor: str,
    reason: str | None = None, request_id: str | None = None,
) -> InstanceRow:  # fmt: skip
    """The failed leaves are entered again under keys of a new round; what completed stays completed
    and is never called again. An attempt that surely had no effect keeps its idempotency key.
    """
    found, moment = instances.lock_instances(tx, [instance_id])
    row = only(found, instance_id, tenant_id)
    if row.state != "failed":
        raise InvalidArgument(f"can only retry failed instances, current state: {row.state}")
    work = partial(again, actor=actor, reason=reason, request_id=request_id)
    return change(office, tx, row, moment, work).row


def again(
    run: Run, *, actor: str, reason: str | None = None, request_id: str | None = None,
    noted_as: str = "instance.retried", more: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """The run's failed leaves are entered again, in the next round. Raises BusinessKeyTaken if
    another instance took the business key meanwhile. Pure. The audit log says ``noted_as``, and
    ``more`` besides.
    """
    identity.claim(run, run.known)
    run.row = run.row.but(round=run.row.round + 1)
    run.audit(noted_as, "success", actor=actor, reason=reason, request_id=request_id, body=more)
    run.fire(Retried())
