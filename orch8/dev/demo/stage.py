"""The stage of the demo: a whole orch8 and a payment provider in a temporary folder."""

from __future__ import annotations

import http.client
import json
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from orch8.client import Client
from orch8.client.answers import Instance
from orch8.dev.address import Address
from orch8.dev.place import place_of
from orch8.dev.process import Command
from orch8.dev.stack import Stack, StackOptions
from orch8.dev.supervisor import Program
from orch8.errors import Orch8Error

WORKERS: Final = 2
TICK, LEASE, HEARTBEAT = 0.25, 2.0, 0.5  # seconds; short, so that a lost worker is missed soon
PATIENCE: Final = 30.0  # seconds that any one thing may take on a slow machine
_TIMEOUT: Final = 10.0  # seconds for each operation of one request
_POLL: Final = 0.02
_PROVIDER_TIER, _PROVIDER_GRACE = 2, 1.0  # it stops after the workers that call it

T = TypeVar("T")


class Stuck(Orch8Error):
    """Something did not happen in time."""


@dataclass(frozen=True, slots=True)
class PretendProvider:
    """The payment provider of the demo, as those who play with it ask it."""

    url: str

    def ledger(self) -> list[dict[str, Any]]:
        """Its own book, the oldest entry first."""
        return list(self._ask("GET", "/ledger")["entries"])

    def misbehave(self, rules: Sequence[Mapping[str, Any]]) -> None:
        """It follows these rules from now on."""
        self._ask("PUT", "/script", rules)

    def answers(self) -> bool:
        """Whether it is there."""
        try:
            self._ask("GET", "/health")
        except Stuck:
            return False
        return True

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        at = urlsplit(self.url)
        connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=_TIMEOUT)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        raw = json.dumps(body).encode() if body is not None else None
        try:
            connection.request(method, path, raw, headers)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as problem:
            raise Stuck(f"{method} {self.url}{path} fails: {problem}") from problem
        finally:
            connection.close()
        if answer.status // 100 != 2:  # noqa: PLR2004
            raise Stuck(f"{method} {self.url}{path} answers {answer.status}: {text[:500]}")
        return json.loads(text)


def curl(url: str, method: str, path: str, data: str) -> str:
    """What a person would type to send a request; ``data`` is JSON or @file."""
    json_header = "-H 'Content-Type: application/json'"
    return f"curl -X {method} {url}{path} {json_header} -d {shlex.quote(data)}"


class Stage:
    """Build it, play on it, ``strike`` it: then nothing of it runs, and its folder is gone.

    ``on_event`` hears one line for every process that ends or starts again.
    """

    def __init__(self, on_event: Callable[[str], None]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="orch8-demo-"))
        self._provider_at = Address("127.0.0.1", 0).claim()
        self.provider = PretendProvider(self._provider_at.url)
        # Whatever orch8 the environment speaks of is a real one, and not for playing.
        environ = {name: v for name, v in os.environ.items() if not name.startswith("ORCH8_")}
        environ |= {"ORCH8_LEASE_SECS": str(LEASE), "ORCH8_HEARTBEAT_SECS": str(HEARTBEAT)}
        options = StackOptions(
            data=self.folder,
            port=0,
            handler_url=self._provider_at.url,
            workers=WORKERS,
            tick=TICK,
        )
        self.stack = Stack(options, environ, on_event=on_event)

    @cached_property
    def api(self) -> Client:
        """orch8, once the stage is built."""
        return Client(self.stack.urls.http, timeout=_TIMEOUT)

    def build(self) -> None:
        """Everything runs and answers. Raises ConfigurationError or Stuck."""
        self.stack.start()
        argv = (
            *(sys.executable, "-m", "orch8.testing.provider"),
            *("--port", str(self._provider_at.port), "--ledger", str(self.folder / "ledger")),
        )
        command = Command("provider", argv, self.stack.env)
        self.stack.add(Program(command, _PROVIDER_TIER, _PROVIDER_GRACE))
        self.until("the provider to answer", self.provider.answers)
        workers = [self.stack.logs / f"worker-{n}.log" for n in range(1, WORKERS + 1)]
        self.until("both workers", lambda: all(b" ready." in log.read_bytes() for log in workers))

    def write(self, name: str, text: str) -> Path:
        """A file in the stage's folder holds the text."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def until(self, what: str, look: Callable[[], T | None], within: float = PATIENCE) -> T:
        """The first thing that ``look`` found. Stuck names what did not come in time."""
        deadline = time.monotonic() + within
        while not (found := look()):
            if lost := self.stack.lost_server():
                raise Stuck(f"{lost} has died")
            if time.monotonic() >= deadline:
                raise Stuck(f"waited {within:g} s in vain for {what}")
            time.sleep(_POLL)
        return found

    def ended(self, instance_id: str) -> Instance | None:
        """The instance if it has ended."""
        found = self.api.instances.get(instance_id)
        return found if found.ended else None

    def crash_workers(self) -> list[int]:
        """Every worker was killed with SIGKILL at one moment; the pids that they had."""
        return [self.stack.kill_worker(number) for number in range(1, WORKERS + 1)]

    def strike(self, *, keep: bool) -> None:
        """Nothing runs any more; with ``keep`` the folder with the logs is left."""
        self.stack.stop()
        if (self.folder / "identity").exists():  # Postgres may have made a place of its own
            place = place_of(self.folder)
            shutil.rmtree(place.sockets, ignore_errors=True)
            shutil.rmtree(place.data.parent, ignore_errors=True)
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)
