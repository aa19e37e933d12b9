"""How a user's handler says what surely happened, by raising."""

from __future__ import annotations

from typing import Any


class Declined(Exception):
    """The provider said no for good: the step completes as declined with this output."""

    def __init__(self, output: Any = None) -> None:
        super().__init__("declined")
        self.output = output


class Refused(Exception):
    """Surely nothing happened, and trying again would not help: the step fails."""

    def __init__(self, message: str, *, code: str | None = None, details: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.details = details


class TryAgain(Exception):
    """Surely nothing happened; the same attempt may be tried again, as the step's retry says."""

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code
