"""The whole road: HTTP creation, Postgres, Celery workers, HTTP handler, settlement; measured.

Creations are measured with the workers stopped (SIGSTOP), so that the backlog is whole when they
go on; steps per second are counted in Postgres, from the first settlement to the last.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from orch8.dev.postgres import EmbeddedPostgres
from orch8.dev.stack import StackOptions
from orch8.storage.ids import uuid7
from tests.bench import cpu, load
from tests.support.stack import Client, HandlerProcess, World, until

STEPS = 5
CONNECTIONS = 8
LIMIT = 1_000_000  # per second: never reached, so that only the limiter's own cost shows
LATENCY_RATE = 20.0  # starts per second
_DRAINED_WITHIN = 120.0
_LATE = 2.0  # seconds after the last start in which its call must have come

_SETTLED = """
WITH mine AS (
    SELECT extract(epoch FROM s.finished_at)::float8 AS at,
           ntile(10) OVER (ORDER BY s.finished_at) AS tenth
    FROM steps s JOIN instances i ON i.id = s.instance_id
    WHERE i.id >= %(since)s AND s.instance_id >= %(since)s AND i.idempotency_key LIKE %(keys)s
        AND i.state = 'completed' AND s.state = 'completed')
SELECT count(*) AS steps, max(at) - min(at) AS seconds,
       count(*) FILTER (WHERE tenth BETWEEN 2 AND 9) AS steady_steps,
       max(at) FILTER (WHERE tenth = 9) - min(at) FILTER (WHERE tenth = 2) AS steady_seconds
FROM mine
"""
# All are read from small partial indexes, so that looking costs next to nothing.
_UNFINISHED = """
SELECT EXISTS (SELECT FROM steps WHERE due_at IS NOT NULL) AS due,
       EXISTS (SELECT FROM steps WHERE claimed_by IS NOT NULL) AS claimed,
       EXISTS (SELECT FROM steps WHERE limit_key IS NOT NULL) AS queued
"""
# Indexes of what is due, claimed or unfinished are full of the dead while a transaction is held
# open, and looking at them four times a second would be what is measured. So one instance is looked
# at until it has ended, then all are counted, by the primary key.
_NEWEST_ENDED = """
SELECT finished_at IS NOT NULL AS ended FROM instances ORDER BY id DESC LIMIT 1
"""
_OPEN = """
SELECT count(*) FILTER (WHERE finished_at IS NULL) AS open FROM instances WHERE id >= %(since)s
"""
_AUDITED = """
SELECT count(*) AS entries FROM audit_log a JOIN instances i ON i.id = a.instance_id
WHERE i.id >= %(since)s AND a.id >= %(since)s AND i.idempotency_key LIKE %(keys)s
    AND a.node_key IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class Drain:
    """How fast a backlog went: settled steps per second in all, and without its first and last
    tenth; CPU seconds by part, and by part and thread.
    """

    creations_per_s: float
    steps_per_s: float
    steady_per_s: float
    cpu: Mapping[str, float]
    threads: Mapping[tuple[str, str], float]
    steps: int


