"""tasklogs: lines that a pull worker reports with a task, kept up to a bound for each task.

What is over the bound is left out and that is said: a report about a payment is never refused for
the lines that came with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import orjson

from orch8.storage import task_logs
from orch8.storage.rows import StepRow
from orch8.storage.transaction import Tx

MOST_LINES: Final = 1000
MOST_BYTES: Final = 64 * 1024
LEVELS: Final = frozenset({"trace", "debug", "info", "warn", "warning", "error", "fatal"})
MOST_LEVEL: Final = 20  # characters


class Said(NamedTuple):
    """A line as a worker reported it."""

    block_id: str
    ts: datetime
    level: str
    message: Any


def keep_lines(tx: Tx, row: StepRow, lines: Sequence[Any]) -> None:
    """The lines are kept with the step, those of all its reports up to MOST_LINES and MOST_BYTES;
    a last line says how many were left out.
    """
    if not lines:
        return
    before = task_logs.kept(tx, row)
    now = datetime.now(UTC).isoformat()
    taken: list[dict[str, Any]] = []
    size = 0
    for given in lines[: max(MOST_LINES - before.lines, 0)]:
        line = _line(given, now)
        size += len(orjson.dumps(line))
        if before.size + size > MOST_BYTES:
            break
        taken.append(line)
    left = len(lines) - len(taken)
    if left and before.lines < MOST_LINES and before.size < MOST_BYTES:
        message = f"{left} lines were left out: a task keeps {MOST_LINES} and {MOST_BYTES} bytes"
        taken.append({"ts": now, "level": "warn", "message": message})
    if taken:
        full = MOST_BYTES if left else 0  # what comes later is left out without a word
        task_logs.insert(tx, row, taken, max(len(orjson.dumps(taken)), full))


def said(tx: Tx, instance_id: UUID, limit: int) -> Iterator[Said]:
    """The lines that were reported with the tasks of an instance, up to ``limit``."""
    for row in task_logs.lines_of(tx, instance_id, limit):
        ts = datetime.fromisoformat(row.line["ts"])
        yield Said(row.block_id, ts, row.line["level"], row.line["message"])


def _line(given: Any, now: str) -> dict[str, Any]:
    """The line with a time that can be read, and a level that is one word."""
    level = str(given.get("level") or "info")[:MOST_LEVEL].lower()
    return {
        "ts": _time(given.get("ts")) or now,
        "level": level if level in LEVELS else "info",
        "message": given.get("message"),
    }


def _time(given: Any) -> str | None:
    try:
        moment = datetime.fromisoformat(given)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    except (TypeError, ValueError, OverflowError):
        return None
