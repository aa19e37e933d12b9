"""Celery: a chain of tasks, its results in Redis or, as PEERS_RESULTS says, in Postgres."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from celery import Celery, chain, signals

from tests.peers.programs.step import STEPS, step
from tests.peers.programs.talk import enter, play, say

POSTGRES = os.environ["PEERS_DATABASE"].replace("postgresql://", "db+postgresql+psycopg2://", 1)
RESULTS = POSTGRES if os.environ["PEERS_RESULTS"] == "postgres" else os.environ["PEERS_REDIS"]
PROCESSES = 2

app = Celery("bench", broker=os.environ["PEERS_REDIS"], backend=RESULTS)
app.conf.update(
    task_acks_late=True,  # a task whose process dies is run again
    task_reject_on_worker_lost=True,
    task_default_queue=f"bench-{os.environ['PEERS_RESULTS']}",
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)


@app.task(name="step")  # type: ignore[misc, unused-ignore]
def do(kind: str, workflow: str, number: int, context: dict[str, Any]) -> dict[str, Any]:
    """One step."""
    return step(kind, workflow, number, context)


@signals.worker_ready.connect  # type: ignore[misc, unused-ignore]
def ready(**_: Any) -> None:
    """The driver knows that the worker consumes."""
    say(ready=True)


def work() -> None:
    """Tasks are run until the process is ended."""
    words = ("--pool", "prefork", "--concurrency", str(PROCESSES), "--loglevel", "WARNING")
    app.worker_main(["worker", *words, "--without-gossip", "--without-mingle"])


def client() -> None:
    """Chains are submitted as the driver asks."""

    def submit(kind: str, ids: list[str], context: Mapping[str, Any]) -> None:
        for each in ids:
            chain(do.si(kind, each, n, context) for n in range(STEPS[kind])).apply_async()

    enter(submit)


if __name__ == "__main__":
    play({"setup": lambda: None, "work": work, "enter": client})
