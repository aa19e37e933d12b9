"""The live part of an instance: one small frame for every node that has not settled.

A node that failed stays behind as a dormant frame until something above it succeeds, so that a
retry of the instance finds the way back to its failed leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from typing import Any

from orch8.engine.keys import NodeKey
from orch8.engine.moves import NOTHING, Data, nothing
from orch8.engine.outcome import Outcome


class Stop(IntEnum):
    """Why a node is asked to stop."""

    NO = 0
    CANCEL = 1
    FINISH = 2  # the instance ends well elsewhere: nothing is compensated


@dataclass(frozen=True, slots=True)
class Frame:
    """A live node: its parent, what its block noted, and how it is being closed."""

    parent: NodeKey | None
    data: Data = field(default_factory=nothing)
    shielded: bool = False
    stop: Stop = Stop.NO
    closing: Outcome | None = None

    @property
    def cancelling(self) -> bool:
        """Whether the node is asked to stop, for whatever reason."""
        return self.stop is not Stop.NO

    def noting(self, data: Data) -> Frame:
        """The same frame with these notes of its block (on the hot path replace() is too slow)."""
        return Frame(self.parent, data, self.shielded, self.stop, self.closing)

    def to_json(self) -> dict[str, Any]:
        """The frame as JSON, without what is at its default; from_json reads it."""
        out: dict[str, Any] = {}
        if self.parent is not None:
            out["p"] = str(self.parent)
        if self.data:
            out["d"] = self.data
        if self.shielded:
            out["s"] = 1
        if self.stop:
            out["x"] = int(self.stop)
        if self.closing is not None:
            out["o"] = self.closing.to_json()
        return out

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Frame:
        """The frame that to_json wrote as ``body``."""
        if len(body) == ("p" in body):  # as nearly all are: live, with nothing noted
            return _plain(body.get("p"))
        parent, closing = body.get("p"), body.get("o")
        return cls(
            NodeKey.parse(parent) if parent is not None else None,
            body.get("d", NOTHING),
            bool(body.get("s")),
            Stop(body.get("x", 0)),
            Outcome.from_json(closing) if closing else None,
        )


@lru_cache(maxsize=16_384)
def _plain(parent: str | None) -> Frame:
    return Frame(None if parent is None else NodeKey.parse(parent), NOTHING)


Children = dict[NodeKey, dict[NodeKey, None]]  # by their parents, in the order of their entry


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything the machine remembers of an instance between two events. Nobody changes it but
    ``advance``, of one that it was told to spend.

    ``below`` says of the frames who stands in whom; it may be missing, since the frames say it too.
    """

    frames: dict[NodeKey, Frame] = field(default_factory=dict)
    dormant: dict[NodeKey, Frame] = field(default_factory=dict)
    outcome: Outcome | None = None
    finish: str | None = None  # the name under which an `end` block finished the instance
    below: Children | None = field(default=None, compare=False, repr=False)

    def to_json(self) -> dict[str, Any]:
        """The snapshot as JSON, with its frames under their node keys; from_json reads it."""
        body: dict[str, Any] = {"f": {str(k): f.to_json() for k, f in self.frames.items()}}
        if self.dormant:
            body["z"] = {str(k): f.to_json() for k, f in self.dormant.items()}
        if self.outcome is not None:
            body["o"] = self.outcome.to_json()
        if self.finish is not None:
            body["e"] = self.finish
        return body

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Snapshot:
        """The snapshot that to_json wrote as ``body``."""
        outcome = body.get("o")
        return cls(
            {NodeKey.parse(k): Frame.from_json(f) for k, f in body["f"].items()},
            {NodeKey.parse(k): Frame.from_json(f) for k, f in body.get("z", NOTHING).items()},
            Outcome.from_json(outcome) if outcome else None,
            body.get("e"),
        )


EMPTY = Snapshot()
