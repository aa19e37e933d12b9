"""What can happen to an instance: the machine's input."""

from __future__ import annotations

from dataclasses import dataclass

from orch8.engine.keys import NodeKey
from orch8.engine.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Started:
    """The instance was created."""


@dataclass(frozen=True, slots=True)
class LeafSettled:
    """A leaf came to its end: its handler answered for good, or it was ended."""

    key: NodeKey
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Somebody wants the instance to stop."""


@dataclass(frozen=True, slots=True)
class Retried:
    """Somebody wants a failed instance to go on where it failed."""


Event = Started | LeafSettled | CancelRequested | Retried
