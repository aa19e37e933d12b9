"""admission: steps that wait for a rate-limited key become due in their order, at the key's pace.

The pace is about max / (window + slack) units, and each step takes as long as it costs; so a step
is admitted when there are tokens for it: one write to defer it, one to admit it, whatever the
backlog, and no polling. Each lane has a line of its own and shares the pace as it shares a worker's
slots: what comes late to a high lane goes ahead of what was admitted before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from orch8.errors import Unavailable
from orch8.limits import Limit, Usage
from orch8.runtime import flights
from orch8.runtime.eyes import Eyes
from orch8.runtime.lanes import AGE, AGES, Asking, allot, reserve
from orch8.runtime.office import Office
from orch8.runtime.preparing import Limits
from orch8.storage import queues
from orch8.storage.queues import Key
from orch8.storage.transaction import Row, Tx

HORIZON = 2.0  # seconds of work that is admitted ahead
# A little more than there are tokens for, so that none is left over: whoever comes too early waits
# a moment at the gate of its pump.
AHEAD_OF_PACE = 1.05
PAGES = 4  # of keys in one look
FURTHEST = 60.0  # seconds: the horizon where so many keys have a queue that a round takes long
MAX_AHEAD = 2000
BLIND = Eyes()

Refused = tuple[Row | None, Limit | None]  # the first in line, and what refused it

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Line:
    """The steps of one lane that wait for a key: those admitted already and those to come.

    ``last`` is when the last admitted one is due, ``free_at`` when the first was told to come back.
    """

    lane: str
    waiting: Sequence[int]  # by age
    admitted: int = 0
    last: datetime | None = None
    free_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Slots:
    """So many steps of a line become due: the first at ``begin``, each a turn of ``gap`` seconds
    after the one before it, or as many turns as that one costs of what all cost on average:
    ``cost`` and at most ``most`` units, None where each step counts the same.
    """

    count: int
    begin: datetime
    gap: float = 0.0
    cost: float | None = None
    most: float = 1.0

    def moments(self, costs: Iterable[float | None]) -> Iterator[datetime]:
        """When steps that cost so much become due, in this order; None is the average."""
        turns = 0.0
        for cost in costs:
            yield self.begin + timedelta(seconds=self.gap * turns)
            turns += min(cost, self.most) / self.cost if cost and self.cost else 1.0


def admit_waiting(office: Office, eyes: Eyes = BLIND) -> frozenset[Key] | None:
    """The next PAGES pages of the keys that steps wait for (``Rounds``) have some seconds of them
    admitted; all such keys as far as they are known, None before they were looked at once. ``eyes``
    tell how fast calls of a key come to an end now; without them, who was refused tells it of then.

    Several processes may do this at once: one at a time looks after a key. A key that cannot be
    looked after is logged, and keeps nobody from the others.
    """
    for _ in range(PAGES):
        found: list[Key] = []
        try:
            with office.begin() as tx:
                found = office.rounds.next(tx)
                _admit(office, tx, found, eyes)
        except Unavailable:  # the next look begins behind this page
            raise
        except Exception:
            log.exception("admission.broke", keys=len(found))
            for at in found:
                with _apart(at), office.begin() as tx:
                    _admit(office, tx, [at], eyes)
        if office.rounds.over:
            break
    return office.rounds.known


@contextmanager
def _apart(at: Key) -> Iterator[None]:
    """What a key runs into is logged and keeps nobody from the others."""
    try:
        yield
    except Unavailable:
        raise
    except Exception:
        log.exception("admission.broke_alone", tenant=at[0], key=at[1])


def _admit(office: Office, tx: Tx, keys: Sequence[Key], eyes: Eyes) -> None:
    if not keys:
        return
    # Nobody looks after a key again before the round is over.
    horizon = min(max(HORIZON, 2 * office.rounds.took), FURTHEST)
    limits = office.limits(tx)
    lines: dict[Key, list[Row]] = {}
    for row in queues.lines(tx, queues.look_after(tx, keys), age=AGE, ages=AGES):
        lines.setdefault((row.tenant_id, row.limit_key), []).append(row)
    told: dict[Key, Refused] = {}
    for at, rows in lines.items():
        with _apart(at):
            told[at] = _refusal(rows)
    usages = _usages(eyes, limits, told)
    plans = {}
    for at, refused in told.items():
        with _apart(at):
            plan = _plan(limits.stated.get(at), refused, usages.get(at), lines[at], horizon)
            plans.update({(*at, lane): slots for lane, slots in plan.items()})
    found: list[list[Row]] = [[] for _ in plans]
    for row in queues.next_in_line(tx, {line: slots.count for line, slots in plans.items()}):
        found[row.n].append(row)
    due: list[tuple[Row, datetime]] = []
    for rows, slots in zip(found, plans.values(), strict=True):
        due += zip(rows, slots.moments(row.cost for row in rows), strict=True)
    queues.admit(tx, due)


def _usages(eyes: Eyes, limits: Limits, told: Mapping[Key, Refused]) -> dict[Key, Usage | None]:
    """How full the keys are whose first in line was refused for the calls in flight."""
    asked = {}
    for at, (_, refused) in told.items():
        if refused is not None and refused.max_in_flight is not None:
            bound = _bound(limits.stated.get(at), refused)
            asked[at] = Limit(at[1], None, max_in_flight=bound)
    found = eyes.usages([(at[0], limit) for at, limit in asked.items()])
    return dict(zip(asked, found, strict=True))


def _refusal(rows: Sequence[Row]) -> Refused:
    """The first in line, and what refused it."""
    first = next((row for row in rows if row.deferred_under), None)
    return first, None if first is None else Limit.of_json(first.deferred_under)


def _plan(
    stated: Limit | None,
    told: Refused,
    usage: Usage | None,
    rows: Sequence[Row],
    horizon: float,
) -> dict[str, Slots]:
    first, refused = told
    limit = in_force(stated, refused, since(first), usage)
    unchanged = limit is None or (refused is not None and limit.pace == refused.pace)
    lines = [
        Line(row.lane, row.waiting, row.admitted, row.last, row.free_at if unchanged else None)
        for row in rows
    ]
    costs = [row.cost for row in rows if row.cost]
    cost = sum(costs) / len(costs) if costs else None
    return plan_slots(limit, lines, rows[0].now, horizon, cost)


def since(row: Row | None) -> float:
    """Seconds since the step was told to come back whose refusal a row of the storage tells."""
    if row is None or row.free_at is None:
        return 0.0
    return max(float((row.now - row.free_at).total_seconds()), 0.0)


def in_force(
    stated: Limit | None,
    refused: Limit | None,
    since: float = 0.0,
    usage: Usage | None = None,
) -> Limit | None:
    """The limit whose pace a queue is admitted at: the stated one, or what refused the first in
    line ``since`` seconds ago if nobody states one; if it was refused by the calls in flight, whose
    number and duration are a pace, the slower of both: then it has ``max_in_flight``. ``usage``
    tells those as they are now.
    """
    room = None
    if refused is not None and refused.max_in_flight is not None:
        room = refused = _room(refused, _bound(stated, refused), since, usage)
    if stated is None or stated.max is None:
        return refused
    window = replace(stated, max_in_flight=None, weight=refused.weight if refused else 1)
    return room if room is not None and turn(room) > turn(window) else window


def _bound(stated: Limit | None, refused: Limit) -> int:
    bound = (stated.max_in_flight if stated is not None else None) or refused.max_in_flight
    assert bound is not None
    return bound


def _room(refused: Limit, bound: int, since: float, usage: Usage | None) -> Limit:
    """The calls in flight as a pace by now. Where nobody can be asked, what was cut wins one back
    in the time of each call, as ended.lua has it, and what was not is the bound.
    """
    if usage is not None and usage.turning is not None and usage.took is not None:
        return flights.pace(refused.key, usage.turning, usage.took, bound, refused.weight)
    assert refused.max is not None
    assert refused.max_in_flight is not None
    room = refused.max // refused.weight
    cut = room < refused.max_in_flight
    now = min(room + int(since / refused.window), bound) if cut else bound
    return replace(refused, max=now * refused.weight, max_in_flight=bound)


def cost_under(limit: Limit, cost: float | None) -> float | None:
    """The units of a window that steps use which ``cost`` so much on average, if that is known; who
    costs more than all is parked once it is admitted. None for calls in flight: each is one.
    """
    if limit.max_in_flight is not None:
        return None
    return min(cost or limit.weight, limit.max or 1)


def turn(limit: Limit, cost: float | None = None) -> float:
    """The seconds after which the next step may go, if steps ``cost`` so much on average."""
    return (cost_under(limit, cost) or limit.weight) / limit.pace


def plan_slots(
    limit: Limit | None,
    lines: Sequence[Line],
    now: datetime,
    horizon: float = HORIZON,
    cost: float | None = None,
) -> dict[str, Slots]:
    """When the next steps of each line become due: evenly, all lines together at the key's pace if
    they ``cost`` so much on average, each line behind those admitted already, up to the horizon
    (seconds). Without a limit all at once.

    A line that is told to come back after the horizon is left alone: whoever is admitted now would
    be refused. A lane without its reserve of the horizon gets it, whatever others have by now.
    """
    if limit is None:
        return {line.lane: Slots(min(sum(line.waiting), MAX_AHEAD), now) for line in lines}
    ahead = now + timedelta(seconds=horizon)
    pace = AHEAD_OF_PACE / turn(limit, cost)
    width = min(max(int(pace * horizon), 1), MAX_AHEAD)
    asking = [
        Asking(line.lane, line.waiting, line.admitted)
        for line in lines
        if line.free_at is None or line.free_at <= ahead
    ]
    free = max(width - sum(line.admitted for line in lines), 0)
    given = allot(free, width, asking, advance=True)
    everybody = sum(line.admitted + given[line.lane] for line in lines)
    mean, plan = cost_under(limit, cost), {}
    for line in lines:
        if not given[line.lane]:
            continue
        own = max(line.admitted + given[line.lane], reserve(line.lane, width))
        gap = max(everybody / own, 1.0) / pace
        begin = max(now, line.free_at or now)
        if line.last is not None and line.last >= now:
            begin = max(begin, line.last + timedelta(seconds=gap))
        plan[line.lane] = Slots(given[line.lane], begin, gap, mean, limit.max or 1)
    return plan
