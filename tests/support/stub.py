"""A stub of the API, for what people do from the command line."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from click.testing import CliRunner, Result

from orch8.cli import main


@dataclass
class Stub:
    """An HTTP server that says what it is told to, and remembers what it was asked."""

    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    url: str = ""

    def says(self, path: str, answer: Any, status: int = 200) -> None:
        """From now on a request for the path is answered with this; bytes go out as they are."""
        self.answers[f"/api/v1{path}"] = (status, answer)

    def run(self, *arguments: str) -> Result:
        """What a command comes to that is pointed at this server."""
        return CliRunner().invoke(main, [*arguments, "--url", self.url], env={"COLUMNS": "200"})


@pytest.fixture
def stub() -> Iterator[Stub]:
    """A stub of the API on a port of its own."""
    found = Stub()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else None
            found.asked.append((self.command, self.path, body))
            found.headers = {name.lower(): value for name, value in self.headers.items()}
            status, answer = found.answers[self.path]
            self.send_response(status)
            self.end_headers()
            if self.command != "HEAD":
                raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.wfile.write(raw)

        # The base looks for these names.
        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = _answer  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as in the base
            """Nothing is logged."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield found
        server.shutdown()
        thread.join()
