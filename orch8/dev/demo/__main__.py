"""Runs the demo: ``python -m orch8.dev.demo``. Status 0 only if the promise holds."""

from __future__ import annotations

import signal
import sys
import time
from typing import Final

import click

from orch8.dev.demo.screen import Screen
from orch8.dev.demo.stage import Stage
from orch8.dev.demo.story import Story
from orch8.errors import Orch8Error

BROKEN, STUCK, INTERRUPTED = 1, 2, 130  # exit statuses; the last as shells count Ctrl-C
_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command()
@click.option("--keep", is_flag=True, help="Leave the folder with the logs.")
def main(*, keep: bool) -> None:
    """See a payment survive a crash: starts a whole orch8, plays with it, leaves nothing behind."""
    sys.exit(_run(keep=keep))


def _run(*, keep: bool) -> int:
    for number in _ENDING:
        signal.signal(number, signal.default_int_handler)
    began = time.monotonic()
    screen = Screen()
    stage = Stage(screen.event)
    wrong: list[str] | None = None
    status = STUCK
    try:
        wrong = Story(stage, screen).play()
        status = BROKEN if wrong else 0
    except (KeyboardInterrupt, SystemExit):  # rich exits when nobody reads on
        status = INTERRUPTED
    except Orch8Error as problem:
        screen.problem(problem.detail)
    finally:
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)  # tidying up takes seconds and is not to be cut
        keep = keep or status in (BROKEN, STUCK)
        with screen.waiting("stopping everything"):
            stage.strike(keep=keep)
        if keep:
            screen.say(f"the logs are in {stage.stack.logs}")
    if wrong is not None:
        screen.verdict(wrong, time.monotonic() - began)
    return status


if __name__ == "__main__":
    main()
