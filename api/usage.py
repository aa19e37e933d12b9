"""GET /usage: what language models used, which here is nothing, since no step calls one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from flask import Blueprint, Response

from api import requests
from api.answers import answer
from api.auth import caller
from api.operations import operation
from api.schemas.usage import UsageQuery, UsageSchema
from orch8.errors import InvalidArgument

blueprint: Final = Blueprint("usage", __name__)

_QUERY = UsageQuery()
DAYS: Final = timedelta(days=30)
_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)  # nothing was used before
_NOTE: Final = "No step calls a language model here, so there are no tokens and costs to count."
_COUNTED: Final = ("input_tokens", "output_tokens", "total_tokens", "cost_microunits")


@blueprint.get("/usage")
@operation("Tell what language models used", query=UsageQuery, answers={200: UsageSchema})
def usage() -> Response:
    """Nothing, with the period that was asked for; how many instances there were is in /metrics."""
    asked = requests.query(_QUERY)
    tenant = caller().tenant_of_list(asked.get("tenant") or asked.get("tenant_id"))
    end = asked.get("end") or datetime.now(UTC)
    start = asked.get("start") or max(end, _FIRST) - DAYS
    if start > end:
        raise InvalidArgument("start must not be after end")
    return answer(
        {
            "tenant_id": tenant, "start": start, "end": end, "items": [], "note": _NOTE,
            **dict.fromkeys(_COUNTED, 0),
        }
    )  # fmt: skip
