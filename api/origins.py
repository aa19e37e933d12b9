"""CORS: which pages of other origins may use the API from a browser."""

from __future__ import annotations

import re
from typing import Final

from flask import Flask, Response, request

from orch8.config import Settings
from orch8.errors import ConfigurationError

ANY: Final = "*"
METHODS: Final = "GET, HEAD, POST, PUT, PATCH, DELETE"
HEADERS: Final = frozenset(
    {
        "authorization", "content-type", "idempotency-key", "x-actor", "x-api-key",
        "x-orch8-signature", "x-request-id", "x-tenant-id",
    }
)  # fmt: skip
TRIGGER: Final = "x-trigger-"  # any header that begins so
EXPOSED: Final = "x-request-id, Retry-After, Deprecation, Sunset, Link"
MAX_AGE: Final = "600"  # seconds for which a browser need not ask again
MOST_HEADERS: Final = 50
_ORIGIN: Final = re.compile(r"https?://[^/\s*]+")


def install(app: Flask, settings: Settings) -> None:
    """Pages of the stated origins may read answers. ConfigurationError for what is no origin, and
    for ``*`` beside an API key: then any page could use a key that its visitor has.
    """
    origins = _stated(settings)
    if not origins:
        return

    def allowed() -> str | None:
        origin = request.headers.get("Origin", "")
        if ANY in origins:
            return ANY
        return origin if origin in origins else None

    def preflight() -> Response | None:
        asked = "Access-Control-Request-Method" in request.headers
        if request.method != "OPTIONS" or not asked or allowed() is None:
            return None
        response = Response(status=204)
        response.headers["Access-Control-Allow-Methods"] = METHODS
        response.headers["Access-Control-Allow-Headers"] = ", ".join(_headers())
        response.headers["Access-Control-Max-Age"] = MAX_AGE
        return response

    def sign(response: Response) -> Response:
        response.headers.add("Vary", "Origin")
        origin = allowed()
        if origin is not None and "Origin" in request.headers:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = EXPOSED
        return response

    app.before_request(preflight)
    app.after_request(sign)


def _stated(settings: Settings) -> frozenset[str]:
    found = frozenset(filter(None, (each.strip() for each in settings.cors_origins.split(","))))
    for each in sorted(found):
        if each != ANY and not _ORIGIN.fullmatch(each):
            raise ConfigurationError(
                f"ORCH8_CORS_ORIGINS: {each!r} is no origin; write it as https://pay.example.com"
            )
    if ANY in found and settings.api_key:
        raise ConfigurationError(
            "ORCH8_CORS_ORIGINS=* beside ORCH8_API_KEY lets any page use the key; "
            "name the origins that may"
        )
    return found


def _headers() -> list[str]:
    """Those of the headers that the page wants to send which it may."""
    wanted = request.headers.get("Access-Control-Request-Headers", "").lower().split(",")
    names = {name.strip() for name in wanted[:MOST_HEADERS]}
    triggers = {
        name for name in names if name.startswith(TRIGGER) and re.fullmatch("[a-z0-9-]+", name)
    }
    return sorted(HEADERS | triggers)
