"""The REST API: a Flask app over the runtime's verbs."""

from __future__ import annotations

from collections.abc import Callable

from flask import Flask, Response

from api import (
    attempts,
    attention,
    auth,
    clock,
    fences,
    handlers,
    health,
    instances,
    limits,
    metrics,
    openapi,
    problems,
    sequences,
    signals,
    tenants,
    workers,
)
from api.answers import OrjsonProvider
from api.requests import request_id
from api.surface import EXTENSION, Surface
from orch8.config import Settings
from orch8.runtime.office import Office

API = "/api/v1"
_BUSINESS = (
    sequences, instances, signals, attempts, attention, fences, workers, handlers, limits, tenants,
    clock,
)  # fmt: skip
_ROOT = (health, metrics, openapi)


def create_app(settings: Settings, office: Office, announce: Callable[[str], None]) -> Flask:
    """The app, every route bare and under /api/v1. ``announce(lane)`` must return at once.

    Raises ConfigurationError if nobody said that it may serve without an API key.
    """
    app = Flask("api", static_folder=None)
    # One more than allowed: a stream without a length ends there, and is seen to be too long.
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body + 1
    app.json = OrjsonProvider(app)
    app.url_map.strict_slashes = True
    counters = metrics.Counters()
    app.extensions[EXTENSION] = Surface(settings, office, announce, counters)
    metrics.install(app, counters)
    auth.install(app, settings)
    problems.install(app)
    app.after_request(_sign)
    for part in _BUSINESS:
        app.register_blueprint(part.blueprint)
        app.register_blueprint(part.blueprint, url_prefix=API, name=f"v1_{part.blueprint.name}")
    for part in _ROOT:
        app.register_blueprint(part.blueprint)
    return app


def _sign(response: Response) -> Response:
    response.headers["x-request-id"] = request_id()
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Cache-Control", "no-store")
    return response
