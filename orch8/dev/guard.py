"""The watchdog process: whatever way its parent ends, the parent's children end too.

It is one small process per supervising process, run by path with nothing but the standard library.
It reads lines from a pipe that only the parent can write to::

    + <pid> <stop signal> <wave>     a child, leader of its own process group
    - <pid>                          the child is gone

When the pipe closes, because the parent closed it or was killed, every child still listed gets its
stop signal, the lower waves first, and its group is killed after a grace. A death signal of the
kernel (PR_SET_PDEATHSIG) would reach neither grandchildren nor macOS, and it fires when the
*thread* that started the child ends.

One gap is left: a parent killed in the instant between starting a child and naming it here leaves
that child behind. The next start on the same data folder ends such a Postgres.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterable

GRACE = 2.0  # seconds per wave between the stop signal and the kill
_POLL = 0.02


def listed(lines: Iterable[bytes]) -> dict[int, tuple[int, int]]:
    """The children that the lines leave behind: pid to (stop signal, wave)."""
    children: dict[int, tuple[int, int]] = {}
    for line in lines:
        words = line.split()
        if len(words) == 4 and words[0] == b"+":  # noqa: PLR2004 - the line's own shape
            children[int(words[1])] = (int(words[2]), int(words[3]))
        elif len(words) == 2 and words[0] == b"-":  # noqa: PLR2004
            children.pop(int(words[1]), None)
    return children


def end(children: dict[int, tuple[int, int]], grace: float = GRACE) -> None:
    """None of the children runs any more."""
    for wave in sorted({wave for _, wave in children.values()}):
        members = {pid: stop for pid, (stop, of) in children.items() if of == wave}
        for pid, stop in members.items():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, stop)
        deadline = time.monotonic() + grace
        while any(map(_exists, members)) and time.monotonic() < deadline:
            time.sleep(_POLL)
        for pid in members:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def main() -> None:
    """Wait for the parent to end, then end what it left behind."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    end(listed(sys.stdin.buffer))


if __name__ == "__main__":
    main()
