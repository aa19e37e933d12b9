"""One HTTP exchange with the API, over connections that are kept, and what is known if it fails."""

from __future__ import annotations

import http.client
import os
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from orch8.errors import ConfigurationError

MAX_ANSWER: Final = 64 * 1024 * 1024  # bytes
KEPT: Final = 16  # idle connections
IDLE: Final = 5.0  # seconds after which a kept connection is not used again
_CHUNK: Final = 16 * 1024
_API: Final = "/api/v1"


class NotSent(Exception):
    """No connection came about: nothing was asked."""


class NotAnswered(Exception):
    """The request, or a part of it, was sent: what became of it is not known. ``stale``: over a
    connection that had been idle, which the server may have given up before it read anything.
    """

    def __init__(self, reason: str, *, stale: bool = False) -> None:
        super().__init__(reason)
        self.stale = stale


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked. ``repeatable``: sending it twice comes to the same as sending it once."""

    method: str
    path: str  # with its query, without /api/v1
    body: bytes | None
    headers: Mapping[str, str]
    repeatable: bool
    timeout: float | None = None  # seconds; the wire's own if left out


@dataclass(frozen=True, slots=True)
class Reply:
    """What was answered; the names of headers are in lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class Wire:
    """The way to one API. Threads may share it, and a forked process makes connections of its own.

    ``timeout`` is how many seconds connecting, sending, and each silence of the server may take;
    the whole answer must be there within as many.
    """

    def __init__(self, url: str, timeout: float, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigurationError(
                f"the API's url {url!r} must begin with http:// or https://, "
                "such as http://127.0.0.1:8080"
            )
        try:
            self._host, self._port = parts.hostname, parts.port
        except ValueError as error:
            raise ConfigurationError(f"the API's url {url!r} has no port: {error}") from None
        self._base = parts.path.rstrip("/").removesuffix(_API) + _API
        self._secure, self._tls, self._timeout = parts.scheme == "https", tls, timeout
        self._mutex = threading.Lock()
        self._idle: list[tuple[float, http.client.HTTPConnection]] = []
        self._pid = os.getpid()

    def exchange(self, request: Request) -> Reply:
        """The answer. Raises NotSent or NotAnswered."""
        # Who hangs up an idle connection may do so while a request is on its way: whether it was
        # read is not known then, so only what may be repeated goes over a used one.
        kept = self._take() if request.repeatable else None
        if kept is not None:
            return self._over(kept, request, used=True)
        fresh = self._connection(request.timeout or self._timeout)
        try:
            fresh.connect()
        except (OSError, http.client.HTTPException) as error:
            fresh.close()
            raise NotSent(str(error) or type(error).__name__) from error
        return self._over(fresh, request, used=False)

    def close(self) -> None:
        """No connection is open."""
        while (kept := self._take()) is not None:
            kept.close()

    def _over(
        self, connection: http.client.HTTPConnection, request: Request, *, used: bool
    ) -> Reply:
        timeout = request.timeout or self._timeout
        deadline = time.monotonic() + timeout
        try:
            if connection.sock is not None:
                connection.sock.settimeout(timeout)
            path = self._base + request.path
            connection.request(request.method, path, request.body, dict(request.headers))
            answer = connection.getresponse()
            body = _body(answer, deadline)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            stale = used and not isinstance(error, TimeoutError)  # silence is no hanging up
            raise NotAnswered(str(error) or type(error).__name__, stale=stale) from error
        except BaseException:
            connection.close()
            raise
        if answer.will_close:
            connection.close()
        else:
            self._keep(connection)
        return Reply(answer.status, body, {n.lower(): v for n, v in answer.getheaders()})

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        if self._secure:
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=timeout, context=self._tls
            )
        return http.client.HTTPConnection(self._host, self._port, timeout=timeout)

    def _take(self) -> http.client.HTTPConnection | None:
        with self._mutex:
            if self._pid != os.getpid():  # the connections are the parent's, whose turn it is
                self._pid, self._idle = os.getpid(), []
            while self._idle:
                since, connection = self._idle.pop()
                if time.monotonic() - since < IDLE:
                    return connection
                connection.close()
        return None

    def _keep(self, connection: http.client.HTTPConnection) -> None:
        with self._mutex:
            if self._pid == os.getpid() and len(self._idle) < KEPT:
                self._idle.append((time.monotonic(), connection))
                return
        connection.close()


def _body(answer: http.client.HTTPResponse, deadline: float) -> bytes:
    parts: list[bytes] = []
    size = 0
    while part := answer.read(_CHUNK):
        parts.append(part)
        size += len(part)
        if size > MAX_ANSWER:
            raise http.client.HTTPException(f"the answer has more than {MAX_ANSWER} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError("the answer did not end in time")
    if answer.length:  # reading ends quietly where the connection does
        raise http.client.IncompleteRead(b"", answer.length)
    return b"".join(parts)
