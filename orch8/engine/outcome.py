"""How a node ended (Outcome) and what came back from the outside (Answer). Plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """How a node of the tree ended."""

    COMPLETED = "completed"
    SKIPPED = "skipped"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a node; ``error`` is JSON: {"message", "code"?, "details"?}."""

    status: Status = Status.COMPLETED
    error: Mapping[str, Any] | None = None

    @property
    def ok(self) -> bool:
        """Whether what comes after the node may run."""
        completed = self.status is Status.COMPLETED or self.status is Status.SKIPPED
        return completed and self.error is None

    @property
    def breaks(self) -> bool:
        """Whether the node completed, but ends the loop that it stands in."""
        return self.status is Status.COMPLETED and self.error is not None

    def to_json(self) -> list[Any]:
        """The outcome as JSON: [status, error]; from_json reads it."""
        return [self.status.value, self.error]

    @classmethod
    def from_json(cls, body: Any) -> Outcome:
        """The outcome that to_json wrote as ``body``."""
        return cls(Status(body[0]), body[1])


COMPLETED = Outcome()
SKIPPED = Outcome(Status.SKIPPED)
CANCELLED = Outcome(Status.CANCELLED)


def broken_off(message: str) -> Outcome:
    """An outcome of a node that completed and says why its loop ends with it."""
    return Outcome(Status.COMPLETED, {"message": message, "code": "break"})


def failed(message: str, **more: Any) -> Outcome:
    """An outcome that says what went wrong."""
    return Outcome(Status.FAILED, {"message": message, **more})


class Verdict(StrEnum):
    """What one dispatch of a step came to, by the evidence (IN_DOUBT matrix)."""

    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    REQUIRES_ACTION = "requires_action"
    PENDING = "pending"
    IN_PROGRESS = "in_progress"  # an earlier send with this key is still being carried out
    FAILED_SAFE = "failed_safe"  # surely not executed; try again with the same key
    NOT_SENT = "not_sent"  # no byte of the request left; try again with the same key
    REFUSED = "refused"  # surely not executed, and trying again would not help
    FAILED = "failed"  # executed and failed for good, without an effect
    UNKNOWN = "unknown"  # it may have happened: never guessed


@dataclass(frozen=True, slots=True)
class Answer:
    """One dispatch's end: its verdict, the output if any, and the evidence for it.

    ``error`` is JSON {"message", "code"?, "status"?, "details"?}; ``retry_after`` is seconds.
    ``evidence`` is what was observed: {"http_status", "curl_code", "sent", "elapsed_ms", ...}.
    """

    verdict: Verdict
    output: Any = None
    error: Mapping[str, Any] | None = None
    retry_after: float | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
