"""Prefect: a flow of tasks with persisted results, run inside long-lived processes.

In production a Prefect worker starts a process for each flow run, which takes seconds; calling the
flow in a process that is there already is the fastest way to run it.
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from prefect import flow, task

from tests.peers.programs.step import STEPS, step
from tests.peers.programs.talk import asked, play, say

AT_ONCE = 2  # flows in flight per process


@task(name="step", persist_result=True)
def do(kind: str, workflow: str, number: int, context: dict[str, Any]) -> dict[str, Any]:
    """One step."""
    return step(kind, workflow, number, context)


@flow(name="flow")
def whole(kind: str, workflow: str, context: dict[str, Any]) -> None:
    """All steps, one after the other."""
    for number in range(STEPS[kind]):
        do(kind, workflow, number, context)


def setup() -> None:
    """The server's tables exist."""
    tool = str(Path(sys.executable).with_name("prefect"))
    subprocess.run([tool, "server", "database", "upgrade", "--yes"], check=True, timeout=180)


def work() -> None:
    """Flows are run as the driver asks."""
    say(ready=True)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for kind, ids, context in asked():
            for each in ids:
                pool.submit(whole, kind, each, dict(context))
            say(submitted=len(ids))


if __name__ == "__main__":
    play({"setup": setup, "work": work})
