"""The routes of rate limits: how many calls may share a key."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, Response

from api import requests
from api.answers import answer, nothing
from api.auth import DEFAULT_TENANT, caller
from api.operations import operation
from api.schemas.handlers import LimitBody, LimitSchema, LimitsSchema
from api.surface import surface
from orch8.errors import NotFound
from orch8.limits import Limit
from orch8.runtime import registry
from orch8.runtime.office import read_limits
from orch8.storage import fleet
from orch8.storage.transaction import Tx

blueprint: Final = Blueprint("limits", __name__)

_LIMIT = LimitBody()


@blueprint.get("/rate-limits")
@operation("List every stated rate limit", answers={200: LimitsSchema})
def list_all() -> Response:
    """The operator's and those that sequences state; the effective one of each key is marked."""
    with surface().office.begin() as tx:
        return answer({"items": _stated(tx, caller().tenant)})


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
    Limit(key, body["max"], body["window_seconds"])  # refuses what the limiter could not keep
    tenant = caller().tenant or DEFAULT_TENANT
    with surface().office.begin() as tx:
        registry.put_limit(
            tx,
            key,
            tenant_id=tenant,
            maximum=body["max"],
            window=body["window_seconds"],
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


def _stated(tx: Tx, tenant: str | None) -> list[dict[str, Any]]:
    """Every stated limit, with whether it is the one that holds for its key."""
    rows = [row for row in fleet.rate_limits(tx) if tenant in (None, row.tenant_id)]
    holding = read_limits(tx).stated
    marked: set[tuple[str, str]] = set()
    shown = []
    # The operator's first: of two equal limits it is the one that holds.
    for row in sorted(rows, key=lambda row: row.source != fleet.OPERATOR):
        at, limit = (row.tenant_id, row.key), holding[row.tenant_id, row.key]
        effective = at not in marked and (row.max, row.window_seconds) == (limit.max, limit.window)
        if effective:
            marked.add(at)
        shown.append({**row._asdict(), "effective": effective})
    return sorted(shown, key=lambda each: (each["tenant_id"], each["key"], not each["effective"]))


def _effective(tx: Tx, key: str) -> dict[str, Any]:
    stated = _stated(tx, caller().tenant or DEFAULT_TENANT)
    found = next((each for each in stated if each["key"] == key and each["effective"]), None)
    if found is None:
        raise NotFound(f"rate limit {key!r}: nobody has stated one")
    return found
