"""A pretend payment provider as a real HTTP server: it fails the way real ones do.

``POST /<handler>`` is what orch8 calls. ``GET /ledger`` shows what was charged, ``PUT /script``
says how to misbehave. Run it with ``python -m orch8.testing.provider --port 9000``.
"""

from __future__ import annotations

import select
import signal
import socket
import threading
import time
from collections.abc import Iterable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import parse_qs, unquote, urlsplit

import click
import orjson

from orch8.errors import Orch8Error
from orch8.testing.acquirer import Acquirer, Reply, error
from orch8.testing.ledger import MAX_PAGE, Ledger, Replay
from orch8.testing.misbehaviour import Rule, Script, rules_from_json

MAX_BODY: Final = 1024 * 1024
MAX_CONNECTIONS: Final = 1024
IDLE_TIMEOUT: Final = 60.0


class Provider:
    """The provider: start it, point ORCH8_HANDLER_URL at ``url``, read ``ledger``, close it.

    ``key_ttl`` and ``latency`` are seconds; ``secrets`` are whsec_ secrets: with any, a request
    that none of them signed is answered 401.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        ledger_file: Path | None = None,
        rules: Iterable[Rule] = (),
        replay: Replay = Replay.FIRST_RESULT,
        key_ttl: float = 86_400.0,
        latency: float = 0.0,
        secrets: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        self.ledger = Ledger(ledger_file, replay=replay, key_ttl=key_ttl)
        self.script = Script(rules, seed=seed)
        self.acquirer = Acquirer(self.ledger, self.script, latency=latency, secrets=secrets)
        self._server = _Server((host, port), self.acquirer)
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The base address of the handlers, without a slash at its end."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def start(self) -> Self:
        """The provider answers from now on."""
        serve = self._server.serve_forever
        self._thread = threading.Thread(target=serve, args=(0.05,), name="provider", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """No connection is open any more and the ledger is on disk."""
        self.acquirer.stopping.set()
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join(timeout=5)
        self._server.server_close()
        self._server.drop_connections(5.0)
        self.ledger.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024

    def __init__(self, address: tuple[str, int], acquirer: Acquirer) -> None:
        self.acquirer = acquirer
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()
        super().__init__(address, _Endpoint)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changed:
            full = len(self._open) >= MAX_CONNECTIONS
            if not full:
                self._open.add(request)
        if full:
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
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
    server: _Server
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
        if urlsplit(self.path).path != "/script":
            self._send(Reply(404, error("not_found", "PUT /script takes a list of rules")))
            return
        try:
            rules = rules_from_json(orjson.loads(raw))
            self.server.acquirer.script.replace(rules)
        except (orjson.JSONDecodeError, Orch8Error) as wrong:
            self._send(Reply(400, error("bad_script", str(wrong))))
            return
        self._send(Reply(200, {"rules": len(rules)}))

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/health":
            self._send(Reply(200, {"status": "ok"}))
        elif parts.path == "/ledger":
            try:
                self._send(Reply(200, _shown(self.server.acquirer.ledger, query)))
            except ValueError as wrong:
                self._send(Reply(400, error("bad_query", str(wrong))))
        else:
            self._send(Reply(404, error("not_found", "there are /ledger and /health")))

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
        if reply.retry_after is not None:
            self.send_header("Retry-After", reply.retry_after)
        if reply.replayed:
            self.send_header("Idempotent-Replayed", "true")
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


def _shown(ledger: Ledger, query: dict[str, str]) -> dict[str, Any]:
    if "key" in query:
        return {"totals": ledger.totals(), "entries": [ledger.entry(query["key"])]}
    after, limit = int(query.get("after", "0")), int(query.get("limit", "1000"))
    if after < 0 or not 0 <= limit <= MAX_PAGE:
        raise ValueError(f"after must be 0 or more and limit from 0 to {MAX_PAGE}")
    shown: dict[str, Any] = {
        "totals": ledger.totals(),
        "entries": ledger.page(after=after, limit=limit),
    }
    if "window" in query:
        shown["peak"] = ledger.peak(float(query["window"]), query.get("handler"))
    if "arrivals" in query:
        shown["arrivals"] = ledger.arrivals()
    return shown


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=9000, show_default=True, help="0 takes a free one.")
@click.option("--ledger", type=click.Path(path_type=Path), help="File that keeps the ledger.")
@click.option("--script", type=click.Path(path_type=Path, exists=True), help="JSON list of rules.")
@click.option("--replay", type=click.Choice(list(Replay)), default=Replay.FIRST_RESULT)
@click.option("--key-ttl", default=86_400.0, show_default=True, help="Seconds a key is kept.")
@click.option("--latency-ms", default=0.0, show_default=True, help="Added to every effect.")
@click.option("--secret", multiple=True, help="whsec_ secret that must sign each request.")
@click.option("--seed", default=0, show_default=True, help="Of the rules' chances.")
def main(
    host: str,
    port: int,
    ledger: Path | None,
    script: Path | None,
    replay: Replay,
    key_ttl: float,
    latency_ms: float,
    secret: tuple[str, ...],
    seed: int,
) -> None:
    """Run a pretend payment provider until it is interrupted."""
    try:
        rules = rules_from_json(orjson.loads(script.read_bytes())) if script else []
    except (orjson.JSONDecodeError, Orch8Error) as wrong:
        raise click.ClickException(f"--script {script}: {wrong}") from None
    provider = Provider(
        host=host,
        port=port,
        ledger_file=ledger,
        rules=rules,
        replay=Replay(replay),
        key_ttl=key_ttl,
        latency=latency_ms / 1000,
        secrets=secret,
        seed=seed,
    )
    with provider:
        click.echo(f"provider on {provider.url}")
        stopping = provider.acquirer.stopping
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopping.set())
        while not stopping.wait(3600):
            pass


if __name__ == "__main__":
    main()
