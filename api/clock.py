"""The routes of the development clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from flask import Blueprint, Response

from api import requests
from api.answers import answer
from api.operations import operation
from api.schemas.handlers import ClockBody, ClockSchema
from api.schemas.instances import LANES
from api.surface import surface
from orch8.errors import Forbidden
from orch8.runtime.clock import move_clock
from orch8.storage import instances
from orch8.storage.rows import Moment

blueprint: Final = Blueprint("clock", __name__)

_CLOCK = ClockBody()


@blueprint.get("/clock")
@operation(
    "What time the engine thinks it is (development only)",
    answers={200: ClockSchema},
    errors=(403,),
)
def read() -> Response:
    """Real time, unless the clock was moved. Outside development there is no other."""
    if not surface().settings.dev:
        raise Forbidden("the clock is only there in development mode (ORCH8_DEV=1)")
    with surface().office.begin() as tx:
        return _shown(instances.now(tx))


@blueprint.post("/clock")
@operation(
    "Move the engine's clock forward (development only)",
    body=ClockBody,
    answers={200: ClockSchema},
    errors=(403,),
)
def move() -> Response:
    """Timers that are due by then fire now."""
    here = surface()
    body = requests.body(_CLOCK)
    with here.office.begin() as tx:
        moment = move_clock(
            here.office,
            tx,
            advance=timedelta(milliseconds=body["advance"].total_ms())
            if "advance" in body
            else None,
            at=body.get("at"),
            rate=body.get("rate"),
        )
    for lane in LANES:
        here.announce(lane)
    return _shown(moment)


def _shown(moment: Moment) -> Response:
    return answer({"now": moment.at, "rate": moment.rate, "real": datetime.now(UTC)})
