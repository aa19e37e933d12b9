"""Where routes stand: bare and under /api/v1, and which of them are open to everybody."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from flask import Flask, Response, current_app, request

API: Final = "/api/v1"
# Whether the process lives, and the page that asks for the key.
PUBLIC: Final = frozenset({"/health/live", "/health/ready", "/info", "/swagger-ui"})
# What is about the installation and no tenant.
UNSCOPED: Final = re.compile(
    r"/metrics|/api-docs/openapi\.json|/api-keys(/.*)?|/cluster/.*", re.DOTALL
)
_WEBHOOK: Final = re.compile(r"/webhooks/[^/]+")
# Of the bare routes: since when they are the old ones, and when they may be gone.
DEPRECATION: Final = "@1767225600"
SUNSET: Final = "Sat, 01 Jan 2028 00:00:00 GMT"
_IN_LINK: Final = "%/?:@!$&'()*+,;=-._~"


def bare(path: str) -> str:
    """The path without /api/v1."""
    return path.removeprefix(API) if path.startswith(f"{API}/") else path


def is_webhook(method: str, path: str) -> bool:
    """Whether this is an event that somebody outside sends: signed, perhaps, but without a key."""
    return method == "POST" and _WEBHOOK.fullmatch(bare(path)) is not None


def is_public(method: str, path: str) -> bool:
    """Whether anybody may ask this."""
    return path in PUBLIC or is_webhook(method, path)


def install(app: Flask) -> None:
    """Answers of a bare business route say where its successor stands."""
    app.after_request(_successor)


def _successor(response: Response) -> Response:
    rule = request.url_rule
    # A business route is one that stands under /api/v1, too; the others have no successor.
    if rule is None or rule.rule.startswith(API) or not _has_twin(rule.endpoint):
        return response
    query = request.query_string.decode("latin-1")
    target = API + quote(request.path) + (f"?{quote(query, safe=_IN_LINK)}" if query else "")
    response.headers["Deprecation"] = DEPRECATION
    response.headers["Sunset"] = SUNSET
    response.headers.add("Link", f'<{target}>; rel="successor-version"')
    return response


def _has_twin(endpoint: str) -> bool:
    return f"v1_{endpoint}" in current_app.view_functions
