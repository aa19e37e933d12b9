"""because: who asks for something, in which request, and why; what audit entries are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from orch8.storage.changes import Changes, write
from orch8.storage.rows import AuditEntry
from orch8.storage.transaction import Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class Because:
    """Who asks for something, in which request, and perhaps why."""

    actor: str
    request_id: str | None = None
    reason: str | None = None

    def note(
        self, tx: Tx, tenant_id: str, action: str, body: Mapping[str, Any],
        instance_id: UUID | None = None,
    ) -> None:  # fmt: skip
        """The tenant's audit log tells that it was done, perhaps to an instance."""
        entry = AuditEntry(
            tenant_id, self.actor, action, "success", instance_id,
            reason=self.reason, request_id=self.request_id, body=body,
        )  # fmt: skip
        write(tx, Changes(audit=[entry]))
