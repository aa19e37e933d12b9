"""The headers of an answer, as rules see them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from orch8.engine.outcome import Answer, Verdict
from orch8.handlers.classify import Response
from orch8.handlers.http import MAX_HEADERS, Call, Caller


@contextmanager
def serving(raw: bytes) -> Iterator[str]:
    """A server that gives one connection these bytes, whatever it asks."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10)

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(10)
            connection.recv(65_536)
            connection.sendall(raw)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        thread.join(10)
        listener.close()


def headers_of(raw: bytes) -> dict[str, str]:
    seen: list[Response] = []

    def classify(response: Response) -> Answer:
        seen.append(response)
        return Answer(Verdict.SUCCEEDED)

    with serving(raw) as url:
        Caller().call(Call(url, timeout=10, classify=classify))
    [response] = seen
    return dict(response.headers)


def test_names_are_lower_case_and_repeated_ones_joined() -> None:
    """A rule finds a header however the provider spells it, and as often as it sends it."""
    lines = [b"HTTP/1.1 409 X", b"Transient-Error:  true ", b"Vary: a", b"vary: b"]
    raw = b"\r\n".join([*lines, b"Content-Length: 0", b"", b""])
    assert headers_of(raw) == {"transient-error": "true", "vary": "a, b", "content-length": "0"}


def test_headers_of_interim_answers_and_trailers_do_not_count() -> None:
    """Only what the final answer says before its body is evidence."""
    raw = (
        b"HTTP/1.1 103 Early Hints\r\nStripe-Should-Retry: true\r\n\r\n"
        b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\n{}\r\n0\r\nStripe-Should-Retry: false\r\n\r\n"
    )
    assert headers_of(raw) == {"transfer-encoding": "chunked"}


def test_headers_are_bounded() -> None:
    """A server that sends endless headers fills no memory; the first ones are kept."""
    many = b"".join(b"x-%d: %s\r\n" % (n, b"v" * 100) for n in range(200))
    got = headers_of(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n" + many + b"\r\n")
    assert got["content-length"] == "0"
    assert "x-0" in got
    assert sum(len(name) + len(value) for name, value in got.items()) < MAX_HEADERS
