"""Where the time of the processors went: CPU seconds by part of the stack and thread, from /proc."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")
AVAILABLE = (_PROC / "self/stat").exists()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """CPU seconds so far, by (part, thread name)."""

    seconds: Mapping[tuple[str, str], float]

    def since(self, earlier: Snapshot) -> dict[str, float]:
        """CPU seconds that each part used after ``earlier``."""
        used: Counter[str] = Counter()
        for (part, _), seconds in self.threads_since(earlier).items():
            used[part] += seconds
        return dict(used)

    def threads_since(self, earlier: Snapshot) -> dict[tuple[str, str], float]:
        """As ``since``, by thread."""
        spent = {at: s - earlier.seconds.get(at, 0.0) for at, s in self.seconds.items()}
        return {at: seconds for at, seconds in spent.items() if seconds > 0}


def look(parts: Mapping[str, Iterable[int]]) -> Snapshot:
    """The CPU seconds so far of each part: its processes and all their descendants."""
    if not AVAILABLE:
        return Snapshot({})
    children = _children()
    found: Counter[tuple[str, str]] = Counter()
    for part, pids in parts.items():
        todo = list(pids)
        while todo:
            pid = todo.pop()
            todo += children.get(pid, ())
            for name, seconds in _threads(pid):
                found[part, name] += seconds
    return Snapshot(dict(found))


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for folder in _PROC.iterdir():
        if folder.name.isdigit() and (fields := _stat(folder)) is not None:
            found.setdefault(int(fields[1]), []).append(int(folder.name))
    return found


def _threads(pid: int) -> Iterable[tuple[str, float]]:
    try:
        tasks = list((_PROC / str(pid) / "task").iterdir())
    except OSError:
        return
    for task in tasks:
        fields = _stat(task)
        if fields is not None:
            yield _name(task), (int(fields[11]) + int(fields[12])) / _TICKS


def _stat(folder: Path) -> list[str] | None:
    """The fields of a stat file from the state on; None if the process is gone."""
    try:
        return (
            (folder / "stat")
            .read_text(encoding="utf-8", errors="replace")
            .rpartition(")")[2]
            .split()
        )
    except OSError:
        return None


def _name(task: Path) -> str:
    try:
        name = (task / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "?"
    return re.sub(r"[-_:]?\d+$", "", name)
