"""How many instances the API creates in a second, and how long each takes, with no worker running.

Sixteen kept-alive connections ask again as soon as they are answered. One thread serves them all,
so that the client costs little on the cores that it shares and its own queues do not count.
"""

from __future__ import annotations

import selectors
import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

import click
import orjson

from tests.bench import cpu
from tests.bench.figures import Figures, common, conditions_of, spread, started
from tests.bench.road import Road
from tests.support.stack import creation

_SEQUENCE: Final = "bench_free"
_PATIENCE: Final = 30.0  # seconds without any answer
_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length:"


class Line:
    """One kept-alive connection, with at most one creation under way."""

    def __init__(self, url: str, sequence: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        self.socket = socket.create_connection((parts.hostname, parts.port), _PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._body = creation("")
        self._head = (
            f"POST /sequences/{sequence}/instances HTTP/1.1\r\nhost: {parts.netloc}\r\n"
            "content-type: application/json\r\ncontent-length: "
        ).encode()
        self._buffer = b""
        self._asked_at = 0.0

    def ask(self, key: str) -> None:
        """A creation under the key has been sent."""
        body = orjson.dumps(self._body | {"idempotency_key": key})
        self._asked_at = time.perf_counter()
        self.socket.sendall(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))

    def hear(self) -> float | None:
        """Milliseconds that the creation took, None while its answer is not whole. RuntimeError
        unless the API answers 201.
        """
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("the API closed the connection")
        self._buffer += data
        head, end, body = self._buffer.partition(_END)
        if not end or len(body) < int(head.lower().partition(_LENGTH)[2].split(b"\r\n", 1)[0]):
            return None
        took = 1000 * (time.perf_counter() - self._asked_at)
        if head.split(b" ", 2)[1] != b"201":
            raise RuntimeError(f"creation answered {self._buffer.decode()[:500]}")
        self._buffer = b""
        return took

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


@dataclass(frozen=True, slots=True)
class Created:
    """How many a second, and the milliseconds of each."""

    per_s: float
    took: list[float]


def create(url: str, sequence: str, prefix: str, instances: int, connections: int) -> Created:
    """So many instances were created over so many connections."""
    took: list[float] = []
    asked = 0
    with ExitStack() as lines, selectors.DefaultSelector() as selector:
        began = time.perf_counter()
        for _ in range(min(connections, instances)):
            line = lines.enter_context(Line(url, sequence))
            selector.register(line.socket, selectors.EVENT_READ, line)
            line.ask(f"{prefix}-{asked}")
            asked += 1
        while len(took) < instances:
            if not (ready := selector.select(_PATIENCE)):
                raise TimeoutError(f"no answer for {_PATIENCE:g} s after {len(took)} creations")
            for key, _ in ready:
                line = key.data
                if (ms := line.hear()) is not None:
                    took.append(ms)
                    if asked < instances:
                        line.ask(f"{prefix}-{asked}")
                        asked += 1
        return Created(instances / (time.perf_counter() - began), took)


def measure(road: Road, *, instances: int, runs: int, connections: int, webs: int) -> Figures:
    """So many instances were created in each run, after half as many to warm up.

    The figures are those of the run with the median rate.
    """
    url = road.world.stack.urls.http
    with road.stopped_workers():
        create(url, _SEQUENCE, "warm-creations", max(instances // 2, connections), connections)
        before = cpu.look(road.parts())
        found = [
            create(url, _SEQUENCE, f"creation-{run}", instances, connections) for run in range(runs)
        ]
        used = cpu.look(road.parts()).since(before)
    conditions = conditions_of(
        road, instances=instances, runs=runs, connections=connections, web_processes=webs
    )
    middle = sorted(found, key=lambda each: each.per_s)[len(found) // 2]
    each = 1e6 / (instances * runs)
    numbers = {
        "web_processes": webs, "connections": connections, "creations_per_s": middle.per_s,
        **spread("creation", middle.took), "api_us": each * used.get("api", 0.0),
        "postgres_us": each * used.get("postgres", 0.0),
        "client_us": each * used.get("bench itself", 0.0),
    }  # fmt: skip
    samples = {"runs": [{"per_s": c.per_s, "ms": c.took} for c in found], "cpu_seconds": used}
    return Figures("creations", numbers, conditions, samples)


@click.command()
@click.option("--instances", default=10_000, show_default=True, type=click.IntRange(16, 1_000_000))
@click.option("--runs", default=3, show_default=True, type=click.IntRange(1, 20))
@click.option("--connections", default=16, show_default=True, type=click.IntRange(1, 256))
@click.option("--webs", default=2, show_default=True, type=click.IntRange(1, 16))
@common
def creations(
    *, instances: int, runs: int, connections: int, webs: int, workers: int, quick: bool,
    file: Path | None,
) -> None:  # fmt: skip
    """How many instances the API creates in a second, and how long each takes."""
    instances, runs = (200, 1) if quick else (instances, runs)
    with started(workers, {"WEB_CONCURRENCY": str(webs)}) as (road, say):
        say(f"{runs} times {instances} creations, {webs} web processes")
        found = measure(road, instances=instances, runs=runs, connections=connections, webs=webs)
    found.tell(file)
