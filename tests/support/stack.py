"""A real stack with a pretend provider beside it, and what a client and an operator see of both.

Nothing here reaches into a process: instances are started over HTTP, charges are counted by the
provider, and the database is only read.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Self, TypeVar
from urllib.parse import urlsplit

import orjson
import psycopg2
from psycopg2.extras import RealDictCursor

from orch8.dev.process import Child, Command
from orch8.dev.redis import free_port
from orch8.dev.stack import Stack, StackOptions

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "orch8" / "examples"
TERMINAL = frozenset({"completed", "failed", "cancelled"})

# The time constants under which a lost claim is taken back within seconds.
QUICK: Mapping[str, str] = {
    "ORCH8_LEASE_SECS": "2",
    "ORCH8_HEARTBEAT_SECS": "0.5",
    "ORCH8_HANDLER_TIMEOUT_SECS": "2",
    "ORCH8_POISON_CRASHES": "0",
    "ORCH8_BREAKER_COOLDOWN_SECS": "2",
}

_POLL = 0.02
_READY_WITHIN = 20.0
_PAGE = 10_000
_HEADERS = {"content-type": "application/json"}


def until(
    truth: Callable[[], Any],
    within: float,
    what: str | Callable[[], object],
    *,
    poll: float = _POLL,
) -> Any:
    """The first answer of ``truth()`` that is true.

    AssertionError, naming ``what``, if there is none ``within`` these seconds.
    """
    deadline = time.monotonic() + within
    while not (answer := truth()):
        if time.monotonic() >= deadline:
            told = what if isinstance(what, str) else what()
            raise AssertionError(f"waited {within:g} s in vain: {told}")
        time.sleep(poll)
    return answer


def example(name: str) -> Any:
    """The JSON of one of the project's examples."""
    return orjson.loads((EXAMPLES / f"{name}.json").read_bytes())


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered."""

    status: int
    body: Any


class Client:
    """A JSON client on one kept-alive connection; for one thread."""

    def __init__(self, url: str, *, timeout: float = 15.0) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)

    def send(self, method: str, path: str, body: Any = None) -> Reply:
        """The server's answer. OSError or HTTPException if there is none: then nothing is known."""
        raw = None if body is None else orjson.dumps(body)
        fresh = self._connection.sock is None
        try:
            return self._once(method, path, raw)
        except (OSError, http.client.HTTPException):
            self.close()
            if fresh:
                raise
        # The server may have closed an idle connection; whoever creates does so with a key.
        return self._once(method, path, raw)

    def get(self, path: str) -> Any:
        """The JSON of a successful GET."""
        return self._good(self.send("GET", path))

    def post(self, path: str, body: Any = None) -> Any:
        """The JSON of a successful POST."""
        return self._good(self.send("POST", path, body))

    def put(self, path: str, body: Any) -> Any:
        """The JSON of a successful PUT."""
        return self._good(self.send("PUT", path, body))

    def close(self) -> None:
        """The connection is closed; the next request opens another."""
        self._connection.close()

    def _once(self, method: str, path: str, raw: bytes | None) -> Reply:
        self._connection.request(method, path, raw, _HEADERS if raw is not None else {})
        answer = self._connection.getresponse()
        return Reply(answer.status, orjson.loads(answer.read() or b"null"))

    @staticmethod
    def _good(reply: Reply) -> Any:
        assert reply.status < 300, f"{reply.status}: {reply.body}"
        return reply.body


