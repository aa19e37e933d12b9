"""The routes of schedules, which start instances by the clock."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, Response

from api import requests
from api.answers import answer, nothing
from api.auth import caller
from api.operations import Many, operation
from api.schemas.cron import (
    CronBody,
    CronChangeBody,
    CronQuery,
    CronSchema,
    FiresQuery,
    FiresSchema,
)
from api.schemas.keys import BecauseQuery
from api.surface import surface
from orch8.runtime import schedules
from orch8.runtime.schedules import Overlap, ScheduleRequest
from orch8.storage import schedules as stored

blueprint: Final = Blueprint("cron", __name__)

DEFAULT_PAGE: Final = 100
MAX_PAGE: Final = 1000
DEFAULT_FIRES: Final = 5
_CREATE, _CHANGE, _LIST = CronBody(), CronChangeBody(), CronQuery()
_FIRES, _BECAUSE = FiresQuery(), BecauseQuery()


@blueprint.post("/cron")
@operation(
    "Start instances of a sequence by the clock",
    body=CronBody,
    answers={201: CronSchema},
    errors=(403, 404),
    headers=("X-Actor",),
)
def create() -> Response:
    """Each time of the expression starts one instance; next_fire_at says when that is next."""
    body = requests.body(_CREATE)
    because = requests.because(body.pop("reason", None))
    tenant = caller().tenant_or_default(body["tenant_id"])
    asked = ScheduleRequest(**{**_read(body), "tenant_id": tenant})
    office = surface().office
    with office.begin() as tx:
        row = schedules.create(office, tx, asked, because)
    return answer(row._asdict(), 201, {"Location": f"/cron/{row.id}"})


@blueprint.get("/cron")
@operation("List schedules, the oldest first", query=CronQuery, answers={200: Many(CronSchema)})
def list_all() -> Response:
    """Those that are not enabled, too."""
    asked = requests.query(_LIST)
    tenant = caller().tenant_of_list(asked.get("tenant_id"))
    with surface().office.begin() as tx:
        limit = min(asked.get("limit", DEFAULT_PAGE), MAX_PAGE)
        rows = stored.list_schedules(tx, tenant, limit)
    return answer([row._asdict() for row in rows])


@blueprint.get("/cron/<schedule_id>")
@operation("Read a schedule", answers={200: CronSchema}, errors=(404,))
def read(schedule_id: str) -> Response:
    """The schedule, and when it has fired."""
    wanted = requests.path_id(schedule_id)
    with surface().office.begin() as tx:
        row = schedules.found(tx, wanted, caller().tenant)
    return answer(row._asdict())


@blueprint.put("/cron/<schedule_id>")
@operation(
    "Change a schedule",
    body=CronChangeBody,
    answers={200: CronSchema},
    errors=(404,),
    headers=("X-Actor",),
)
def change(schedule_id: str) -> Response:
    """What is left out stays; next_fire_at is computed anew."""
    wanted = requests.path_id(schedule_id)
    body = requests.body(_CHANGE)
    because = requests.because(body.pop("reason", None))
    with surface().office.begin() as tx:
        row = schedules.change(tx, wanted, _read(body), because, tenant_id=caller().tenant)
    return answer(row._asdict())


@blueprint.delete("/cron/<schedule_id>")
@operation(
    "Delete a schedule",
    query=BecauseQuery,
    answers={204: None},
    errors=(404,),
    headers=("X-Actor",),
)
def delete(schedule_id: str) -> Response:
    """It starts nothing any more; what it has started goes on."""
    wanted = requests.path_id(schedule_id)
    because = requests.because(requests.query(_BECAUSE).get("reason"))
    with surface().office.begin() as tx:
        schedules.delete(tx, wanted, because, tenant_id=caller().tenant)
    return nothing()


@blueprint.get("/cron/<schedule_id>/next-fires")
@operation(
    "Tell the next times of a schedule",
    query=FiresQuery,
    answers={200: FiresSchema},
    errors=(404,),
)
def next_fires(schedule_id: str) -> Response:
    """From now on, whether it is enabled or not."""
    wanted = requests.path_id(schedule_id)
    count = requests.query(_FIRES).get("n", DEFAULT_FIRES)
    with surface().office.begin() as tx:
        zone, fires = schedules.next_fires(tx, wanted, count, tenant_id=caller().tenant)
    return answer({"timezone": zone, "fires": fires})


def _read(body: dict[str, Any]) -> dict[str, Any]:
    if "overlap_policy" not in body:
        return body
    return {**body, "overlap_policy": Overlap(body["overlap_policy"])}
