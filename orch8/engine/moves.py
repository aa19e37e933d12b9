"""What a block answers (moves) and what the shell must make durable (effects). Plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orch8.engine.keys import NodeKey
from orch8.engine.outcome import COMPLETED, Outcome

Data = Mapping[str, Any]
NOTHING: Data = {}  # never changed: frames share it


def nothing() -> Data:
    """The empty data, as the factory that a dataclass default has to be."""
    return NOTHING


# -- effects: what the shell must make durable ------------------------------------------------
@dataclass(frozen=True, slots=True)
class Schedule:
    """A leaf was entered: it needs a row, and its handler a call."""

    key: NodeKey


@dataclass(frozen=True, slots=True)
class CancelLeaf:
    """A live leaf should end as soon as its outside part allows."""

    key: NodeKey


@dataclass(frozen=True, slots=True)
class Memo:
    """A composite decided something that must never be decided again."""

    key: NodeKey
    output: Any


@dataclass(frozen=True, slots=True)
class Settled:
    """A node settled; it never comes back in this round."""

    key: NodeKey
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Overdue:
    """The run takes longer than it was meant to; ``cancel``: it is to be cancelled for that."""

    key: NodeKey
    cancel: bool = False


Effect = Schedule | CancelLeaf | Memo | Settled | Overdue


# -- moves: a block's answer to "you were entered" / "a child settled" ------------------------
@dataclass(frozen=True, slots=True)
class Run:
    """Enter these children; shielded ones are not reached by a cancel."""

    children: tuple[NodeKey, ...]
    data: Data = field(default_factory=nothing)
    shielded: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until another child settles; ``data`` replaces the frame's, if given."""

    data: Data | None = None


@dataclass(frozen=True, slots=True)
class Halt:
    """These children stop, since the instance ends well elsewhere; I am told as each settles."""

    children: tuple[NodeKey, ...]
    data: Data


@dataclass(frozen=True, slots=True)
class Done:
    """I settle with this outcome once no child of mine is live."""

    outcome: Outcome = COMPLETED


@dataclass(frozen=True, slots=True)
class Finish:
    """The whole instance ends now, completed, under this name."""

    name: str


@dataclass(frozen=True, slots=True)
class Act:
    """These effects, then that move."""

    effects: tuple[Effect, ...]
    then: Run | Wait | Halt | Done


Move = Run | Wait | Halt | Done | Finish | Act