class HandlerProcess:
    """A handler service in a process of its own, on a port that it keeps."""

    def __init__(self, argv: Sequence[str], folder: Path) -> None:
        """``argv`` is run by this Python; ``{port}`` in it becomes the port."""
        self.port = free_port()
        words = (sys.executable, *(word.replace("{port}", str(self.port)) for word in argv))
        self.child = Child(Command("handlers", words, cwd=ROOT), folder / "handlers.log")

    @property
    def url(self) -> str:
        """The base address of the handlers."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """The service answers."""
        self.child.start()
        self.child.wait_ready(self._answers, _READY_WITHIN)
        return self

    def stop(self) -> None:
        """The service has ended."""
        self.child.stop(5.0)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _answers(self) -> bool:
        try:
            with contextlib.closing(Client(self.url, timeout=1.0)) as client:
                return client.send("GET", "/health").status == 200
        except (OSError, http.client.HTTPException):
            return False


class ProviderProcess(HandlerProcess):
    """A pretend provider in a process of its own, with a ledger on disk."""

    def __init__(self, folder: Path, *options: str) -> None:
        ledger = str(folder / "ledger.jsonl")
        argv = ("-m", "orch8.testing.provider", "--port", "{port}", "--ledger", ledger, *options)
        super().__init__(argv, folder)

    def script(self, *rules: Mapping[str, Any]) -> None:
        """From now on the provider misbehaves by these rules alone."""
        with contextlib.closing(Client(self.url)) as client:
            reply = client.send("PUT", "/script", list(rules))
        assert reply.status == 200, reply.body

    def ledger(self, **query: object) -> Any:
        """What GET /ledger shows; without a query the totals alone."""
        asked = query or {"limit": 0}
        words = "&".join(f"{name}={value}" for name, value in asked.items())
        with contextlib.closing(Client(self.url, timeout=60.0)) as client:
            return client.get(f"/ledger?{words}")

    def totals(self) -> dict[str, int]:
        """The counts of the whole ledger."""
        found: dict[str, int] = self.ledger()["totals"]
        return found

    def entries(self) -> list[dict[str, Any]]:
        """Every entry of the ledger."""
        found: list[dict[str, Any]] = []
        while page := self.ledger(after=len(found), limit=_PAGE)["entries"]:
            found += page
        return found


Handlers = TypeVar("Handlers", bound=HandlerProcess)


class World(Generic[Handlers]):
    """A stack, the handlers that it calls, and the views of a client and of an operator.

    Use as a context: everything runs inside the block, nothing after it.
    """

    def __init__(
        self,
        folder: Path,
        handlers: Handlers,
        *,
        settings: Mapping[str, str] | None = None,
        options: StackOptions | None = None,
        on_event: Callable[[str], None] | None = None,
    ) -> None:
        self.handlers = handlers
        environ = {k: v for k, v in os.environ.items() if not k.startswith("ORCH8_")}
        self.stack = Stack(
            replace(
                options or StackOptions(durable=False),
                data=folder / "stack",
                port=0,
                handler_url=handlers.url,
            ),
            environ | dict(QUICK if settings is None else settings),
            on_event=on_event,
        )
        self._client: Client | None = None
        self._numbers = itertools.count(1)

    @property
    def client(self) -> Client:
        """A client of the API."""
        if self._client is None:
            self._client = Client(self.stack.address.url)
        return self._client

    def __enter__(self) -> Self:
        try:
            self.handlers.start()
            self.stack.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing runs any more, and the database is gone."""
        if self._client is not None:
            self._client.close()
        self.stack.stop()
        if self.stack.postgres is not None:
            self.stack.postgres.erase()
        self.handlers.stop()

    def publish(self, definition: Any) -> str:
        """The definition is published; its name."""
        name: str = self.client.post("/sequences", definition)["name"]
        return name

    def begin(self, sequence: str = "payment_dunning", key: str | None = None) -> str:
        """An instance of the sequence has been started with a key of its own; its id.

        A 503 is asked again with the same key, as clients are told to.
        """
        path = f"/sequences/{sequence}/instances"
        body = creation(key or f"{sequence}-{next(self._numbers)}")
        reply = until(
            lambda: (
                reply if (reply := self.client.send("POST", path, body)).status != 503 else None
            ),
            15.0,
            "the API is available",
        )
        assert reply.status in {200, 201}, f"{reply.status}: {reply.body}"
        return str(reply.body["id"])

    def ended(self, instance_id: str, within: float = 30.0) -> Any:
        """The instance, which has come to an end."""

        def look() -> Any:
            shown = self.client.get(f"/instances/{instance_id}")
            return shown if shown["state"] in TERMINAL else None

        return until(look, within, lambda: self.client.get(f"/instances/{instance_id}/timeline"))

    def rows(
        self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[dict[str, Any]]:
        """What the database holds."""
        with (
            contextlib.closing(psycopg2.connect(self.stack.urls.owner)) as connection,
            connection.cursor(cursor_factory=RealDictCursor) as cursor,
        ):
            cursor.execute(statement, parameters)
            return list(map(dict, cursor.fetchall()))

    def pid(self, name: str) -> int | None:
        """The number of one of the stack's processes, None if it does not run."""
        return next((p.pid for p in self.stack.processes if p.name == name), None)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> bool:
        """The process got the signal as from outside; False if it does not run."""
        pid = self.pid(name)
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        return True


def creation(key: str) -> dict[str, Any]:
    """The body of the seed's own creation call, under a key of its own."""
    body: dict[str, Any] = example("create_instance")
    return body | {"idempotency_key": key}


@contextlib.contextmanager
def running(child: Child) -> Iterator[Child]:
    """The child runs inside the block and not after it."""
    child.start()
    try:
        yield child
    finally:
        child.signal(signal.SIGKILL)
        child.wait_end(5.0)
