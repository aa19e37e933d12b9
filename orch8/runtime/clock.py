"""clock: in development the engine's business time can be moved and sped up; production refuses."""

from __future__ import annotations

from datetime import datetime, timedelta

from orch8.errors import Forbidden, InvalidArgument
from orch8.runtime.office import Office
from orch8.storage import clock, instances
from orch8.storage.rows import Moment
from orch8.storage.transaction import Tx

MAX_RATE = 10_000_000.0


def move_clock(
    office: Office,
    tx: Tx,
    *,
    advance: timedelta | None = None,
    at: datetime | None = None,
    rate: float | None = None,
) -> Moment:
    """Business time is later by ``advance``, or is ``at``, and from now on runs ``rate`` times as
    fast as real time. It never goes back: timers that fired cannot be taken back.
    """
    if not office.settings.dev:
        raise Forbidden("the clock can only be moved in development mode (ORCH8_DEV=1)")
    now = instances.now(tx)
    target = at or now.at + (advance or timedelta())
    if target < now.at:
        raise InvalidArgument(f"the clock cannot go back: it is {now.at.isoformat()}")
    if rate is not None and not 0 < rate <= MAX_RATE:
        raise InvalidArgument(f"rate must be above 0 and at most {MAX_RATE:.0f}, not {rate}")
    clock.set_clock(tx, target, rate or now.rate)
    return Moment(target, rate or now.rate)
