"""What can happen to an instance: the machine's input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
    """Somebody wants an instance to go on where it failed, or where there is more to do since."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """A signal arrived that the definition declares as its interrupt ``number``, from 0."""

    number: int
    signal: Mapping[str, Any]  # JSON: {"name", "payload", "received_at"}


@dataclass(frozen=True, slots=True)
class Exhausted:
    """The run has used up what it may use: it fails with this error; what is live is cancelled."""

    error: Mapping[str, Any]


Event = Started | LeafSettled | CancelRequested | Retried | Interrupted | Exhausted
