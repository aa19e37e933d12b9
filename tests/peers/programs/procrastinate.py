"""Procrastinate: a job for every step, which defers the next one when it is done."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any

from procrastinate import App, PsycopgConnector, SyncPsycopgConnector

from tests.peers.programs.step import STEPS, step
from tests.peers.programs.talk import enter, play, say

URL = os.environ["PEERS_DATABASE"]
AT_ONCE = 10  # jobs in flight per process

app = App(connector=PsycopgConnector(conninfo=URL, max_size=AT_ONCE))


@app.task(name="flow")
async def flow(kind: str, workflow: str, left: int, context: dict[str, Any]) -> None:
    """One step; the next one is deferred before this job counts as done."""
    number = STEPS[kind] - left
    if kind == "noop":
        step(kind, workflow, number, context)
    else:
        await asyncio.to_thread(step, kind, workflow, number, context)
    if left > 1:
        await flow.defer_async(kind=kind, workflow=workflow, left=left - 1, context=context)


def setup() -> None:
    """The tables and functions exist."""
    with App(connector=SyncPsycopgConnector(conninfo=URL)).open() as opened:
        opened.schema_manager.apply_schema()


def work() -> None:
    """Jobs are run until the process is ended."""

    async def run() -> None:
        async with app.open_async():
            say(ready=True)
            await app.run_worker_async(concurrency=AT_ONCE, listen_notify=True)

    asyncio.run(run())


def client() -> None:
    """The first jobs of workflows are deferred as the driver asks."""
    with app.replace_connector(SyncPsycopgConnector(conninfo=URL)) as opened, opened.open():

        def submit(kind: str, ids: list[str], context: Mapping[str, Any]) -> None:
            first = {"kind": kind, "left": STEPS[kind], "context": context}
            opened.tasks["flow"].batch_defer(*({**first, "workflow": each} for each in ids))

        enter(submit)


if __name__ == "__main__":
    play({"setup": setup, "work": work, "enter": client})
