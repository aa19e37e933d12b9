"""The HTTP side of a pretend provider: sockets, addresses and JSON, and nothing about money."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

import orjson

from orch8.errors import InvalidArgument, Orch8Error
from orch8.testing.acquirer import Acquirer
from orch8.testing.ledger import MAX_PAGE, Ledger
from orch8.testing.misbehaviour import rules_from_json
from orch8.testing.replies import Reply, error
from orch8.testing.webhooks import Target

MAX_BODY: Final = 1024 * 1024
MAX_CONNECTIONS: Final = 1024
IDLE_TIMEOUT: Final = 60.0


class Server(ThreadingHTTPServer):
    """Serves an acquirer, one thread for each connection."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024

    def __init__(self, address: tuple[str, int], acquirer: Acquirer) -> None:
        self.acquirer = acquirer
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()
        super().__init__(address, _Endpoint)

    def process_request(self, request: Any, client_address: Any) -> None:
        """The connection has a thread, or is closed when there are too many."""
        with self._changed:
            full = len(self._open) >= MAX_CONNECTIONS
            if not full:
                self._open.add(request)
        if full:
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """The connection is closed and forgotten."""
        super().shutdown_request(request)
        with self._changed:
            self._open.discard(request)
            self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is part of the game."""

    def drop_connections(self, timeout: float) -> None:
        """Every connection is closed, or ``timeout`` seconds have passed."""
        with self._changed:
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # the other side was faster
            self._changed.wait_for(lambda: not self._open, timeout)


class _Endpoint(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    timeout = IDLE_TIMEOUT
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_POST(self) -> None:
        raw = self._body()
        if raw is None:
            return
        name = unquote(urlsplit(self.path).path.rstrip("/").rpartition("/")[2])
        headers = {key.lower(): value for key, value in self.headers.items()}
        self._send(self.server.acquirer.answer(name, headers, raw))

    def do_PUT(self) -> None:
        raw = self._body()
        if raw is None:
            return
        path = urlsplit(self.path).path
        change = _CHANGES.get(path)
        if change is None:
            known = ", ".join(_CHANGES)
            self._send(Reply(404, error("not_found", f"{path}: only these can be PUT: {known}")))
            return
        try:
            reply = change(self.server.acquirer, orjson.loads(raw))
        except (orjson.JSONDecodeError, Orch8Error) as wrong:
            reply = Reply(400, error(f"bad_{path[1:]}", str(wrong)))
        self._send(reply)

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        try:
            self._send(_show(self.server.acquirer, parts.path, query))
        except (ValueError, InvalidArgument) as wrong:
            self._send(Reply(400, error("bad_query", str(wrong))))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """A provider under load says nothing."""

    def _body(self) -> bytes | None:
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or int(length) > MAX_BODY:
            self.close_connection = True
            self._send(Reply(413, error("too_large", f"at most {MAX_BODY} bytes")))
            return None
        return self.rfile.read(int(length))

    def _send(self, reply: Reply) -> None:
        if reply.status == 0:
            self._stay_silent(reply.silence)
            self.close_connection = True
            return
        raw = reply.body if isinstance(reply.body, bytes) else orjson.dumps(reply.body)
        self.send_response(reply.status)
        kind = "text/html" if isinstance(reply.body, bytes) else "application/json"
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(raw)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)
        self.wfile.flush()

    def _stay_silent(self, seconds: float) -> None:
        # Ends early when the client gives up, so that a waiting thread is not kept for nothing.
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.server.acquirer.stopping.is_set():
            readable, _, _ = select.select([self.connection], [], [], 0.1)
            if readable and not self.connection.recv(1, socket.MSG_PEEK):
                return


def _put_script(acquirer: Acquirer, body: Any) -> Reply:
    rules = rules_from_json(body)
    acquirer.script.replace(rules)
    return Reply(200, {"rules": len(rules)})


def _put_clock(acquirer: Acquirer, body: Any) -> Reply:
    offset = body.get("offset_seconds") if isinstance(body, dict) and len(body) == 1 else None
    if isinstance(offset, bool) or not isinstance(offset, int | float):
        raise InvalidArgument('offset_seconds: send one number, as in {"offset_seconds": 86400}')
    acquirer.ledger.set_clock(offset)
    return Reply(200, {"now": acquirer.ledger.now()})


def _put_webhooks(acquirer: Acquirer, body: Any) -> Reply:
    acquirer.webhooks.aim(Target.from_json(body))
    return Reply(200, {"target": acquirer.webhooks.shown()["target"]})


_CHANGES: Final[Mapping[str, Callable[[Acquirer, Any], Reply]]] = {
    "/script": _put_script,
    "/clock": _put_clock,
    "/webhooks": _put_webhooks,
}


def _show(acquirer: Acquirer, path: str, query: dict[str, str]) -> Reply:
    match path.split("/")[1:]:
        case ["health"]:
            return Reply(200, {"status": "ok"})
        case ["ledger"]:
            return Reply(200, _ledger(acquirer.ledger, query))
        case ["clock"]:
            return Reply(200, {"now": acquirer.ledger.now()})
        case ["webhooks"]:
            return Reply(200, acquirer.webhooks.shown())
        case ["charges"] if query.get("idempotency_key"):
            return acquirer.find("charges", query["idempotency_key"])
        case ["charges"]:
            raise InvalidArgument("idempotency_key: is missing; or GET /charges/<charge_id>")
        case ["charges", charge_id]:
            return acquirer.search.show(unquote(charge_id))
    known = "/ledger, /charges, /webhooks, /clock and /health"
    return Reply(404, error("not_found", f"there are {known}"))


def _ledger(ledger: Ledger, query: dict[str, str]) -> dict[str, Any]:
    if "key" in query:
        return {"totals": ledger.totals(), "entries": [ledger.entry(query["key"])]}
    after, limit = int(query.get("after", "0")), int(query.get("limit", "1000"))
    if after < 0 or not 0 <= limit <= MAX_PAGE:
        raise InvalidArgument(f"after must be 0 or more and limit from 0 to {MAX_PAGE}")
    if query.get("by", "key") not in ("key", "subject"):
        raise InvalidArgument("by: must be key or subject")
    shown: dict[str, Any] = {"totals": ledger.totals()}
    if query.get("by") == "subject":
        twice = "duplicates" in query
        shown["subjects"] = ledger.subjects(after=after, limit=limit, duplicates=twice)
    else:
        shown["entries"] = ledger.page(after=after, limit=limit)
    if "window" in query:
        shown["peak"] = ledger.peak(float(query["window"]), query.get("handler"))
    if "arrivals" in query:
        shown["arrivals"] = ledger.arrivals()
    return shown
