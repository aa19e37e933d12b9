"""The routes of fences: who may move money behind each, and who waits."""

from __future__ import annotations

from typing import Final

from flask import Blueprint, Response

from api import requests
from api.answers import answer
from api.attention import because
from api.auth import DEFAULT_TENANT, caller
from api.operations import operation
from api.schemas.attention import (
    MAX_PAGE,
    BecauseSchema,
    FencePageSchema,
    FenceSchema,
    FencesQuery,
)
from api.surface import surface
from orch8.runtime import attention
from orch8.storage import fences

blueprint: Final = Blueprint("fences", __name__)

DEFAULT_PAGE: Final = 100
_LIST = FencesQuery()


@blueprint.get("/fences")
@operation(
    "List the fences that are taken, by name", query=FencesQuery, answers={200: FencePageSchema}
)
def list_some() -> Response:
    """Who has each, since when, and how many wait behind it."""
    asked = requests.query(_LIST)
    limit = min(asked.get("limit", DEFAULT_PAGE), MAX_PAGE)
    with surface().office.begin() as tx:
        rows = fences.held(tx, caller().tenant, limit=limit + 1, after=asked.get("after", ""))
    shown = [row._asdict() for row in rows[:limit]]
    return answer({"items": shown, "has_more": len(rows) > limit})


@blueprint.get("/fences/<path:fence>")
@operation("Read who has a fence and who waits", answers={200: FenceSchema})
def read(fence: str) -> Response:
    """The holder is null when the fence is free."""
    with surface().office.begin() as tx:
        return answer(attention.fence_of(tx, caller().tenant or DEFAULT_TENANT, fence))


@blueprint.post("/fences/<path:fence>/override")
@operation(
    "Take a fence off its holder",
    body=BecauseSchema,
    answers={200: FenceSchema},
    errors=(404,),
    headers=("X-Actor",),
)
def override(fence: str) -> Response:
    """Who waits longest may move money now, though the holder's own call may still take effect."""
    actor = because()
    here = surface()
    with here.office.begin() as tx:
        before = attention.override_fence(tx, caller().tenant or DEFAULT_TENANT, fence, actor)
    return answer(before)
