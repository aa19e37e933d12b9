"""Asking the API for JSON: sent again where that is safe, within bounds; errors as exceptions."""

from __future__ import annotations

import json
import random
import ssl
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from orch8.client.problems import SHOWN, NotJson, Unreachable, problem_of, retry_after
from orch8.client.wire import NotAnswered, NotSent, Reply, Request, Wire
from orch8.errors import BadGateway, InvalidArgument, Orch8Error

_REPEATABLE: Final = frozenset({"GET", "PUT", "DELETE"})
_PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})  # may work in a moment
_TOO_MANY, _MISSING = 429, 404
_SENT_ELSEWHERE = 300  # from this status on nothing was done: redirections are not followed


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how long a request is sent again. Times are seconds."""

    most: int = 3  # besides the first time; 0: never
    first_pause: float = 0.2  # doubled each time, and shortened by chance to spread callers
    longest_pause: float = 5.0
    patience: float = 30.0  # after which nothing is sent again


NEVER: Final = Retries(most=0)


class Caller:
    """Asks one API in the name of one tenant and actor. Threads may share it."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        tenant: str | None = None,
        actor: str | None = None,
        timeout: float = 30.0,
        retries: Retries | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._wire = Wire(self.url, timeout, tls)
        self._retries = retries or Retries()
        given = {"x-api-key": api_key, "X-Tenant-Id": tenant, "X-Actor": actor}
        self._headers = {"Content-Type": "application/json"} | {n: v for n, v in given.items() if v}
        for name, value in self._headers.items():
            if not (value.isascii() and value.isprintable()):
                raise InvalidArgument(f"{name} must be printable ASCII to go into a header")
        weakref.finalize(self, self._wire.close)

    def disconnect(self) -> None:
        """No connection is open; the next request opens one."""
        self._wire.close()

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        repeatable: bool | None = None,
        retries: Retries | None = None,
        timeout: float | None = None,
    ) -> Any:
        """The JSON that the API answers, None for an empty answer. ``path`` begins behind /api/v1.

        ``repeatable`` says that sending the request twice comes to the same as sending it once;
        left out, GET, PUT and DELETE do. Others are sent again only if they surely had no effect.
        Raises one of ``orch8.errors``; Unreachable if there was no answer.
        """
        if repeatable is None:
            repeatable = method in _REPEATABLE
        asked = {name: value for name, value in (query or {}).items() if value is not None}
        if asked:
            path = f"{path}{'&' if '?' in path else '?'}{urlencode(asked)}"
        raw = None if body is None else _json(body)
        request = Request(method, path, raw, self._headers, repeatable, timeout)
        reply = self._send(request, retries or self._retries)
        if not reply.body:
            return None
        try:
            return json.loads(reply.body)
        except ValueError:
            said = reply.body[:SHOWN]
            raise BadGateway(f"{self.url} is no orch8: it answered {said!r}") from None

    def _send(self, request: Request, retries: Retries) -> Reply:
        """A successful reply; else the error of the last one."""
        deadline = time.monotonic() + retries.patience
        pause, sent = retries.first_pause, 0
        maybe_done = False  # whether an earlier sending may have had its effect
        while True:
            error, wait, again = self._once(request)
            if isinstance(error, Reply):
                return error
            if maybe_done and request.method == "DELETE" and error.extra.get("status") == _MISSING:
                return Reply(204, b"", {})  # gone, by an earlier sending whose answer was lost
            maybe_done = maybe_done or not isinstance(error.__cause__, NotSent)
            stale = isinstance(error.__cause__, NotAnswered) and error.__cause__.stale
            if stale and time.monotonic() < deadline:
                continue  # an idle connection was none: at once over another, and not counted
            wait = max(pause * random.uniform(0.5, 1.0), wait)  # noqa: S311 - spreads callers
            if not again or sent >= retries.most or time.monotonic() + wait > deadline:
                raise error
            time.sleep(wait)
            pause, sent = min(2 * pause, retries.longest_pause), sent + 1

    def _once(self, request: Request) -> tuple[Reply | Orch8Error, float, bool]:
        """The reply or the error, the seconds that the server asks for, and whether to go on."""
        try:
            reply = self._wire.exchange(request)
        except NotSent as problem:
            return self._unreachable(problem), 0.0, True
        except NotAnswered as problem:
            return self._unreachable(problem), 0.0, request.repeatable
        if reply.status < _SENT_ELSEWHERE:
            return reply, 0.0, False
        error = problem_of(reply.status, reply.body, reply.headers)
        again = reply.status in _PASSING and (request.repeatable or reply.status == _TOO_MANY)
        return error, retry_after(reply.headers) or 0.0, again

    def _unreachable(self, problem: Exception) -> Unreachable:
        error = Unreachable(f"{self.url} cannot be reached: {problem}; is orch8 running?")
        error.__cause__ = problem
        return error


def _json(body: Any) -> bytes:
    try:
        return json.dumps(body, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise NotJson(str(error)) from None
