"""The client side of the measurements: creates instances over HTTP, as fast as it can or paced.

It shares the cores with what it measures, so it speaks HTTP over bare sockets.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Self
from urllib.parse import urlsplit

import orjson

from tests.support.stack import creation

_TIMEOUT = 30.0
_LENGTH = b"content-length: "


@dataclass(frozen=True, slots=True)
class Created:
    """One creation: the instance, and when (monotonic) it was asked for and answered."""

    instance_id: str
    asked_at: float
    answered_at: float


class Creator:
    """A kept-alive connection that creates instances of one sequence."""

    def __init__(self, url: str, sequence: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        self._socket = socket.create_connection((parts.hostname, parts.port), _TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._line = (
            f"POST /sequences/{sequence}/instances HTTP/1.1\r\nhost: {parts.netloc}\r\n"
            "content-type: application/json\r\ncontent-length: "
        ).encode()

    def create(self, key: str) -> Created:
        """An instance exists under the key. RuntimeError unless the API answers 201."""
        body = orjson.dumps(creation(key))
        asked_at = time.monotonic()
        self._socket.sendall(b"%b%d\r\n\r\n%b" % (self._line, len(body), body))
        status, answer = self._read()
        answered_at = time.monotonic()
        if status != 201:
            raise RuntimeError(f"creation answered {status}: {answer.decode()[:300]}")
        return Created(orjson.loads(answer)["id"], asked_at, answered_at)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _read(self) -> tuple[int, bytes]:
        raw = b""
        while (end := raw.find(b"\r\n\r\n")) < 0:
            raw += self._more()
        head = raw[:end].lower()
        length = int(head.partition(_LENGTH)[2].split(b"\r\n", 1)[0])
        body = raw[end + 4 :]
        while len(body) < length:
            body += self._more()
        return int(head.split(b" ", 2)[1]), body

    def _more(self) -> bytes:
        if not (data := self._socket.recv(65536)):
            raise ConnectionError("the API closed the connection")
        return data


def create_all(url: str, sequence: str, keys: Sequence[str], connections: int) -> float:
    """An instance exists under every key; how many were created per second."""
    waiting = iter(keys)
    lock = threading.Lock()
    problems: list[BaseException] = []
    barrier = threading.Barrier(connections + 1)

    def work() -> None:
        try:
            with Creator(url, sequence) as creator:
                barrier.wait()
                while (key := _next(waiting, lock)) is not None and not problems:
                    creator.create(key)
        except BaseException as problem:  # noqa: BLE001 - handed to the caller
            problems.append(problem)
            barrier.abort()

    threads = [threading.Thread(target=work, name="creator") for _ in range(connections)]
    for thread in threads:
        thread.start()
    try:
        barrier.wait()
    except threading.BrokenBarrierError:
        raise problems[0] from None
    began = time.monotonic()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]
    return len(keys) / (time.monotonic() - began)


def create_paced(
    url: str, sequence: str, prefix: str, rate: float, seconds: float
) -> list[Created]:
    """``rate`` instances a second have been created for some seconds; when each was.

    A creation that is late does not delay those after it: their times were fixed before.
    """
    made: list[Created] = []
    with Creator(url, sequence) as creator:
        began = time.monotonic()
        for number in count():
            at = began + number / rate
            if at >= began + seconds:
                return made
            time.sleep(max(at - time.monotonic(), 0.0))
            made.append(creator.create(f"{prefix}-{number}"))
    raise AssertionError("count() does not end")


def _next(waiting: Iterator[str], lock: threading.Lock) -> str | None:
    with lock:
        return next(waiting, None)
