"""pins: which version a pull worker must have at least to be given a handler's tasks.

Versions are compared by their numbers, as in semantic versioning: "v" before and "+..." behind
count nothing, numbers that are missing are 0, "1.2.0-rc.1" comes before "1.2.0".
"""

from __future__ import annotations

import re
from typing import Final

from orch8.errors import InvalidArgument, NotFound, Problem
from orch8.runtime.because import Because
from orch8.storage import commands
from orch8.storage.transaction import Row, Tx

_VERSION: Final = re.compile(
    r"v?(\d{1,9}(?:\.\d{1,9}){0,5})(?:-([0-9A-Za-z.-]{1,100}))?(?:\+[0-9A-Za-z.-]*)?"
)
_PARTS: Final = 6
Order = tuple[tuple[int, ...], bool, tuple[tuple[int, int, str], ...]]


def admits(tx: Tx, tenant_id: str, handler: str, version: str | None) -> bool:
    """Whether a worker of this version may have the handler's tasks."""
    pinned = commands.pinned(tx, tenant_id, handler)
    return pinned is None or not below(version, pinned)


def below(version: str | None, minimum: str) -> bool:
    """Whether a version, or none, or one that cannot be read, is below the minimum."""
    has, wants = _order(version or ""), _order(minimum)
    return wants is not None and (has is None or has < wants)


def pin(tx: Tx, tenant_id: str, handler: str, min_version: str, because: Because) -> Row:
    """The handler's tasks are for workers of this version or a later one. Raises InvalidArgument
    for a version that cannot be read.
    """
    if _order(min_version) is None:
        message = "min_version must be numbers with dots between them"
        raise InvalidArgument(
            message, errors=[Problem("/min_version", message, "such as 1.4.0 or 2.0.0-rc.1")]
        )
    row = commands.pin(tx, tenant_id, handler, min_version)
    body = {"handler": handler, "min_version": min_version}
    because.note(tx, tenant_id, "worker.version_pinned", body)
    return row


def unpin(tx: Tx, tenant_id: str, handler: str, because: Because) -> None:
    """Any version will do for the handler's tasks. Raises NotFound if there was no pin."""
    if not commands.unpin(tx, tenant_id, handler):
        raise NotFound(f"version pin of handler {handler[:100]!r}")
    because.note(tx, tenant_id, "worker.version_unpinned", {"handler": handler})


def _order(version: str) -> Order | None:
    """What versions are compared by; None for a text that is none."""
    found = _VERSION.fullmatch(version.strip())
    if found is None:
        return None
    numbers = [int(part) for part in found[1].split(".")]
    release = (*numbers, *(0 for _ in range(_PARTS - len(numbers))))
    before = found[2]
    if before is None:
        return release, True, ()
    return release, False, tuple(_part(part) for part in before.split("."))


def _part(text: str) -> tuple[int, int, str]:
    """A part of what stands behind the hyphen: numbers come before words."""
    return (0, int(text), "") if text.isdecimal() else (1, 0, text)
