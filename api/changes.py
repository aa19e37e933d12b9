"""The routes of what is new: a tenant's feed of changes, page by page or as it comes, and an
instance as it goes on.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import orjson
from flask import Blueprint, Response

from api import requests, shapes, streams
from api.answers import answer, utc
from api.auth import caller
from api.operations import operation
from api.schemas.changes import ChangePageSchema, ChangesQuery, ChangeStreamQuery, FollowQuery
from api.streams import Event, Look
from api.surface import surface
from orch8.errors import InvalidArgument
from orch8.runtime import inspect
from orch8.runtime.following import Following
from orch8.storage import feed
from orch8.storage.feed import Position
from orch8.storage.transaction import Row

blueprint: Final = Blueprint("changes", __name__)

_CHANGES, _CHANGE_STREAM, _FOLLOW = ChangesQuery(), ChangeStreamQuery(), FollowQuery()
DEFAULT_PAGE: Final = 100
LARGEST_PAGE: Final = 500
POLL: Final = 0.5  # seconds
POLL_MS: Final = (100, 5000)
MAX_CURSOR: Final = 500


@blueprint.get("/changes")
@operation(
    "List what happened to a tenant's instances, the oldest first",
    query=ChangesQuery,
    answers={200: ChangePageSchema},
)
def changes() -> Response:
    """Follow next_cursor, and keep the last one: asked with it later, the feed goes on where it
    was. A page never changes, and nothing is inserted before it.
    """
    asked = requests.query(_CHANGES)
    tenant = caller().tenant_of_many(asked.get("tenant_id"))
    after = _position(asked.get("cursor"))
    limit = _within(asked.get("limit", DEFAULT_PAGE), 1, LARGEST_PAGE)
    with surface().office.begin() as tx:
        rows = feed.next_changes(tx, tenant, after, limit + 1)
    page = rows[:limit]
    shown: dict[str, Any] = {"changes": [change(r) for r in page], "has_more": len(rows) > limit}
    if page:
        shown["next_cursor"] = cursor(page[-1])
    return answer(shown)


@blueprint.get("/changes/stream")
@operation(
    "Follow what happens to a tenant's instances, as server-sent events",
    query=ChangeStreamQuery,
    answers={200: streams.MEDIA_TYPE},
)
def follow_changes() -> Response:
    """An event `change` for each entry; its id is the cursor behind it, which a browser sends as
    Last-Event-ID when it connects again. Without either it starts at the beginning.
    """
    asked = requests.query(_CHANGE_STREAM)
    tenant = caller().tenant_of_many(asked.get("tenant_id"))
    after = _position(asked.get("cursor") or requests.header("Last-Event-ID"))
    database = surface().office.database

    def look() -> Look:
        nonlocal after
        with database.begin() as tx:
            rows = feed.next_changes(tx, tenant, after, DEFAULT_PAGE)
        if rows:
            after = Position(rows[-1].at, rows[-1].id)
        events = [Event("change", change(row), cursor(row)) for row in rows]
        return Look(events, more=len(rows) == DEFAULT_PAGE)

    return streams.stream(look, POLL)


@blueprint.get("/instances/<instance_id>/stream")
@operation(
    "Follow an instance to its end, as server-sent events",
    query=FollowQuery,
    answers={200: streams.MEDIA_TYPE},
    errors=(404,),
)
def follow(instance_id: str) -> Response:
    """Events: `state` when it changes, `output` for each step that ended, `done` at the end, after
    which the stream closes; `error` when it cannot go on.
    """
    wanted = requests.path_id(instance_id)
    poll = _within(requests.query(_FOLLOW).get("poll_ms", 500), *POLL_MS) / 1000
    office = surface().office
    database = office.database
    with database.begin() as tx:
        inspect.shown(tx, wanted, tenant_id=caller().tenant)
    following = Following(office.library, wanted)

    def look() -> Look:
        with database.begin() as tx:
            seen = following.look(tx)
        events = [Event("output", shapes.output(wanted, row)) for row in seen.outputs]
        if seen.state is not None:
            events.insert(0, Event("state", {"instance_id": wanted, "state": seen.state}))
        if seen.ended:
            events.append(Event("done", {"state": seen.now}))
        return Look(events, ends=seen.ended)

    return streams.stream(look, poll, first_wait=poll)


def change(row: Row) -> dict[str, Any]:
    """An entry of the audit log as the feed shows it."""
    shown: dict[str, Any] = row._asdict()
    shown |= {"details": shown.pop("body"), "created_at": row.at, **shapes.event_of(row)}
    return shown


def cursor(row: Row) -> str:
    """The place behind the entry: base64url without padding, so that it may stand anywhere."""
    place = orjson.dumps({"created_at": utc(row.at), "id": str(row.id)})
    return base64.urlsafe_b64encode(place).rstrip(b"=").decode()


def _position(text: str | None) -> Position | None:
    if not text:
        return None
    malformed = InvalidArgument("malformed change cursor: use next_cursor as it was sent")
    if len(text) > MAX_CURSOR:
        raise malformed
    try:
        given = orjson.loads(base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True))
        at = datetime.fromisoformat(given["created_at"])
        at = (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
        return Position(at, UUID(given["id"]))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        raise malformed from None


def _within(number: int, least: int, most: int) -> int:
    return min(max(number, least), most)
