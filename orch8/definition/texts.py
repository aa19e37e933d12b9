"""The texts inside a JSON value, each with its JSON Pointer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orch8.blocks.fields import escape


def texts(value: Any) -> Iterator[tuple[str, str]]:
    """Every string that is a value (no member's name), without recursion."""
    pending = [("", value)]
    while pending:
        pointer, each = pending.pop()
        if isinstance(each, str):
            yield pointer, each
        elif isinstance(each, dict):
            pending.extend((f"{pointer}/{escape(k)}", v) for k, v in each.items())
        elif isinstance(each, list):
            pending.extend((f"{pointer}/{i}", v) for i, v in enumerate(each))
