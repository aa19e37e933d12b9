"""The fences of a simulation: what orch8/storage/fences.py does with SQL, done with a dict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from orch8.storage.fences import Hold
from orch8.storage.rows import AuditEntry, StepRow


@dataclass
class Held:
    """Who has a fence; ``settled``: the step has ended, but its customer still has to act."""

    instance_id: UUID
    node_key: str
    settled: bool = False

    @property
    def at(self) -> tuple[UUID, str]:
        """The step that has it."""
        return self.instance_id, self.node_key


class SimFences:
    """Who holds which fence. ``wake`` makes what waits for a fence due, ``hurry`` a holder's
    question, and ``tell`` writes into the audit log.
    """

    def __init__(
        self,
        wake: Callable[[str, str], None],
        hurry: Callable[[UUID, str], None],
        tell: Callable[[Sequence[AuditEntry]], None],
    ) -> None:
        self._wake, self._hurry, self._tell = wake, hurry, tell
        self.held: dict[tuple[str, str], Held] = {}

    def take(self, holds: Sequence[Hold]) -> set[tuple[str, str, UUID, str | None]]:
        """The steps that have their fence now; who has it already comes first."""
        taken: set[tuple[str, str, UUID, str | None]] = set()
        for hold in sorted(holds, key=lambda hold: not self._has(hold)):
            at = hold.tenant_id, hold.fence
            has = self.held.get(at)
            mine = has is None or self._has(hold)
            if mine or (has is not None and _yields(has, hold)):
                assert hold.node_key is not None
                self.held[at] = Held(hold.instance_id, hold.node_key)
                taken.add((*at, hold.instance_id, hold.node_key))
        return taken

    def holder(self, tenant_id: str, fence: str) -> tuple[UUID, str] | None:
        """The instance and node that hold a fence."""
        has = self.held.get((tenant_id, fence))
        return None if has is None else has.at

    def waited_for(self, behind: Sequence[StepRow], entries: Sequence[AuditEntry]) -> None:
        """Whoever holds up these steps is asked about now; the audit log tells of it."""
        for row in behind:
            has = self.held.get((row.tenant_id, row.fence or ""))
            if has is not None:
                self._hurry(*has.at)
        self._tell(entries)

    def release(self, holds: Iterable[Hold]) -> None:
        """The steps have let go of their fences, and whoever waits for one of those is due."""
        for hold in holds:
            for at, has in list(self.held.items()):
                if hold.node_key is None and has.instance_id == hold.instance_id:
                    self._free(at)
                elif at == (hold.tenant_id, hold.fence) and self._has(hold):
                    if hold.settled:
                        has.settled = True
                    else:
                        self._free(at)

    def _free(self, at: tuple[str, str]) -> None:
        del self.held[at]
        self._wake(*at)

    def _has(self, hold: Hold) -> bool:
        has = self.held.get((hold.tenant_id, hold.fence))
        return has is not None and has.at == (hold.instance_id, hold.node_key)


def _yields(has: Held, hold: Hold) -> bool:
    """Whether one who has a fence leaves it to another who wants it."""
    same = has.instance_id == hold.instance_id
    return (has.settled and (same or hold.supersedes)) or (same and has.node_key == hold.after)
