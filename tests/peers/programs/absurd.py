"""Absurd: one task, each step a checkpoint of its context; claimed by polling workers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absurd_sdk import Absurd

from tests.peers.programs.step import STEPS, step
from tests.peers.programs.talk import enter, play, say

URL = os.environ["PEERS_DATABASE"]
QUEUE, TASK = "bench", "flow"
AT_ONCE = 4  # tasks in flight per process, which share its one connection
POLLING = 0.05  # seconds


def flow(params: Any, context: Any) -> None:
    """All steps, one after the other."""
    kind, workflow = params["kind"], params["workflow"]
    for number in range(STEPS[kind]):
        context.step(f"s{number + 1}", lambda n=number: step(kind, workflow, n, params["context"]))


def setup() -> None:
    """The schema and the queue exist."""
    tool = str(Path(sys.executable).with_name("absurdctl"))
    for words in (("init",), ("create-queue", QUEUE)):
        subprocess.run([tool, *words, "--database", URL], check=True, timeout=60)


def work() -> None:
    """Tasks of the queue are run until the process is ended."""
    app = Absurd(URL, queue_name=QUEUE)
    app.register_task(TASK)(flow)
    say(ready=True)
    app.start_worker(concurrency=AT_ONCE, poll_interval=POLLING)


def client() -> None:
    """Tasks are submitted as the driver asks."""
    app = Absurd(URL, queue_name=QUEUE)

    def submit(kind: str, ids: list[str], context: Mapping[str, Any]) -> None:
        for each in ids:
            app.spawn(TASK, {"kind": kind, "workflow": each, "context": context}, queue=QUEUE)

    enter(submit)


if __name__ == "__main__":
    play({"setup": setup, "work": work, "enter": client})
