"""A handler that costs next to nothing: answers every POST at once, and knows when it came.

``POST /<handler>`` is answered ``{"status":"succeeded"}``, ``POST /bytes-<n>`` with n more bytes,
``POST /wait-<n>`` after n milliseconds, whether the caller is still there or not.
``PUT /record`` starts a new list of visits; ``GET /arrivals`` ends it and shows it: [monotonic
seconds, instance id], in order; ``GET /visits`` shows when each was answered, too, as the second.
Run with: python -m tests.bench.handler PORT
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import random
import sys
import time
from functools import lru_cache

import orjson

MAX_RECORDED = 1_000_000
_BODY = b'{"status":"succeeded"}'
_BYTES = b"POST /bytes-"
_WAIT = b"POST /wait-"
_END = b"\r\n\r\n"
_LENGTH = b"content-length:"
_INSTANCE = b'"instance_id":"'
_UUID = 36


class Book:
    """The visits, while they are asked for: arrival, answer, instance."""

    def __init__(self) -> None:
        self.recording = False
        self.visits: list[tuple[float, float, str]] = []

    def note(self, at: float, body: bytes) -> None:
        """A call that arrived at ``at`` has just been answered."""
        if self.recording and len(self.visits) < MAX_RECORDED:
            self.visits.append((at, time.monotonic(), _instance(body)))

    def opened(self) -> bytes:
        """A new list is kept from now on."""
        self.recording, self.visits = True, []
        return b"{}"

    def closed(self, *, whole: bool) -> bytes:
        """The list, which is not continued; the time of the answer only if it is ``whole``."""
        self.recording = False
        self.visits.sort()  # who is answered late is noted late
        return orjson.dumps(self.visits if whole else [(at, of) for at, _, of in self.visits])


class Endpoint(asyncio.Protocol):
    """One connection: whole requests are answered in order, as many as came together."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        at = time.monotonic()
        self._buffer = self._buffer + data if self._buffer else data
        while (end := self._buffer.find(_END)) >= 0:
            head = self._buffer[:end]
            whole = end + len(_END) + _length(head)
            if len(self._buffer) < whole:
                return
            body, self._buffer = self._buffer[end + len(_END) : whole], self._buffer[whole:]
            if head.startswith(_WAIT):
                loop = asyncio.get_running_loop()
                loop.call_later(_number(head, _WAIT) / 1000, self._respond, at, head, body)
            else:
                self._respond(at, head, body)

    def _respond(self, at: float, head: bytes, body: bytes) -> None:
        assert self._transport is not None
        if not self._transport.is_closing():
            self._transport.write(_response(self._answer(head)))
        if head.startswith(b"POST"):
            self._book.note(at, body)

    def _answer(self, head: bytes) -> bytes:
        if head.startswith(b"POST"):
            return _long(head) if head.startswith(_BYTES) else _BODY
        if head.startswith(b"PUT /record"):
            return self._book.opened()
        if head.startswith((b"GET /arrivals", b"GET /visits")):
            return self._book.closed(whole=head.startswith(b"GET /visits"))
        return b"{}"


def _long(head: bytes) -> bytes:
    """An answer with as many bytes more as the path says."""
    return _answer_of(_number(head, _BYTES))


def _number(head: bytes, prefix: bytes) -> int:
    return int(head[len(prefix) : head.index(b" ", len(prefix))])


@lru_cache
def _answer_of(size: int) -> bytes:
    """Bytes that no compression makes smaller by much."""
    raw = random.Random(size).randbytes(size * 3 // 4)
    return b'{"status":"succeeded","blob":"%b"}' % base64.b64encode(raw)


def _length(head: bytes) -> int:
    lower = head.lower()
    at = lower.find(_LENGTH)
    if at < 0:
        return 0
    return int(lower[at + len(_LENGTH) :].split(b"\r\n", 1)[0])


def _instance(body: bytes) -> str:
    at = body.find(_INSTANCE)
    return body[at + len(_INSTANCE) :][:_UUID].decode() if at >= 0 else ""


def _response(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


async def serve(port: int) -> None:
    """The endpoint answers on loopback until the process ends."""
    book = Book()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Endpoint(book), "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Serve on the port of the command line."""
    # A provider would not share the cores: its clock must not suffer from what is measured.
    with contextlib.suppress(OSError):
        os.nice(-10)
    asyncio.run(serve(int(sys.argv[1])))


if __name__ == "__main__":
    main()
