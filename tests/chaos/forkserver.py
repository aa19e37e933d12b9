"""Makes pump processes for a few milliseconds of CPU each, where a Celery worker costs seconds.

Every module is loaded once; each line on standard input forks a child that runs the real pump of
a worker, woken by looking instead of by a message, and is answered with the child's pid. Children
end with their parent. Run with: python -m tests.chaos.forkserver LANE, in a stack's environment.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from typing import NoReturn

from orch8 import logs
from orch8.config import Settings
from orch8.limits import Doorbell, Limiter
from orch8.runtime.office import Office
from orch8.runtime.pump import Pump
from orch8.runtime.signal import run_errand

LOOK = 0.05  # seconds between two looks at the lane
GRACE = 3.0  # seconds in which a pump that is asked to end has its calls answered and settled


def serve(lane: str) -> None:
    """Pumps are forked until standard input ends."""
    settings = Settings.from_env()
    logs.configure(settings)
    signal.signal(signal.SIGCHLD, _reap)
    gc.freeze()
    number = 0
    while sys.stdin.readline():
        number += 1
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(sys.stdin.fileno())
            pump(settings, lane, f"fork-{number}")
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def pump(settings: Settings, lane: str, node: str, *, width: int | None = None) -> NoReturn:
    """Works on the lane until the parent is gone, or SIGTERM asks for an orderly end."""
    parent = os.getppid()
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    office = Office(settings, pool=4, name=node)
    running = Pump(
        office,
        node,
        limiter=Limiter(settings.redis_url),
        doorbell=Doorbell(settings.redis_url),
        run_errand=partial(run_errand, office),
        width=width,
    )
    # Two threads, as Celery's: one works, the other's call returns at once and pokes it.
    for _ in range(2):
        threading.Thread(target=_look, args=(running, lane), daemon=True).start()
    while os.getppid() == parent and not asked.is_set():
        time.sleep(LOOK)
    if asked.is_set():
        running.stop(GRACE)
    os._exit(0)


def _look(running: Pump, lane: str) -> None:
    while True:
        running.work(lane)
        time.sleep(LOOK)


def _reap(*_: object) -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


if __name__ == "__main__":
    serve(sys.argv[1])
