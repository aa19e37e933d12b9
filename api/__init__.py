"""The REST API: a Flask app over the runtime's verbs."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from flask import Flask, Response

from api import (
    approvals,
    artifacts,
    attempts,
    attention,
    auth,
    breakers,
    bulk,
    capacity,
    changes,
    checkpoints,
    clock,
    cluster,
    credentials,
    cron,
    debugger,
    detours,
    doctor,
    edits,
    effects,
    events,
    failures,
    fences,
    fleet,
    forecast,
    handlers,
    health,
    instances,
    keys,
    limits,
    metrics,
    mounting,
    openapi,
    origins,
    outbox,
    plugins,
    pools,
    preflight,
    problems,
    releases,
    rollbacks,
    routing,
    sequences,
    sessions,
    signals,
    streams,
    tasks,
    tenants,
    triggers,
    usage,
    versions,
    workers,
)
from api.answers import OrjsonProvider
from api.mounting import API
from api.requests import request_id
from api.surface import EXTENSION, Surface
from orch8.config import Settings
from orch8.runtime.intake import Intake
from orch8.runtime.lease import Lease
from orch8.runtime.office import Office
from orch8.storage.fleet import API as API_ROLE

_BUSINESS = (
    sequences, instances, bulk, edits, failures, signals, attempts, attention, fences, workers,
    handlers, forecast, limits, tenants, clock, keys, cluster, credentials, changes,
    outbox, cron, triggers, events, debugger, preflight, versions,
    sessions, checkpoints, doctor, detours, tasks, fleet, routing, approvals, pools,
    breakers, effects,
    plugins, rollbacks, releases, usage, artifacts,
)  # fmt: skip
_ROOT = (health, metrics, openapi)


class _Api(Flask):
    """Flask without what only coroutines need."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """The function: none of ours is a coroutine, and Flask would look at every call."""
        return func


def create_app(settings: Settings, office: Office, announce: Callable[[str], None]) -> Flask:
    """The app, every route bare and under /api/v1. ``announce(lane)`` must return at once.

    Raises ConfigurationError if nobody said that it may serve without an API key, or to any page.
    """
    app = _Api("api", static_folder=None)
    # One more than allowed: a stream without a length ends there, and is seen to be too long.
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body + 1
    app.json = OrjsonProvider(app)
    app.url_map.strict_slashes = True
    counters = metrics.Counters()
    metrics.install(app, counters)
    room = capacity.install(app, settings)
    origins.install(app, settings)
    auth.install(app, settings)
    mounting.install(app)
    streams.install(app, settings)
    node = Lease(office, f"api@{os.uname().nodename}", list, lambda: room.taken, role=API_ROLE)
    app.extensions[EXTENSION] = Surface(settings, office, Intake(office), announce, counters, node)
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
