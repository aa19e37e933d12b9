"""Shows the lines that the log files of a stack gain, each under the name of its process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

_POLL = 0.2
_CHUNK = 64 * 1024  # bytes per file and look; a flood is shown late, never held in memory


class LogTail:
    """Follows every ``*.log`` of a folder from its present end; ``emit(name, line)`` shows a line.

    The processes write to files, not to a pipe to this one, so that they neither block when the
    terminal does nor die when this process does.
    """

    def __init__(self, folder: Path, emit: Callable[[str, str], None]) -> None:
        self._folder = folder
        self._emit = emit
        self._positions = {path: path.stat().st_size for path in folder.glob("*.log")}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="logtail", daemon=True)

    def start(self) -> None:
        """New lines are shown from now on."""
        self._thread.start()

    def stop(self) -> None:
        """What was written until now has been shown; nothing more is."""
        self._over.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._over.wait(_POLL):
            self._look()
        self._look()

    def _look(self) -> None:
        for path in sorted(self._folder.glob("*.log")):
            with path.open("rb") as file:
                at = self._positions.get(path, 0)
                file.seek(at if at <= file.seek(0, 2) else 0)  # shorter: it was set aside
                at = file.tell()
                chunk = file.read(_CHUNK)
            whole = chunk.rfind(b"\n") + 1 or (len(chunk) if len(chunk) == _CHUNK else 0)
            self._positions[path] = at + whole
            for line in chunk[:whole].decode(errors="replace").splitlines():
                self._emit(path.stem, line)
