"""admission: steps that wait for a rate-limited key become due in their order, at the key's pace.

The pace is about max / (window + slack), so that a step is admitted when a token is free for it:
one write to defer it, one to admit it, whatever the backlog, and no polling.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from orch8.limits import Limit
from orch8.runtime.office import Office
from orch8.storage import steps
from orch8.storage.transaction import Tx

HORIZON = 2.0  # seconds of work that is admitted ahead
# A little more than there are tokens for, so that none is left over: whoever comes too early waits
# a moment at the gate of its pump.
AHEAD_OF_PACE = 1.05
MAX_KEYS = 200
MAX_AHEAD = 2000


def admit_waiting(office: Office, tx: Tx) -> bool:
    """Every key that steps wait for has HORIZON seconds of them admitted; whether any wait on.

    Several processes may do this at once: one at a time looks after a key.
    """
    limits = office.limits(tx)
    found = steps.queues(tx, MAX_KEYS)
    for queue in found:
        if not steps.look_after(tx, queue.tenant_id, queue.limit_key):
            continue
        state = steps.queue_state(tx, queue.tenant_id, queue.limit_key)
        refused = Limit(*state.deferred_under) if state.deferred_under else None
        stated = limits.stated.get((queue.tenant_id, queue.limit_key))
        if stated is None or stated.max is None or _in_flight(refused):
            stated = refused
        unchanged = stated is None or (refused is not None and stated.pace == refused.pace)
        ahead = state.now + timedelta(seconds=HORIZON)
        if unchanged and state.free_at is not None and state.free_at > ahead:
            continue  # the limit is spent for longer: whoever is admitted now would come back
        plan = slots(stated, state.admitted, state.last, state.now)
        if plan:
            steps.admit(tx, queue.tenant_id, queue.limit_key, plan)
    return bool(found)


def slots(
    limit: Limit | None, admitted: int, last: datetime | None, now: datetime
) -> list[datetime]:
    """When the next steps in line become due: evenly at the key's pace, after those admitted
    already, up to the horizon; at least one if none is admitted. Without a limit all at once.
    """
    if limit is None:
        return [now] * MAX_AHEAD
    pace = AHEAD_OF_PACE * limit.pace
    wanted = min(max(int(pace * HORIZON), 1), MAX_AHEAD) - admitted
    begin = now if last is None or last < now else last + timedelta(seconds=1 / pace)
    return [begin + timedelta(seconds=n / pace) for n in range(wanted)]


def _in_flight(refused: Limit | None) -> bool:
    """Whether the calls in flight refused, so that their number and duration are the pace."""
    return refused is not None and refused.max_in_flight is not None
