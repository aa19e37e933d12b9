"""The routes of rate limits: how many calls may share a key."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, Response

from api import requests
from api.answers import answer, nothing
from api.auth import DEFAULT_TENANT, caller
from api.operations import operation
from api.schemas.limits import LimitBody, LimitSchema, LimitsQuery, LimitsSchema
from api.surface import surface
from orch8.errors import NotFound, Problem, Unprocessable
from orch8.runtime import registry
from orch8.runtime.office import read_limits
from orch8.storage import fleet, rate_limits
from orch8.storage.transaction import Tx

blueprint: Final = Blueprint("limits", __name__)

_LIMIT = LimitBody()
_LIST = LimitsQuery()
UNLIMITED: Final = "unlimited"
# What an unlimited key shows in place of a limit.
_NONE: Final = {
    "source": None, "max": None, "window_seconds": None, "max_in_flight": None,
    "slack_seconds": None, "effective": False,
}  # fmt: skip


@blueprint.get("/rate-limits")
@operation(
    "List every stated rate limit, or the keys that have none",
    query=LimitsQuery,
    answers={200: LimitsSchema},
)
def list_all() -> Response:
    """The operator's and those that sequences state, the effective one of each key marked; with
    ``state=unlimited`` the keys that steps were called with while nobody stated a limit.
    """
    asked = requests.query(_LIST)
    tenant = caller().tenant
    with surface().office.begin() as tx:
        if asked.get("state") == UNLIMITED:
            rows = fleet.unlimited(tx, tenant)
            items = [{**row._asdict(), **_NONE} for row in rows]
            return answer({"items": items, "left_out": 0})
        items, left_out = _stated(tx, tenant)
        return answer({"items": items, "left_out": left_out})


@blueprint.get("/rate-limits/<path:key>")
@operation("Read the rate limit that holds for a key", answers={200: LimitSchema}, errors=(404,))
def read(key: str) -> Response:
    """The operator's, else the smallest that a sequence states."""
    with surface().office.begin() as tx:
        return answer(_effective(tx, key))


@blueprint.put("/rate-limits/<path:key>")
@operation(
    "Set the rate limit of a key", body=LimitBody, answers={200: LimitSchema}, headers=("X-Actor",)
)
def put(key: str) -> Response:
    """It wins over what sequences state, within a second in every process."""
    body = requests.body(_LIMIT)
    _check(body)
    tenant = caller().tenant or DEFAULT_TENANT
    with surface().office.begin() as tx:
        registry.put_limit(
            tx,
            key,
            tenant_id=tenant,
            maximum=body.get("max"),
            window=body.get("window_seconds"),
            slack=body.get("slack_seconds"),
            max_in_flight=body.get("max_in_flight"),
            actor=requests.actor(),
        )
        return answer(_effective(tx, key))


@blueprint.delete("/rate-limits/<path:key>")
@operation(
    "Take the rate limit of a key back", answers={204: None}, errors=(404,), headers=("X-Actor",)
)
def delete(key: str) -> Response:
    """What sequences state holds again."""
    with surface().office.begin() as tx:
        registry.delete_limit(
            tx, key, tenant_id=caller().tenant or DEFAULT_TENANT, actor=requests.actor()
        )
    return nothing()


def _check(body: dict[str, Any]) -> None:
    """Raises Unprocessable for a window that lacks a part."""
    if ("max" in body) != ("window_seconds" in body):
        missing = "window_seconds" if "max" in body else "max"
        hint = 'such as "max": 95, "window_seconds": 1'
        raise Unprocessable(
            f"{missing} is missing: a window needs both max and window_seconds",
            errors=[Problem(f"/{missing}", "is missing", hint, "missing", shape=True)],
        )
    if "slack_seconds" in body and "max" not in body:
        hint = "give max and window_seconds, too, or leave it out"
        raise Unprocessable(
            "slack_seconds belongs to a window, and none is given",
            errors=[Problem("/slack_seconds", "has no window", hint, shape=True)],
        )


def _stated(tx: Tx, tenant: str | None, key: str | None = None) -> tuple[list[dict[str, Any]], int]:
    """Every stated limit, with whether its window, or what it says of calls in flight, holds; and
    how many more there are.
    """
    rows = rate_limits.stated(tx, tenant, key)
    holding = read_limits(tx, tenant, key).stated
    marked: set[tuple[str, str, str]] = set()
    shown = []
    # The operator's first: of two equal limits it is the one that holds.
    for row in sorted(rows, key=lambda row: row.source != rate_limits.OPERATOR):
        limit = holding[row.tenant_id, row.key]
        window = row.max is not None and (row.max, row.window_seconds) == (limit.max, limit.window)
        in_flight = row.max_in_flight is not None and row.max_in_flight == limit.max_in_flight
        parts = {
            (row.tenant_id, row.key, part)
            for part, holds in (("window", window), ("in flight", in_flight))
            if holds
        }
        told = {name: value for name, value in row._asdict().items() if name != "total"}
        shown.append({**told, "effective": bool(parts - marked)})
        marked |= parts
    shown.sort(key=lambda each: (each["tenant_id"], each["key"], not each["effective"]))
    return shown, rows[0].total - len(rows) if rows else 0


def _effective(tx: Tx, key: str) -> dict[str, Any]:
    tenant = caller().tenant or DEFAULT_TENANT
    items, _ = _stated(tx, tenant, key)
    found = next((each for each in items if each["effective"]), None)
    if found is None:
        raise NotFound(f"rate limit {key!r}: nobody has stated one")
    limit = read_limits(tx, tenant, key).stated[tenant, key]
    windowed = limit.max is not None
    return {
        **found, "max": limit.max, "window_seconds": limit.window if windowed else None,
        "slack_seconds": limit.slack, "max_in_flight": limit.max_in_flight,
    }  # fmt: skip
