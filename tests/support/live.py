"""The API of a house over a real socket, and a troublesome road to it."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from werkzeug.serving import WSGIRequestHandler, make_server

from api import create_app
from tests.support.house import House


class _Keeping(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept
    disable_nagle_algorithm = True

    def log(self, *_: Any) -> None:
        """Nothing is logged."""


@contextmanager
def listening(house: House, **settings: Any) -> Iterator[str]:
    """The address of the API of the house, open to everybody unless the settings say otherwise."""
    chosen = replace(house.settings, **({"insecure": True} | settings))
    app = create_app(chosen, house.office, lambda _: None)
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Keeping)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()


class Trouble(StrEnum):
    """What a road does with one request."""

    LOSE_REQUEST = "hangs up before anything is passed on"
    LOSE_ANSWER = "passes it on, then hangs up"
    HALF_AN_ANSWER = "passes it on, then hangs up in the middle of the answer"
    SILENCE = "passes it on, and never answers"
    BUSY = "answers 503 with Retry-After"
    TOO_MANY = "answers 429 with Retry-After"
    BROKEN_PAGE = "answers 502 with a page"


_ANSWERS = {Trouble.BUSY: 503, Trouble.TOO_MANY: 429, Trouble.BROKEN_PAGE: 502}


@dataclass
class Road:
    """Passes requests on to ``to``, but first makes the troubles that it is told to, in order."""

    to: str
    troubles: list[Trouble] = field(default_factory=list)
    asked: list[tuple[str, str, bytes]] = field(default_factory=list)
    url: str = ""


@contextmanager
def road(to: str, *troubles: Trouble) -> Iterator[Road]:
    """A road to the API at ``to``, with a port of its own."""
    found, over = Road(to, list(troubles)), threading.Event()

    class Gate(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found.asked.append((self.command, self.path, raw))
            trouble = found.troubles.pop(0) if found.troubles else None
            self.close_connection = trouble is not None
            if trouble is Trouble.LOSE_REQUEST:
                return
            if trouble in _ANSWERS:
                self._say(_ANSWERS[trouble], b"<html>later</html>", {"Retry-After": "0"})
                return
            status, answer = _passed_on(found.to, self.command, self.path, raw)
            if trouble is Trouble.SILENCE:
                over.wait(20)
            elif trouble is Trouble.HALF_AN_ANSWER:
                self._say(status, answer, {}, cut=len(answer) // 2)
            elif trouble is None:
                self._say(status, answer, {"Content-Type": "application/json"})

        def _say(
            self, status: int, body: bytes, headers: dict[str, str], *, cut: int | None = None
        ) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[:cut])

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _pass  # noqa: N815 - as the base looks

        def log_message(self, *_: Any) -> None:
            """Nothing is logged."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Gate) as server:
        server.daemon_threads = True
        found.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield found
        finally:
            over.set()
            server.shutdown()
            thread.join(5)


def _passed_on(to: str, method: str, path: str, raw: bytes) -> tuple[int, bytes]:
    at = urlsplit(to)
    connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=10)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request(method, path, raw or None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