class Road:
    """A real stack with its own handler process, and sequences of five steps that differ in what
    each step costs: SEQUENCES.
    """

    def __init__(
        self, folder: Path, *, workers: int = 2, settings: Mapping[str, str] | None = None
    ) -> None:
        self.workers = workers
        self.world = World(
            folder,
            HandlerProcess(("-m", "tests.bench.handler", "{port}"), folder),
            settings={"ORCH8_LOG_LEVEL": "WARNING", **(settings or {})},
            options=StackOptions(workers=workers, durable=True),
        )

    @property
    def server(self) -> EmbeddedPostgres:
        """The Postgres of the stack, which is always an embedded one."""
        assert self.world.stack.postgres is not None
        return self.world.stack.postgres

    def publish(self) -> None:
        """The sequences exist."""
        for name, members in SEQUENCES.items():
            self.world.publish(sequence(name, members))

    def drain(self, name: str, prefix: str, instances: int) -> Drain:
        """A backlog of instances has been created over HTTP and worked off. Checks that each step
        was settled once and audited.
        """
        keys = [f"{prefix}-{number}" for number in range(instances)]
        mine = {"since": str(uuid7()), "keys": f"{prefix}-%"}
        with self.stopped_workers():
            creations = load.create_all(self.world.stack.urls.http, name, keys, CONNECTIONS)
            before = cpu.look(self.parts())

        def ended() -> bool:
            rows = self.world.rows
            return rows(_NEWEST_ENDED)[0]["ended"] and not rows(_OPEN, mine)[0]["open"]

        until(ended, _DRAINED_WITHIN, f"{instances} instances have ended", poll=0.25)
        after = cpu.look(self.parts())
        (found,) = self.world.rows(_SETTLED, mine)
        (audited,) = self.world.rows(_AUDITED, mine)
        if found["steps"] != instances * STEPS or audited["entries"] < found["steps"]:
            raise RuntimeError(f"{instances} instances came to {found} and {audited}")
        return Drain(
            creations,
            found["steps"] / max(found["seconds"], 1e-6),
            found["steady_steps"] / max(found["steady_seconds"], 1e-6),
            after.since(before),
            after.threads_since(before),
            found["steps"],
        )

    def start_latencies(self, prefix: str, seconds: float) -> tuple[list[float], list[float]]:
        """Milliseconds from the request of a creation to the first call of its handler, and from
        the API's answer to it, at 20 starts a second; ascending.
        """
        with closing(Client(self.world.handlers.url)) as handler:
            handler.send("PUT", "/record", {})
            url = self.world.stack.urls.http
            made = load.create_paced(url, "bench_free", prefix, LATENCY_RATE, seconds)
            self.wait_drained(_LATE + 5)
            first: dict[str, float] = {}
            for at, instance_id in handler.get("/arrivals"):
                first.setdefault(instance_id, at)
        asked = sorted(1000 * (first[one.instance_id] - one.asked_at) for one in made)
        answered = sorted(1000 * (first[one.instance_id] - one.answered_at) for one in made)
        return asked, answered

    def wait_drained(self, within: float = _DRAINED_WITHIN) -> None:
        """No step is due, queued or under way. AssertionError after ``within`` seconds."""

        def look() -> bool:
            return not any(self.world.rows(_UNFINISHED)[0].values())

        until(look, within, lambda: self.world.rows(_UNFINISHED), poll=0.25)

    @contextmanager
    def stopped_workers(self) -> Iterator[None]:
        """The worker processes stand still inside the block."""
        pids = [pid for n in range(self.workers) if (pid := self.world.pid(f"worker-{n + 1}"))]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def parts(self) -> dict[str, Sequence[int]]:
        """The processes of each part, for the account of CPU time."""
        pids = {p.name: p.pid for p in self.world.stack.processes if p.pid}
        handler = self.world.handlers.child.pid
        return {
            "workers": [pid for name, pid in pids.items() if name.startswith("worker-")],
            "postgres": [pids["postgres"]],
            "redis": [pids["redis"]],
            "api": [pids["web"]],
            "control, beat": [pids["control"], pids["beat"]],
            "handler": [handler] if handler else [],
            "bench itself": [os.getpid()],
        }


def sequence(name: str, members: Mapping[str, Any], *, steps: int = STEPS) -> dict[str, Any]:
    """A definition of steps with these members that follow each other."""
    blocks = [{"type": "step", "handler": f"s{n + 1}", **members} for n in range(steps)]
    return {"id": f"bench_{name}", "blocks": blocks}


# By what each of their five steps says. A money step has everything that keeps money safe.
SEQUENCES: Final[Mapping[str, Mapping[str, Any]]] = {
    "free": {},
    "limited": {
        "rate_limit_key": "bench", "rate_limit": {"max": LIMIT, "window_seconds": 1},
    },
    "none": {"effect": "none"},
    "money": {
        "effect": "money",
        "fence": "bench:{{instance_id}}",
        "money": {"amount": 9900, "currency": "EUR"},
        "on_unknown": {"policy": "reconcile", "handler": "find"},
    },
}  # fmt: skip
