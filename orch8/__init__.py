"""orch8: durable payment workflows. The public names are imported from their own modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orch8.handlers.python import handler as handler

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Loaded when it is asked for: a program that only reads the version should not load libcurl.
    if name == "handler":
        from orch8.handlers.python import handler  # noqa: PLC0415

        return handler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
