"""What tests of the pretend provider share: a push as orch8 makes it, and an ear for webhooks."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from orch8.engine.outcome import Answer
from orch8.handlers.http import Caller
from orch8.handlers.request import StepRequest
from orch8.handlers.wire import build_push
from orch8.testing.provider import Provider

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"
_CALLER = Caller()


def request(
    key: str, handler: str = "charge", *, subject: str | None = None, generation: int = 1
) -> StepRequest:
    """A step that charges 99 dollars; ``subject`` is its instance."""
    instance = f"instance-{key}" if subject is None else subject
    params = {"amount_cents": 9900, "currency": "usd"}
    return StepRequest(handler, instance, "charge", key, generation, params=params)


def push(provider: Provider, asked: StepRequest | str, **more: Any) -> Answer:
    """What a push of the step (or of one with this key) comes to."""
    asked = request(asked) if isinstance(asked, str) else asked
    given: dict[str, Any] = {
        "idempotency_key": asked.idempotency_key, "dispatch": 1, "timeout": 5.0,
        "connect_timeout": 2.0, "max_response": 100_000,
    }  # fmt: skip
    call = build_push(provider.url, asked.handler, asked.body(), **(given | more))
    return _CALLER.call(call)


def send(
    url: str, method: str = "GET", body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    """Status and JSON of one request."""
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(url, data=data, method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(asked, timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)


def fetch(url: str, method: str = "GET", body: Any = None) -> Any:
    """The JSON of one request that succeeds."""
    status, answer = send(url, method, body)
    assert status == 200, answer
    return answer


@dataclass(frozen=True)
class Heard:
    """One webhook that came in."""

    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        """Its JSON."""
        return json.loads(self.raw)


class Ear:
    """A receiver of webhooks that answers by ``statuses``, and 200 when they are used up.

    A status 0 never answers. Use as a context.
    """

    def __init__(self, *statuses: int) -> None:
        self._statuses = list(statuses)
        self._changed = threading.Condition()
        self._heard: list[Heard] = []
        self._over = threading.Event()
        ear = self

        class Endpoint(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                status = ear._take(Heard({k.lower(): v for k, v in self.headers.items()}, raw))
                if status == 0:
                    ear._over.wait(10)
                    return
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/hooks"
        serve = self._server.serve_forever
        self._thread = threading.Thread(target=serve, args=(0.02,), daemon=True)

    def wait(self, count: int, seconds: float = 10.0) -> list[Heard]:
        """The first ``count`` webhooks, as soon as there are that many."""
        with self._changed:
            there = self._changed.wait_for(lambda: len(self._heard) >= count, seconds)
            assert there, f"{len(self._heard)} of {count} webhooks came"
            return self._heard[:count]

    def heard(self) -> list[Heard]:
        """All that came so far."""
        with self._changed:
            return list(self._heard)

    def types(self, count: int) -> list[str]:
        """The types of the first ``count`` events."""
        return [heard.body["type"] for heard in self.wait(count)]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._thread.join(5)
        self._server.server_close()

    def _take(self, heard: Heard) -> int:
        with self._changed:
            self._heard.append(heard)
            self._changed.notify_all()
            return self._statuses.pop(0) if self._statuses else 200
