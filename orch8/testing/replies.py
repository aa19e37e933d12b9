"""What a pretend provider sends back: a status and a body, or silence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

MAX_SILENCE: Final = 30.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What is sent back; status 0 closes the connection, after ``silence`` seconds at most.

    A body of bytes is sent as it is, anything else as JSON.
    """

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    silence: float = 0.0


def error(code: str, message: str, **more: Any) -> dict[str, Any]:
    """An error body as card providers write it."""
    return {"error": {"code": code, "message": message, **more}}
