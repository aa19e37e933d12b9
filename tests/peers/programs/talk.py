"""The talk between a peer's program and the driver: JSON lines on standard input and output.

Libraries may print what they like: it goes to the log, since this module takes standard output.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Submit = Callable[[str, list[str], Mapping[str, Any]], None]

_answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)


def say(**words: Any) -> None:
    """The driver has been told."""
    _answers.write(json.dumps(words) + "\n")


def asked() -> Iterator[tuple[str, list[str], Mapping[str, Any]]]:
    """What the driver asks for, until it goes: kind, workflow ids and the workflows' input."""
    for line in sys.stdin:
        words = json.loads(line)
        yield words["kind"], words["ids"], words["context"]


def enter(submit: Submit) -> None:
    """Every workflow that the driver asked for has been submitted."""
    say(ready=True)
    for kind, ids, context in asked():
        submit(kind, ids, context)
        say(submitted=len(ids))


def play(roles: Mapping[str, Callable[[], None]]) -> None:
    """The role that the command line names has been played to its end."""
    roles[sys.argv[1]]()
