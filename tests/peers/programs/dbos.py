"""DBOS: one workflow function, each step a ``DBOS.step``; started through a queue."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import Any

from dbos import DBOS, DBOSClient, DBOSConfig

from tests.peers.programs.step import STEPS, step
from tests.peers.programs.talk import enter, play, say

URL = os.environ["PEERS_DATABASE"].replace("postgresql://", "postgresql+psycopg://", 1)
QUEUE, VERSION = "bench", "1"
AT_ONCE = 8  # workflows in flight per process
POLLING = 0.1  # seconds; the default of one second would be all that is measured


@DBOS.step()  # type: ignore[misc, unused-ignore]
def do(kind: str, workflow: str, number: int, context: dict[str, Any]) -> dict[str, Any]:
    """One step."""
    return step(kind, workflow, number, context)


@DBOS.workflow(name="flow")  # type: ignore[misc, unused-ignore]
def flow(kind: str, workflow: str, context: dict[str, Any]) -> None:
    """All steps, one after the other."""
    for number in range(STEPS[kind]):
        do(kind, workflow, number, context)


def launch() -> None:
    """DBOS runs in this process."""
    config = DBOSConfig(
        name="bench",
        system_database_url=URL,
        application_version=VERSION,
        executor_id=f"process-{os.getpid()}",
        sys_db_pool_size=AT_ONCE + 4,
        log_level="WARNING",
    )
    DBOS(config=config)
    DBOS.listen_queues([QUEUE])
    DBOS.launch()


def setup() -> None:
    """The system tables and the queue exist."""
    launch()
    DBOS.register_queue(QUEUE, worker_concurrency=AT_ONCE, polling_interval_sec=POLLING)
    DBOS.destroy()


def work() -> None:
    """Workflows of the queue are run until the process is ended."""
    launch()
    say(ready=True)
    signal.pause()


def submit_to(client: DBOSClient, kind: str, ids: list[str], context: Mapping[str, Any]) -> None:
    """The workflows are in the queue."""
    for each in ids:
        options = {
            "queue_name": QUEUE,
            "workflow_name": "flow",
            "workflow_id": each,
            "app_version": VERSION,
        }
        client.enqueue(options, kind, each, context)


def client() -> None:
    """Workflows are submitted as the driver asks."""
    connected = DBOSClient(system_database_url=URL)
    enter(lambda kind, ids, context: submit_to(connected, kind, ids, context))


if __name__ == "__main__":
    play({"setup": setup, "work": work, "enter": client})
