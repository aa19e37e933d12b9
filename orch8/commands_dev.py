"""``orch8 dev``: a whole orch8 on this machine until Ctrl-C, with one status line per happening."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from orch8.errors import ConfigurationError

if TYPE_CHECKING:
    from orch8.dev.stack import Stack

_LOOK_EVERY = 2.0  # seconds between looks at the readiness
_POLL = 0.1


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), help="Where the API listens [8080]; 0: any.")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".orch8"),
    show_default=True,
    help="The folder of databases, logs and secrets.",
)
@click.option("--handler-url", help="Where steps are sent: POST <this>/<handler>.")
@click.option("--workers", type=click.IntRange(0, 64), default=2, show_default=True)
@click.option("--tick", type=click.FloatRange(0.05, 60), help="Seconds between ticks [1].")
@click.option("--width", type=click.IntRange(1, 1024), help="Calls in flight per worker [256].")
@click.option("--insecure", is_flag=True, help="No API key, even where others can reach it.")
@click.option("--logs", is_flag=True, help="Show the logs of all processes here.")
def dev(*, logs: bool, **given: Any) -> None:
    """Run everything on this machine: Postgres, Redis, API, workers, beat.

    ORCH8_DATABASE_URL, ORCH8_BROKER_URL and ORCH8_REDIS_URL replace the embedded servers,
    ORCH8_HTTP_ADDR replaces host and port.
    """
    from orch8.dev.logtail import LogTail  # noqa: PLC0415 - other commands run where this cannot
    from orch8.dev.stack import Interrupted, Stack, StackOptions  # noqa: PLC0415

    say = _Speaker()
    stack = Stack(StackOptions(**given), on_event=say)
    over = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        if over.is_set():
            say("stopping; this takes at most five seconds")
        over.set()
        stack.call_off()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    tail: LogTail | None = None
    lost = ""
    try:
        say(f"starting in {stack.data}")
        stack.start()
        if logs:
            tail = LogTail(stack.logs, lambda name, line: click.echo(f"{name:>10} | {line}"))
            tail.start()
        click.echo(f"orch8 ready {stack.urls.http}")
        say(f"logs: {stack.logs}; Ctrl-C stops everything")
        lost = _watch(stack, over, say)
    except Interrupted:
        pass
    finally:
        stack.stop()
        if tail is not None:
            tail.stop()
    if lost:
        raise ConfigurationError(f"{lost} has died; its log: {stack.logs / lost}.log")
    say("stopped")


def _watch(stack: Stack, over: threading.Event, say: _Speaker) -> str:
    """Until ``over`` is set or a server is lost, tell of every change; the answer is the server."""
    said = ""
    look_at = time.monotonic() + _LOOK_EVERY
    while not over.wait(_POLL):
        if lost := stack.lost_server():
            return lost
        if time.monotonic() >= look_at:
            answer = stack.address.readiness()
            if answer != said:
                said = answer
                say(f"not ready: {answer}" if answer else "ready again")
            look_at = time.monotonic() + _LOOK_EVERY
    return ""


class _Speaker:
    """Prints status lines with the time of day; from any thread."""

    def __call__(self, line: str) -> None:
        click.echo(f"{time.strftime('%H:%M:%S')} {line}")
