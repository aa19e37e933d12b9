"""Where the processors' time went: CPU seconds by part of the stack and thread, from /proc."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PROC = Path("/proc")
AVAILABLE = (_PROC / "self/stat").exists()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """CPU seconds so far, by (part, thread name)."""

    seconds: Mapping[tuple[str, str], float]

    def since(self, earlier: Snapshot) -> dict[str, float]:
        """CPU seconds that each part used after ``earlier``."""
        used: defaultdict[str, float] = defaultdict(float)
        for (part, _), seconds in self.threads_since(earlier).items():
            used[part] += seconds
        return dict(used)

    def threads_since(self, earlier: Snapshot) -> dict[tuple[str, str], float]:
        """As ``since``, by thread."""
        spent = {at: s - earlier.seconds.get(at, 0.0) for at, s in self.seconds.items()}
        return {at: seconds for at, seconds in spent.items() if seconds > 0}


def look(parts: Mapping[str, Iterable[int]]) -> Snapshot:
    """The CPU seconds so far of each part: its processes and their descendants.

    A process that is named in one part does not count for the part of its ancestors.
    """
    if not AVAILABLE:
        return Snapshot({})
    found: defaultdict[tuple[str, str], float] = defaultdict(float)
    for part, pid in _members(parts):
        for name, seconds in _threads(pid):
            found[part, name] += seconds
    return Snapshot(dict(found))


def spent(pids: Iterable[int]) -> float:
    """The CPU seconds so far of these processes and their descendants, those that ended included;
    to a hundredth of a second. 0 where it is unknown.
    """
    fields = [found for pid in _family(pids) if (found := _stat(_PROC / str(pid))) is not None]
    return sum(int(ticks) for each in fields for ticks in each[11:15]) / _TICKS


def resident(pids: Iterable[int]) -> int:
    """The bytes of memory that these processes and their descendants hold; 0 where it is unknown.

    What processes share is counted for each of them.
    """
    found = 0
    for pid in _family(pids):
        with contextlib.suppress(OSError):
            fields = (_PROC / str(pid) / "statm").read_text(encoding="utf-8").split()
            found += int(fields[1]) * _PAGE
    return found


def _family(pids: Iterable[int]) -> Iterable[int]:
    children, todo = _children() if AVAILABLE else {}, list(pids)
    while AVAILABLE and todo:
        pid = todo.pop()
        todo += children.get(pid, ())
        yield pid


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for folder in _PROC.iterdir():
        if folder.name.isdigit() and (fields := _stat(folder)) is not None:
            found.setdefault(int(fields[1]), []).append(int(folder.name))
    return found


def _threads(pid: int) -> Iterable[tuple[str, float]]:
    """Each thread's name and CPU seconds. Most have their program's name, so they are numbered in
    the order of their start; 0 is the main thread.
    """
    try:
        tasks = sorted((_PROC / str(pid) / "task").iterdir(), key=lambda task: int(task.name))
    except OSError:
        return
    for number, task in enumerate(tasks):
        seconds = _seconds(task)
        if seconds is not None:
            yield f"{_name(task)} #{number}" if len(tasks) > 1 else _name(task), seconds


def _seconds(task: Path) -> float | None:
    """The CPU seconds of a thread, exact where the kernel counts so; None if it is gone."""
    try:
        return int((task / "schedstat").read_text(encoding="utf-8").split()[0]) / 1e9
    except (OSError, IndexError):
        fields = _stat(task)
        return (int(fields[11]) + int(fields[12])) / _TICKS if fields else None


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
        return (task / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "?"


def threads(parts: Mapping[str, Iterable[int]]) -> dict[str, list[int]]:
    """The numbers of each part's threads, by the same count as ``look``."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for part, pid in _members(parts):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            found[part] += [int(task.name) for task in (_PROC / str(pid) / "task").iterdir()]
    return dict(found)


def _members(parts: Mapping[str, Iterable[int]]) -> Iterator[tuple[str, int]]:
    """Each process with its part: those that are named, and their descendants that are not."""
    named = {pid for pids in parts.values() for pid in pids}
    children = _children()
    for part, pids in parts.items():
        todo = list(pids)
        while todo:
            pid = todo.pop()
            todo += (child for child in children.get(pid, ()) if child not in named)
            yield part, pid
