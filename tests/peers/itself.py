"""orch8 in the comparison: a whole stack of its own on the shared servers, used over its API."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from orch8.dev.postgres import DATABASE
from orch8.dev.stack import Stack, StackOptions
from tests.bench import load
from tests.peers.bed import Bed
from tests.peers.contender import Arrivals, Records
from tests.peers.programs.step import STEPS
from tests.support.stack import ROOT, Client

WORKERS = 2
CONNECTIONS = 8

_UNFINISHED = """
SELECT EXISTS (SELECT FROM steps WHERE due_at IS NOT NULL)
    OR EXISTS (SELECT FROM steps WHERE claimed_by IS NOT NULL)
"""
_COMPLETED = "SELECT count(*) FROM instances WHERE state = 'completed'"


class Itself:
    """One session of orch8."""

    def __init__(self, bed: Bed) -> None:
        self._bed = bed
        folder = bed.folder / "orch8"
        folder.mkdir(exist_ok=True)
        self._records = Records(folder / "records")
        self._kind = "noop"
        self._before = 0
        environ = {k: v for k, v in os.environ.items() if not k.startswith("ORCH8_")}
        settings = {
            "ORCH8_DATABASE_URL": bed.postgres.url,
            "ORCH8_DATABASE_OWNER_URL": bed.postgres.owner_url,
            "ORCH8_BROKER_URL": bed.redis.broker_url,
            "ORCH8_REDIS_URL": bed.redis.redis_url,
            "ORCH8_HANDLER_MODULES": "tests.peers.handlers",
            "ORCH8_LOG_LEVEL": "WARNING",
            "PYTHONPATH": str(ROOT),
            "PEERS_RECORDS": str(self._records.path),
        }
        options = StackOptions(
            data=folder / "stack", port=0, handler_url=bed.handler.url, workers=WORKERS
        )
        self._stack = Stack(options, environ | settings)

    def start(self) -> None:
        """The engine runs and waits for work."""
        self._stack.start()
        with closing(Client(self._stack.urls.http)) as client:
            for kind in STEPS:
                client.post("/sequences", sequence(kind))

    def stop(self) -> None:
        """Nothing of the engine runs."""
        self._stack.stop()

    def processes(self) -> Sequence[int]:
        """Workers, API, control worker and beat."""
        return [process.pid for process in self._stack.processes if process.pid]

    def workers(self) -> Sequence[int]:
        """The two that make calls."""
        return [
            process.pid
            for process in self._stack.processes
            if process.pid and process.name.startswith("worker-")
        ]

    def begin(self, kind: str) -> None:
        """Arrivals are counted from now on: by the handler if it is called."""
        self._kind = kind
        self._before = self._count()
        self._records.begin()
        if kind == "http":
            with closing(Client(self._bed.handler.url)) as handler:
                handler.send("PUT", "/record", {})

    def submit(self, kind: str, ids: Sequence[str]) -> None:
        """The instances exist; orch8 gives them ids of its own."""
        connections = min(CONNECTIONS, len(ids))
        load.create_all(self._stack.urls.http, f"peers_{kind}", ids, connections)

    def finished(self, kind: str, ids: Sequence[str]) -> bool:
        """Whether all steps began, nothing is due or under way, and the instances are completed."""
        if kind == "noop" and self._records.count() < len(ids) * STEPS[kind]:
            return False
        ((unfinished,),) = self._bed.ask(_UNFINISHED, database=DATABASE)
        return not unfinished and self._count() - self._before >= len(ids)

    def arrivals(self) -> Arrivals:
        """When the steps began."""
        if self._kind == "noop":
            return self._records.read()
        with closing(Client(self._bed.handler.url, timeout=60.0)) as handler:
            return [(at, workflow) for at, workflow in handler.get("/arrivals")]

    def _count(self) -> int:
        ((count,),) = self._bed.ask(_COMPLETED, database=DATABASE)
        return int(count)


def sequence(kind: str) -> dict[str, Any]:
    """The workload as a definition."""
    blocks = [
        {
            "type": "step",
            "id": f"s{n + 1}",
            "handler": "peers_noop" if kind == "noop" else f"s{n + 1}",
        }
        for n in range(STEPS[kind])
    ]
    return {"id": f"peers_{kind}", "blocks": blocks}
