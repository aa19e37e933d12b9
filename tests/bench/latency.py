"""How long the clients of the contract wait: its section 38, last lines, measured.

Each moment is seen as a client sees it, by asking again every few milliseconds.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import click

from orch8.dev.stack import StackOptions
from tests.bench.conditions import conditions
from tests.bench.figures import PREFIX, Figures, common, spread
from tests.outside.caller import Caller, block, sleeper, step
from tests.support.stack import HandlerProcess, World

# Milliseconds that the contract allows.
WANTED: Final[Mapping[str, float]] = {
    "noop": 1000, "two_sleeps": 1750, "pause": 400, "cancel": 400, "signal": 1000,
    "live": 15_000, "stop": 5000,
}  # fmt: skip
_POLL: Final = 0.005
_WITHIN: Final = 30.0


def measure(folder: Path, *, runs: int, workers: int) -> Figures:
    """Each wait was measured ``runs`` times, the start and the end of the server once."""
    options = StackOptions(workers=workers, durable=True, tick=0.1, insecure=True)
    handlers = HandlerProcess(("-m", "tests.bench.handler", "{port}"), folder)
    world = World(folder, handlers, settings={"ORCH8_LOG_LEVEL": "WARNING"}, options=options)
    began = time.monotonic()
    with world:
        caller = Caller(world.stack.address.url)
        caller.until(lambda: caller.send("GET", "/health/live").status == 200, "it is live")
        live = time.monotonic() - began
        found = {name: [ask(caller) for _ in range(runs)] for name, ask in _ASKED.items()}
        told = conditions(world.stack.environ, workers) | {"sizes": {"runs": runs}}
        began = time.monotonic()
        world.stack.stop()
        stop = time.monotonic() - began
    numbers: dict[str, float] = {"live_ms": 1000 * live, "stop_ms": 1000 * stop}
    for name, seconds in found.items():
        numbers |= spread(name, [1000 * each for each in seconds])
    return Figures("latency", numbers, told, {"wanted_ms": WANTED, "seconds": found})


def _took(caller: Caller, instance: str, state: str, since: float) -> float:
    deadline = since + _WITHIN
    while caller.instance(instance)["state"] != state:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{instance} is not {state} after {_WITHIN:g} s")
        time.sleep(_POLL)
    return time.monotonic() - since


def _whole(caller: Caller, *blocks: Mapping[str, Any]) -> float:
    sequence = caller.publish(*blocks)
    began = time.monotonic()
    return _took(caller, caller.start(sequence), "completed", began)


def _controlled(caller: Caller, control: str, state: str) -> float:
    instance = caller.run(sleeper("nap", 60_000))
    _took(caller, instance, "running", time.monotonic())
    began = time.monotonic()
    caller.signal(instance, control)
    return _took(caller, instance, state, began)


def _woken(caller: Caller) -> float:
    instance = caller.run({"type": "wait_signal", "id": "wait", "signal": "go"})
    _took(caller, instance, "waiting", time.monotonic())
    began = time.monotonic()
    caller.signal(instance, {"custom": "go"})
    return _took(caller, instance, "completed", began)


_ASKED: Final[Mapping[str, Callable[[Caller], float]]] = {
    "noop": lambda caller: _whole(caller, step("a")),
    "two_sleeps": lambda caller: _whole(
        caller, block("parallel", "p", branches=[[sleeper("l")], [sleeper("r")]])
    ),
    "pause": lambda caller: _controlled(caller, "pause", "paused"),
    "cancel": lambda caller: _controlled(caller, "cancel", "cancelled"),
    "signal": _woken,
}


@click.command()
@click.option("--runs", default=20, show_default=True, type=click.IntRange(1, 1000))
@common
def latency(*, runs: int, workers: int, quick: bool, file: Path | None) -> None:
    """How long clients of the contract wait for what they ask for."""
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
        found = measure(Path(folder), runs=2 if quick else runs, workers=workers)
    found.tell(file)
