"""The routes that look ahead at rate limits: forecasts of queues, and what providers publish."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from flask import Blueprint, Response, current_app

from api import requests
from api.answers import answer
from api.auth import caller
from api.operations import operation
from api.schemas.forecast import ForecastQuery, ForecastsSchema, PresetsSchema
from api.surface import surface
from orch8.errors import NotFound
from orch8.limits import Limiter
from orch8.money.limits import LIMITS, VERSION, Allowed, ProviderLimits
from orch8.runtime.forecast import Forecast, forecast

blueprint: Final = Blueprint("forecast", __name__)

_QUERY = ForecastQuery()
_LIMITER: Final = "orch8-limiter"


@blueprint.get("/rate-limits/forecast")
@operation(
    "Forecast when the queues of rate limits drain, and who comes too late",
    query=ForecastQuery,
    answers={200: ForecastsSchema},
    errors=(404,),
)
def ahead() -> Response:
    """At most a hundred keys, the longest queue first; of one key, at most a hundred misses."""
    key = requests.query(_QUERY).get("key")
    here = surface()
    with here.office.begin() as tx:
        found = forecast(here.office, tx, tenant_id=caller().tenant, key=key, limiter=_limiter())
    if key is not None and not found.keys:
        raise NotFound(f"rate limit {key!r}: nobody has stated one, and no step waits for it")
    return answer({"items": [_shown(each) for each in found.keys], "left_out": found.left_out})


@blueprint.get("/rate-limits/presets")
@operation("Read the limits that providers publish, with sources", answers={200: PresetsSchema})
def presets() -> Response:
    """What `orch8 limits apply` writes for an account."""
    return answer({"version": VERSION, "items": [_published(each) for each in LIMITS.values()]})


def _limiter() -> Limiter | None:
    """The app's view of Redis, made when it is first asked for; None if there is no Redis."""
    url = surface().settings.redis_url
    if not url:
        return None
    found = current_app.extensions.get(_LIMITER)
    if not isinstance(found, Limiter):
        found = current_app.extensions.setdefault(_LIMITER, Limiter(url))
    assert isinstance(found, Limiter)
    return found


def _shown(found: Forecast) -> dict[str, Any]:
    limit, usage = found.limit, found.usage
    windowed = limit is not None and limit.max is not None
    return {
        "tenant_id": found.tenant_id,
        "key": found.key,
        "max": limit.max if limit is not None else None,
        "window_seconds": limit.window if limit is not None and windowed else None,
        "max_in_flight": limit.max_in_flight if limit is not None else None,
        "used": usage.used if usage is not None and windowed else None,
        "in_flight": usage.in_flight if usage is not None else None,
        "blocked_seconds": usage.blocked if usage is not None else None,
        "waiting": sum(found.waiting.values()),
        "waiting_by_lane": dict(found.waiting),
        "paused": found.paused,
        "drain_seconds": found.drain,
        "drains_at": found.drains_at,
        "will_miss": found.will_miss,
        "misses": [
            {
                "instance_id": each.instance_id, "node_key": each.node_key, "lane": each.lane,
                "misses": each.what, "ends_at": each.ends_at, "turn_at": each.turn_at,
            }
            for each in found.misses
        ],
    }  # fmt: skip


def _published(found: ProviderLimits) -> dict[str, Any]:
    limits = [
        {
            "key": each.key, "covers": each.covers, "each": each.each,
            "live": _allowed(each.live), "test": _allowed(each.test),
        }
        for each in found.limits
    ]  # fmt: skip
    return {**asdict(found), "limits": limits}


def _allowed(found: Allowed | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "max": found.max, "window_seconds": found.window, "max_in_flight": found.max_in_flight,
    }  # fmt: skip
