"""errand: a signal from one instance to another, carried out after the commit that asks for it.

Its target is locked in a transaction of its own, so that no transaction waits for instances out of
their order. An errand may be lost, or done twice: the step that asked looks again after a while
(RECHECK), and an inbox takes a signal with the same dedupe key once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

CONTROLS: Final = ("pause", "resume", "cancel", "update_context")
MAX_NAME: Final = 255  # characters of a signal's name
RECHECK: Final = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """Whom it goes to and what it says: ``control`` is one of the controls, or None for a signal
    called ``name``. ``asked_by`` is the step (instance and node key) that looks when it is done.
    """

    to: UUID
    tenant_id: str
    dedupe_key: str
    control: str | None = None
    name: str = ""
    payload: Any = None
    actor: str = "engine"
    reason: str | None = None
    asked_by: tuple[UUID, str] | None = None
