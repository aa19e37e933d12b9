"""Answers: JSON with dates in UTC, written by orjson."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
from flask import Response
from flask.json.provider import JSONProvider

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_NON_STR_KEYS


class _Complete(Response):
    """An answer whose headers are sent as they stand, since its length is in them: there is nothing
    left for the framework to work out, which would take a tenth of a request's time. Its body is a
    list, which the server sends at once, and not piece by piece.
    """

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """The body, once the head was told."""
        start_response(self.status, self.headers.to_wsgi_list())
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [self.get_data()]


class OrjsonProvider(JSONProvider):
    """Flask's JSON, by orjson."""

    def dumps(self, obj: Any, **_: Any) -> str:
        """``obj`` as JSON text."""
        return to_json(obj).decode()

    def loads(self, s: str | bytes, **_: Any) -> Any:
        """The value that JSON text stands for."""
        return orjson.loads(s)


def to_json(value: Any) -> bytes:
    """``value`` as JSON: dates as RFC 3339 in UTC with a Z, ids as text."""
    return orjson.dumps(value, default=_default, option=_OPTIONS)


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return _Complete(to_json(value), status, headers, mimetype="application/json")


def nothing(status: int = 204) -> Response:
    """An answer without a body."""
    return Response(status=status)


def utc(moment: datetime) -> str:
    """A moment as RFC 3339 in UTC, whatever zone it was given in."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _default(value: Any) -> Any:
    if isinstance(value, datetime):
        return utc(value)
    raise TypeError(f"a {type(value).__name__} is no JSON")
