"""What orch8 tells a worker: it drains when it is told to, and answers a ping."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from orch8.client.caller import NEVER, Caller
from orch8.client.paths import path
from orch8.errors import Forbidden, NotFound, Orch8Error, Unauthorized

log = logging.getLogger(__name__)

EVERY: Final = 10.0  # seconds between looks
SOON: Final = 5.0  # seconds for an answer: polling waits for it
_NOT_FOR_US: Final = (Forbidden, NotFound, Unauthorized)


class Orders:
    """The commands of one worker. ``drain()`` is called when it is told to drain.

    Commands are the root key's. With another key, or on an orch8 without them, nobody asks again.
    """

    def __init__(
        self, caller: Caller, worker_id: str, drain: Callable[[], None], every: float = EVERY
    ) -> None:
        self._caller, self._worker_id, self._drain = caller, worker_id, drain
        self._every, self._due = every, time.monotonic()

    def look(self) -> None:
        """What was told is done, if it is time to look. A command that a worker does not know is
        left to whoever does. Never raises for an orch8 that is away: the next look is soon.
        """
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + self._every
        try:
            for command in self._ask("GET", path("workers", self._worker_id, "commands")):
                self._obey(command["command"], command["id"])
        except _NOT_FOR_US as problem:
            self._due = float("inf")
            log.info("orch8: commands are not looked for: %s", problem)
        except Orch8Error as problem:
            log.warning("orch8: commands cannot be looked for: %s", problem)

    def _obey(self, command: str, command_id: str) -> None:
        if command not in {"drain", "ping"}:
            return
        # Deleted first: a worker that is started anew under this id must not drain again.
        try:
            self._ask("DELETE", path("workers", "commands", command_id))
        except NotFound:
            return  # another thread or process of this id was quicker
        log.info("orch8: told to %s", command)
        if command == "drain":
            self._drain()

    def _ask(self, method: str, at: str) -> list[dict[str, str]]:
        return self._caller.ask(method, at, retries=NEVER, timeout=SOON) or []
